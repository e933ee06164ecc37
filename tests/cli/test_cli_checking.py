"""``check``: what it prints, and what it exits with."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from cli_support import CHECKED, FOUND, WARNED, FakeDaemon, run
from rich.console import Console

from streamhop.cli.checking import check_lines


def test_what_refuses_comes_first_each_with_why_fix_and_where_to_read(daemon: FakeDaemon, tmp_path: Path) -> None:
    result = run(tmp_path, "check", "web", "edge-b:web2")
    assert result.exit_code == 12
    assert daemon.bodies == [{"container": "web", "peer": "edge-b", "new_name": "web2"}]
    assert result.stdout.splitlines() == [
        "web from edge-a to edge-b",
        "",
        "refuses  workload.io-uring, source edge-a",
        "  an io_uring, in process 7 (no\N{REPLACEMENT CHARACTER}[31mde): descriptor 9",
        "  why   requests under way are in the kernel's rings",
        "  fix   switch it off",
        "  read  https://github.com/checkpoint-restore/criu/issues/2131",
        "",
        "warns  kernel.older, target edge-b",
        "  an older kernel",
        "  why   requests under way are in the kernel's rings",
        "  fix   switch it off",
        "",
        "It cannot be moved like this: 1 refuses, 1 warns.",
    ]


def test_nothing_but_warnings_is_0(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.checked = CHECKED | {"exit_code": 0, "findings": [WARNED, WARNED]}
    result = run(tmp_path, "check", "web", "edge-b")
    assert result.exit_code == 0
    verdict = result.stdout.splitlines()[-1]
    assert verdict == "It can be moved: 0 refuse, 2 warn. 5.0 MB of memory and 2.0 MB of its image would be sent."


def test_json_is_what_the_daemon_says(daemon: FakeDaemon, tmp_path: Path) -> None:
    result = run(tmp_path, "check", "web", "edge-b", "--format", "json")
    assert json.loads(result.stdout) == CHECKED
    assert result.exit_code == 12


def test_a_peer_that_was_not_heard_is_told_with_what_was_found_here(daemon: FakeDaemon, tmp_path: Path) -> None:
    failure = {"reason": "nobody answers", "fix": "check the link", "code": "unreachable", "exit_code": 10}
    daemon.checked = CHECKED | {"exit_code": 10, "findings": [], "target_failure": failure}
    result = run(tmp_path, "check", "web", "edge-b")
    assert result.exit_code == 10
    assert "Nothing here is in the way" in result.stdout
    assert "It can be moved" not in result.stdout
    assert "edge-b has not said whether it could come: nobody answers" in result.stderr
    assert "check the link" in result.stderr


def test_a_peer_that_was_not_asked_is_told_to_be_so(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.checked = CHECKED | {"findings": [FOUND], "target_asked": False}
    assert "edge-b was not asked" in run(tmp_path, "check", "web", "edge-b").stdout


def test_wrong_usage_and_no_daemon(tmp_path: Path) -> None:
    assert run(tmp_path, "check", "web").exit_code == 2
    assert run(tmp_path, "check", "web", "edge-b:").exit_code == 2
    assert run(tmp_path, "check", "web", "edge-b").exit_code == 1


def test_on_a_terminal_long_sentences_are_wrapped_below_themselves_and_colours_are_ours() -> None:
    out = io.StringIO()
    console = Console(file=out, width=40, force_terminal=True, color_system="standard", highlight=False)
    for line in check_lines(CHECKED):
        console.print(line)
    assert "\x1b[1;31mrefuses" in out.getvalue()
    assert "\x1b[31mde" not in out.getvalue()
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()]
    assert all(len(line) <= 40 for line in lines)
    start = lines.index("  why   requests under way are in the")
    assert lines[start + 1] == "        kernel's rings"
