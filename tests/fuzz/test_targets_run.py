"""P10: each target under the coverage-guided fuzzer, for as long as a test may take. ``make fuzz`` goes on longer."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from fuzz.run import run_all
from fuzz.target import NAMES

SECONDS = 1


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="no atheris for this Python: see pyproject.toml"
)
def test_no_target_has_a_finding_within_seconds(tmp_path: Path) -> None:
    """P10: all targets start, execute inputs, and find nothing."""
    outcomes = list(run_all(NAMES, SECONDS, os.cpu_count() or 1, tmp_path))
    assert {outcome.name: outcome.log[-3000:] for outcome in outcomes if outcome.failed} == {}
    assert [outcome.name for outcome in outcomes if not outcome.executions] == []
