"""P18: every exit code of the README's table, each by the way that leads to it, and no other."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from cli_support import REPORT, FakeDaemon, run

from streamhop.handover import errors
from streamhop.handover.errors import MoveError
from streamhop.handover.operations import UNHEALTHY_EXIT_CODE

README = Path(__file__).parents[2] / "README.md"


def subclasses(of: type[MoveError]) -> list[type[MoveError]]:
    return [of, *(deeper for found in of.__subclasses__() for deeper in subclasses(found))]


FAILURES = [found for found in subclasses(MoveError) if found.__module__ == errors.__name__]

EXIT_CODES = {
    "failed": 1,
    "unreachable": 10,
    "not_paired": 11,
    "preflight": 12,
    "refused": 13,
    "no_convergence": 14,
    "integrity": 15,
    "cancelled": 20,
    "daemon_stopped": 1,
    "in_doubt": 21,
    "still_frozen": 1,
    "ended": 1,
    "paused": 1,
}


def test_codes_and_what_they_exit_with_are_these() -> None:
    """P18: the names of failures and their exit codes do not change."""
    assert {found.code: found.exit_code for found in FAILURES} == EXIT_CODES


@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("command", [["migrate", "web", "edge-b"], ["attach", "1a1a"], ["wait", "1a1a"]])
def test_a_failure_exits_with_its_code(
    daemon: FakeDaemon, tmp_path: Path, kind: type[MoveError], command: list[str]
) -> None:
    """P18: 1, 10 to 15, 20 and 21, by whichever command one hears of it."""
    daemon.result = kind("so it is").as_json()
    assert run(tmp_path, *command).exit_code == EXIT_CODES[kind.code]


def test_success_is_0(daemon: FakeDaemon, tmp_path: Path) -> None:
    """P18: 0."""
    daemon.result = REPORT
    for command in (["migrate", "web", "edge-b"], ["attach", "1a1a"], ["wait", "1a1a"], ["moves"], ["ps"]):
        assert run(tmp_path, *command).exit_code == 0


@pytest.mark.parametrize("command", [["migrate", "web", "edge-b"], ["attach", "1a1a"], ["wait", "1a1a"]])
def test_moved_but_not_healthy_is_22(daemon: FakeDaemon, tmp_path: Path, command: list[str]) -> None:
    """P18: 22: it runs at the target."""
    daemon.result = REPORT | {"exit_code": UNHEALTHY_EXIT_CODE, "health": "unhealthy"}
    result = run(tmp_path, *command)
    assert result.exit_code == 22
    assert "unhealthy" in result.stdout + result.stderr


def test_wrong_usage_is_2(daemon: FakeDaemon, tmp_path: Path) -> None:
    """P18: 2, also for a move that nobody knows."""
    for command in (["migrate", "web"], ["wait"], ["nonsense"], ["wait", "ffff"], ["attach", "ffff"]):
        assert run(tmp_path, *command).exit_code == 2
    for command in (["cancel", "ffff"], ["handover", "show", "ffff"]):
        assert run(tmp_path, *command).exit_code == 2


def test_no_daemon_is_1(tmp_path: Path) -> None:
    """P18: 1 where there is nobody to ask."""
    assert run(tmp_path, "migrate", "web", "edge-b").exit_code == 1


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_are_130_and_143(daemon: FakeDaemon, tmp_path: Path, number: signal.Signals, exit_code: int) -> None:
    """P18: 130 and 143: the command ended, the move goes on."""
    daemon.signal = number
    assert run(tmp_path, "attach", "1a1a").exit_code == exit_code
    daemon.cancelled.set()


def test_the_readme_lists_these_codes_and_no_others() -> None:
    """P18: the table is complete."""
    table = re.findall(r"^\| (\d+) \|", README.read_text(), re.MULTILINE)
    assert sorted(map(int, table)) == sorted({0, 2, 22, 130, 143, *EXIT_CODES.values()})
