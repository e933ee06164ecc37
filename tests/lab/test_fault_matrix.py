"""A sample of the failure matrix, each run on real hosts; ``make lab-faults`` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.campaign import Campaign
from faults.cells import choose_cells
from hoplab import Prepared

pytestmark = [pytest.mark.lab, pytest.mark.root]

SAMPLE = (
    "source-daemon:2,source-daemon:3,target-daemon:3,target-daemon:4,source-dockerd:1,target-dockerd:3,"
    "source-host:3,target-host:2,link-both:3,link-there:4,link-back:5,target-disk:1"
)


def test_a_sample_of_the_failure_matrix(lab_prepared: Prepared, tmp_path: Path) -> None:
    """P1, P3, P14, P16: one copy at most, the exit code tells the truth, nothing is left behind."""
    campaign = Campaign(choose_cells(SAMPLE), repeat=1, seed=1, result=tmp_path / "faults.json")
    campaign.run(jobs=2)
    assert [(row.cell, row.seed, row.broken, row.residue) for row in campaign.rows if not row.holds] == []
    assert campaign.missed() == []
