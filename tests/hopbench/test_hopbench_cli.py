"""The command: what it refuses before it makes a lab, and the report it makes without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hopbench_support import row

from hopbench.cli import brief, main
from hopbench.figures import encode_rows
from hopbench.scenarios import SCENARIOS, Link


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "visoin"], "no scenario 'visoin'"),
        (["run", "busybox", "--peers", "kubernetes"], "no peer 'kubernetes'"),
        (["run", "postgres", "--quick"], "none of these is part of --quick"),
        (["run", "busybox", "--repeat", "0"], "--repeat"),
    ],
)
def test_nonsense_is_refused_at_once(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert told in done.output


def test_every_scenario_is_listed() -> None:
    lines = CliRunner().invoke(main, ["list"]).output.splitlines()
    assert [line.partition(":")[0] for line in lines] == [scenario.name for scenario in SCENARIOS]


def test_the_report_is_made_anew_from_the_rows(tmp_path: Path) -> None:
    rows = [row("busybox", Link(5, 50), gap_s=0.5, request_s=0.0), row("busybox", Link(20, 50), failed="it broke")]
    (tmp_path / "bench-rows.json").write_text(encode_rows(rows, {"cores": "2"}))
    done = CliRunner().invoke(main, ["report", "--build", str(tmp_path)])
    assert done.exit_code == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [(each["id"], each["holds"]) for each in found] == [("1-busybox-5mbit", True), ("1-busybox-20mbit", False)]
    assert "it broke" in (tmp_path / "bench.md").read_text()
    assert "it broke" in (tmp_path / "bench.html").read_text()


@pytest.mark.parametrize("text", [None, "nonsense"])
def test_without_rows_there_is_no_report(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "bench-rows.json").write_text(text)
    done = CliRunner().invoke(main, ["report", "--build", str(tmp_path)])
    assert done.exit_code == 1
    assert "hopbench run" in done.output
    assert not (tmp_path / "bench.json").exists()


def test_a_row_is_told_in_a_line() -> None:
    assert (
        brief(row(gap_s=1.0, total_s=2.0, wire_bytes=3_000_000, lost=4)) == "gap 1.000 s, total 2.0 s, 3.0 MB, 4 lost"
    )
    assert brief(row(failed="a\nb")) == "failed: a b"
    assert brief(row("wire", who="nc", bytes_per_s=2e9)) == "nc 2000 MB/s"
