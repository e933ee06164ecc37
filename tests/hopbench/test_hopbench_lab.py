"""One small move on real hosts, from the container's start to the report."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hopbench.cli import carry_out, write_results
from hopbench.figures import decode_rows
from hopbench.scenarios import BY_NAME, STREAMHOP, UNSHAPED, Run
from hoplab import Prepared, residue

pytestmark = [pytest.mark.lab, pytest.mark.root]

MB = 1_000_000


def test_a_small_move_is_measured_judged_and_reported(lab_prepared: Prepared, tmp_path: Path) -> None:
    scenario = replace(BY_NAME["idle-64m"], floor=True)
    name = f"hb-test-{os.getpid()}"
    rows, machine = carry_out([Run(scenario, UNSHAPED, STREAMHOP)], name, tmp_path)
    assert residue(name) == []
    (row,) = rows
    assert row.failed is None
    assert row.remarks == []
    assert row.lost == 0
    assert row.gap_s is not None
    assert row.request_s is not None
    assert row.downtime_s is not None
    # The client sees the freeze from outside: never less than the daemons' own downtime, but for how they round.
    assert row.request_s < row.downtime_s - 0.02 < row.gap_s < (row.total_s or 0.0)
    # 64 MiB that cannot be compressed crossed once, and the link's own counters say so.
    assert row.wire_bytes is not None
    assert 64 * MB < row.wire_bytes < 120 * MB
    assert 60 * MB < row.bytes_by_kind["memory_precopy"] < row.wire_bytes
    # Of those next to nothing changed; the interpreter's own pages did.
    assert row.floor is not None
    assert 10 <= row.floor.changed_pages < 3000
    assert 0 < row.floor.zstd_bytes < row.floor.changed_pages * 4096
    # Less than the floor where differences cross instead of pages.
    assert row.floor.zstd_bytes > 0
    assert 0 < row.bytes_by_kind["memory_final"] < 20 * MB
    assert 0 < (row.cpu_s or 0.0) < 60
    for peak in (row.source_peak_bytes, row.target_peak_bytes):
        assert peak is not None
        assert 20 * MB < peak < 400 * MB
    assert {"pre-copy", "freeze", "dump"} <= {phase["phase"] for phase in row.timeline}

    verdicts = write_results(rows, machine, tmp_path)
    assert decode_rows((tmp_path / "bench-rows.json").read_text()) == (rows, machine)
    written = json.loads((tmp_path / "bench.json").read_text())
    assert {each["id"] for each in written} == {verdict.id for verdict in verdicts}
    assert {"5-idle-64m", "4-final-bytes-idle-64m-unshaped", "7-prediction-within-25-percent"} <= {
        each["id"] for each in written
    }
    assert "idle-64m" in (tmp_path / "bench.md").read_text()
    assert "one move: idle-64m at unshaped" in (tmp_path / "bench.html").read_text()
