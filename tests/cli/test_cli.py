"""The command line against a fake daemon on a real unix socket."""

from __future__ import annotations

import datetime as dt
import json
import re
import signal
from pathlib import Path

import click
import pytest
from cli_support import BEGAN, EVENTS, FAILED, MOVE, NOT_STAGED, OLD, OTHER, REPORT, FakeDaemon, run
from click.testing import CliRunner
from rich.console import Console

from streamhop.cli import following
from streamhop.cli.durations import Duration
from streamhop.cli.main import cli
from streamhop.cli.moving import split_new_name
from streamhop.cli.render import BarProgress, PlainProgress, printable, report_table, size
from streamhop.config import Config
from streamhop.handover.errors import InDoubtError


def test_what_is_around_a_container_is_asked_for(daemon: FakeDaemon, tmp_path: Path) -> None:
    options = ["--volumes", "copy", "--bind", "copy", "--bind-map", "/srv/a:/srv/b", "--publish", "8080:80"]
    assert run(tmp_path, "migrate", "web", "edge-b", *options, "--publish", "5353:53/udp").exit_code == 0
    (body,) = daemon.bodies
    assert {key: body[key] for key in ("volumes", "bind", "bind_map", "publish")} == {
        "volumes": "copy",
        "bind": "copy",
        "bind_map": {"/srv/a": "/srv/b"},
        "publish": {"80/tcp": "8080", "53/udp": "5353"},
    }


@pytest.mark.parametrize(
    "options", [["--bind-map", "/srv"], ["--publish", "80"], ["--volumes", "lose"], ["--bind", "x"]]
)
def test_what_is_around_a_container_is_asked_for_in_due_form(tmp_path: Path, options: list[str]) -> None:
    assert run(tmp_path, "migrate", "web", "edge-b", *options).exit_code == 2


def test_a_move_prints_its_table_on_stdout_and_its_progress_on_stderr(daemon: FakeDaemon, tmp_path: Path) -> None:
    result = run(tmp_path, "migrate", "web", "edge-b:web2", "--max-downtime", "750ms", "--max-rounds", "3")
    assert result.exit_code == 0
    assert daemon.bodies == [
        {
            "container": "web",
            "peer": "edge-b",
            "new_name": "web2",
            "max_downtime_s": 0.75,
            "max_rounds": 3,
            "on_no_converge": None,
            "auto_converge": False,
            "reconnect_s": None,
            "wait_healthy_s": None,
            "limit_bytes_per_s": None,
            "tcp": None,
            "forward_s": None,
        }
    ]
    assert "0.610 s" in result.stdout
    assert "offer" not in result.stdout
    assert "predicted downtime 0.40 s" in result.stderr


def test_json_is_all_there_is_on_stdout(daemon: FakeDaemon, tmp_path: Path) -> None:
    result = run(tmp_path, "migrate", "web", "edge-b", "--format", "json")
    assert json.loads(result.stdout) == REPORT


def test_a_failed_move_says_where_it_runs_and_exits_with_its_code(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.result = FAILED
    result = run(tmp_path, "migrate", "web", "edge-b")
    assert result.exit_code == 13
    assert result.stdout == ""
    assert "it runs on here, as it was" in result.stderr
    assert "drop it" in result.stderr
    assert "\x1b" not in result.stderr


def test_all_reasons_of_a_refusal_are_told_each_with_its_fix(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.result = FAILED | {"others": [{"reason": "no network n", "fix": "create it"}, {"reason": "no", "fix": ""}]}
    result = run(tmp_path, "migrate", "web", "edge-b")
    assert result.stderr.splitlines()[-5:] == [
        "  it runs on here, as it was",
        "  drop it",
        "  also: no network n",
        "  create it",
        "  also: no",
    ]


def test_a_daemon_that_ends_during_a_move_is_told(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.ends_early = True
    result = run(tmp_path, "migrate", "web", "edge-b")
    assert result.exit_code == 1
    assert "ended before the move did" in result.stderr
    assert f"streamhop wait {MOVE[:8]}" in result.stderr


def test_bad_input_exits_with_2(daemon: FakeDaemon, tmp_path: Path) -> None:
    assert run(tmp_path, "migrate", "web", "nowhere:x:y:z").exit_code == 2
    assert run(tmp_path, "migrate", "web", "edge-b", "--max-downtime", "soon").exit_code == 2
    assert run(tmp_path, "migrate", "web", "edge-b", "--max-rounds", "0").exit_code == 2


def test_no_daemon_is_one_clear_line(tmp_path: Path) -> None:
    result = run(tmp_path, "ps")
    assert result.exit_code == 1
    assert "no daemon serves" in result.stderr


def test_ps_lists(daemon: FakeDaemon, tmp_path: Path) -> None:
    assert "web" in run(tmp_path, "ps").stdout
    assert json.loads(run(tmp_path, "ps", "--format", "json").stdout)[0]["image"] == "i:1"


@pytest.mark.parametrize(
    ("text", "peer", "new_name"),
    [
        ("edge-b", "edge-b", None),
        ("edge-b:web2", "edge-b", "web2"),
        ("10.0.0.2:4711", "10.0.0.2:4711", None),
        ("10.0.0.2:4711:web2", "10.0.0.2:4711", "web2"),
        ("[::1]:4711", "[::1]:4711", None),
        ("[::1]:4711:web2", "[::1]:4711", "web2"),
        ("[::1]", "[::1]", None),
    ],
)
def test_peer_and_new_name(text: str, peer: str, new_name: str | None) -> None:
    assert split_new_name(text) == (peer, new_name)


def test_durations() -> None:
    convert = Duration().convert
    assert [convert(text, None, None) for text in ("500ms", "2s", "1.5s", "1m")] == [0.5, 2.0, 1.5, 60.0]
    for text in ("0", "300", "0s", "-1s", "s", "1h", "nan"):
        with pytest.raises(click.BadParameter):
            convert(text, None, None)


def test_bars_and_lines_take_every_event() -> None:
    for make in (BarProgress, PlainProgress):
        console = Console(record=True, force_terminal=True, width=120, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
        progress = make(console)
        for event in EVENTS:
            progress.event(event)
        progress.close()
        assert "predicted downtime 0.40 s" in console.export_text()
        console.file.close()


def test_sizes_and_names_read_well() -> None:
    assert [size(count) for count in (0, 999, 1500, 2_500_000, 7e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "7000.0 GB",
    ]
    assert printable("a\x1b[31m\u202eb\n") == "a\ufffd[31m\ufffdb\ufffd"
    assert report_table(REPORT).row_count >= 8


@pytest.mark.parametrize(("too_late", "said"), [(False, "cancelling"), (True, "too late to cancel")])
def test_an_interrupt_cancels_and_the_progress_goes_on_once(
    daemon: FakeDaemon, tmp_path: Path, *, too_late: bool, said: str
) -> None:
    daemon.result = FAILED | {"code": "cancelled", "exit_code": 20, "reason": "it was cancelled"}
    daemon.signal, daemon.too_late = signal.SIGINT, too_late
    handler = signal.getsignal(signal.SIGINT)
    result = run(tmp_path, "migrate", "web", "edge-b")
    assert signal.getsignal(signal.SIGINT) == handler
    assert daemon.cancelled.is_set()
    assert result.exit_code == 20
    assert said in result.stderr
    assert result.stderr.count("something") == 1


def test_moves_are_listed_and_cancelled(daemon: FakeDaemon, tmp_path: Path) -> None:
    listed = run(tmp_path, "moves")
    assert [line.split()[1] for line in listed.stdout.splitlines()[1:]] == ["web", "db", "old"]
    assert "under way" in listed.stdout
    assert "privileged" in listed.stdout
    assert "\x1b[31m" not in listed.stdout
    under_way, failed, old = listed.stdout.splitlines()[1:]
    local = f"{dt.datetime.fromisoformat(BEGAN).astimezone():%Y-%m-%d %H:%M:%S}"
    assert local in under_way
    assert (local in failed, "2 min 06 s" in failed) == (True, True)
    assert old.split() == [OLD[:8], "old", "from", "edge-b", "moved"]
    assert len(json.loads(run(tmp_path, "moves", "--format", "json").stdout)) == 3
    cancelled = run(tmp_path, "cancel", "1a1a")
    assert (cancelled.exit_code, cancelled.stdout) == (0, "")
    assert cancelled.stderr == "cancelling: web goes on here; `streamhop wait 1a1a1a1a` says when\n"
    daemon.too_late = True
    late = run(tmp_path, "cancel", "1a1a")
    assert (late.exit_code, "too late" in late.stderr) == (1, True)


def test_moves_that_are_not_settled_are_listed(daemon: FakeDaemon, tmp_path: Path) -> None:
    listed = run(tmp_path, "handover", "ls").stdout
    assert "abababab" in listed
    assert "edge-b" in listed
    assert "MFZWI3D" not in listed
    assert "cdcdcdcd" not in listed
    assert "cdcdcdcd" in run(tmp_path, "handover", "ls", "--all").stdout
    assert json.loads(run(tmp_path, "handover", "show", "abab").stdout)[0]["container"] == "web"
    assert run(tmp_path, "handover", "show", "ffff").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "typed", "asked"),
    [
        (["reclaim", "abab", "--fenced"], "", True),
        (["reclaim", "abab"], "web\n", True),
        (["reclaim", "abab"], "yes\n", False),
        (["claim", "abab", "--fenced"], "", False),
        (["reclaim", "ffff", "--fenced"], "", False),
    ],
)
def test_a_person_must_mean_it(
    daemon: FakeDaemon, tmp_path: Path, arguments: list[str], typed: str, *, asked: bool
) -> None:
    socket = str(tmp_path / "control.sock")
    result = CliRunner().invoke(cli, ["--socket", socket, "handover", *arguments], input=typed)
    assert daemon.bodies == (["/v1/handovers/" + "ab" * 16 + "/reclaim"] if asked else [])
    assert result.exit_code == (0 if asked else 2)
    assert ("web goes on here" in result.stderr) == asked
    assert "MFZWI3D" not in result.stderr


def test_a_doubt_is_told_as_one_and_with_the_way_out(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Nobody knows where it runs: neither "was not moved" nor "it runs nowhere" would be true."""
    daemon.result = InDoubtError("GO was sent", bytes.fromhex(MOVE)).as_json()
    ends = run(tmp_path, "migrate", "web", "edge-b")
    daemon.too_late = True
    for told, exit_code in ((ends, 21), (run(tmp_path, "cancel", "1a1a"), 1)):
        assert told.exit_code == exit_code
        assert "doubt" in told.stderr
        assert "was not moved" not in told.stderr
        assert "nowhere" not in told.stderr
        assert "do not start or unpause the copy here" in told.stderr
        assert "streamhop handover reclaim 1a1a1a1a" in told.stderr


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_dropped_by_four_digits_or_more(daemon: FakeDaemon, tmp_path: Path) -> None:
    listed = run(tmp_path, "kept", "ls").stdout
    assert "edge-b" in listed
    short = run(tmp_path, "kept", "drop", "feb")
    assert (short.exit_code, "too short" in short.stderr) == (2, True)
    assert not daemon.cancelled.is_set()
    dropped = run(tmp_path, "kept", "drop", "feed")
    assert (dropped.exit_code, dropped.stderr) == (0, "feedfeedfeed is dropped\n")
    assert daemon.paths[-1] == "/v1/kept/" + "feed" * 16


# -- ports that are relayed --------------------------------------------------------------------------------------------


def test_what_is_relayed_is_listed_and_ended(daemon: FakeDaemon, tmp_path: Path) -> None:
    listed = run(tmp_path, "forwards").stdout
    for text in ("*:80/tcp", "open", "10.0.0.1:53/udp", "waiting for the port", "in 42 s"):
        assert text in listed
    assert json.loads(run(tmp_path, "forwards", "--format", "json").stdout)[0]["left_s"] == 41.5
    ended = run(tmp_path, "forward", "stop", MOVE[:6])
    assert (ended.exit_code, ended.stderr) == (0, f"{MOVE[:8]} is relayed no more\n")
    assert daemon.paths[-1] == f"/v1/forwards/{MOVE[:6]}"


# -- copies ahead of a move --------------------------------------------------------------------------------------------


def test_stage_returns_when_the_first_copy_is_there(daemon: FakeDaemon, tmp_path: Path) -> None:
    done = run(tmp_path, "stage", "web", "edge-b", "--refresh", "30s", "--limit", "20mbit")
    assert done.exit_code == 0, done.stderr
    assert daemon.bodies == [
        {"container": "web", "peers": ["edge-b"], "refresh_s": 30.0, "limit_bytes_per_s": 2_500_000.0}
    ]
    assert "5.0 MB in 2.5 s" in done.stdout
    assert "every 30 s" in done.stdout


def test_stage_says_where_it_failed(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.staged.append(NOT_STAGED)
    failed = run(tmp_path, "stage", "web", "edge-b", "edge-c")
    assert failed.exit_code == 13
    assert "web is not staged at edge-c" in failed.stderr
    assert "5.0 MB" in failed.stdout


def test_stage_ends_when_the_copy_is_listed_no_more(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.staged = []
    gone = run(tmp_path, "stage", "web", "edge-b")
    assert (gone.exit_code, "no copy of web is kept at edge-b" in gone.stderr) == (1, True)


def test_staged_lists_and_unstage_drops(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.staged.append(NOT_STAGED)
    listed = run(tmp_path, "staged").stdout
    assert "refused: the peer refuses" in listed
    assert "\x1b" not in listed
    assert len(json.loads(run(tmp_path, "staged", "--format", "json").stdout)) == 2
    dropped = run(tmp_path, "unstage", "web", "edge-b", "edge-c")
    assert dropped.exit_code == 1
    assert daemon.paths[-1] == "/v1/staged/web?peer=edge-b&peer=edge-c"
    assert "dropped at edge-b" in dropped.stderr
    assert "edge-c was not told, its copy expires" in dropped.stderr


# -- watching and waiting ----------------------------------------------------------------------------------------------


def test_a_detached_move_prints_its_id_once_all_is_checked(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.result = FAILED
    result = run(tmp_path, "migrate", "web", "edge-b", "--detach")
    assert (result.exit_code, result.stdout) == (0, f"{MOVE}\n")
    assert json.loads(run(tmp_path, "migrate", "web", "edge-b", "--detach", "--format", "json").stdout) == {"id": MOVE}


def test_a_detached_move_that_fails_before_it_begins_says_so(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.events, daemon.result = EVENTS[:1], FAILED
    result = run(tmp_path, "migrate", "web", "edge-b", "--detach")
    assert (result.exit_code, result.stdout) == (13, "")


def test_wait_exits_with_the_moves_code(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.result = FAILED
    assert run(tmp_path, "wait", "1a1a").exit_code == 13
    assert run(tmp_path, "wait", "3c3c").exit_code == 0
    both = run(tmp_path, "wait", "3c3c", "2b2b", "--format", "json")
    assert both.exit_code == 13
    assert [row["id"] for row in json.loads(both.stdout)] == [OLD, OTHER]
    assert run(tmp_path, "wait", "ffff").exit_code == 2


def test_wait_outlives_a_daemon(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ASK_AGAIN_S", 0.01)
    daemon.ends_early, daemon.result = True, FAILED
    assert run(tmp_path, "wait", "1a1a").exit_code == 13
    assert daemon.paths.count(f"/v1/moves/{MOVE}/events") == 2


def test_wait_has_patience_and_an_end_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ASK_AGAIN_S", 0.01)
    result = run(tmp_path, "wait", "1a1a", "--patience", "50ms")
    assert result.exit_code == 1
    assert "no daemon has answered" in result.stderr


def test_attach_shows_what_migrate_shows(daemon: FakeDaemon, tmp_path: Path) -> None:
    shown, migrated = run(tmp_path, "attach", "1a1a"), run(tmp_path, "migrate", "web", "edge-b")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, migrated.stdout, migrated.stderr)
    daemon.result = FAILED
    assert run(tmp_path, "attach", "1a1a").exit_code == 13


def test_attach_to_what_came_here_does_not_claim_that_it_runs_on_here(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.result, daemon.role = FAILED, "target"
    result = run(tmp_path, "attach", "1a1a")
    assert result.exit_code == 13
    assert "did not come here" in result.stderr
    assert "it runs on here" not in result.stderr


@pytest.mark.parametrize(
    ("command", "number", "exit_code", "said"),
    [
        (["attach", "1a1a"], signal.SIGINT, 130, "streamhop cancel 1a1a1a1a"),
        (["attach", "1a1a"], signal.SIGTERM, 143, "streamhop attach 1a1a1a1a"),
        (["wait", "1a1a"], signal.SIGINT, 130, "streamhop wait 1a1a, streamhop moves"),
        (["wait", "1a1a"], signal.SIGTERM, 143, "streamhop attach 1a1a1a1a"),
        (["migrate", "web", "edge-b"], signal.SIGTERM, 143, "streamhop attach 1a1a1a1a"),
    ],
)
def test_leaving_cancels_nothing_and_says_how_to_come_back(
    daemon: FakeDaemon, tmp_path: Path, command: list[str], number: signal.Signals, exit_code: int, said: str
) -> None:
    before = signal.getsignal(number)
    daemon.signal = number
    result = run(tmp_path, *command)
    assert signal.getsignal(number) == before
    assert result.exit_code == exit_code
    assert said in result.stderr
    assert not daemon.cancelled.is_set()
    daemon.cancelled.set()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("route", "arguments"), [("/v1/invitations", ["pair"]), ("/v1/peers", ["pair", "streamhop-pair-1:x"])]
)
def test_what_the_daemon_warns_of_when_pairing_is_told_beside_the_result(
    daemon: FakeDaemon, tmp_path: Path, route: str, arguments: list[str], form: str
) -> None:
    daemon.paired[route]["warning"] = "nobody\x1b reaches it"
    told = run(tmp_path, *arguments, "--format", form)
    assert (told.exit_code, "warning: nobody\ufffd reaches it" in told.stderr) == (0, True)
    assert "warning: " not in told.stdout
    del daemon.paired[route]["warning"]
    assert "warning: " not in run(tmp_path, *arguments, "--format", form).stderr


def test_the_daemons_help_has_the_defaults() -> None:
    config = Config()
    told = " ".join(CliRunner().invoke(cli, ["daemon", "--help"]).output.split())
    defaults = re.findall(r"--([a-z-]+) [A-Z]\S+ [^\[]*\[default: ([^\]]+)\]", told)
    for flag in ("control-socket", "state-dir", "run-dir"):
        assert (flag, str(getattr(config, flag.replace("-", "_")))) in defaults


def test_what_may_be_repeated_says_so() -> None:
    for command in ("migrate", "check"):
        told = " ".join(CliRunner().invoke(cli, [command, "--help"]).output.split())
        assert set(re.findall(r"--([a-z-]+) [A-Z_]+:[A-Z_]+ [^-]*May be repeated\.", told)) == {"bind-map", "publish"}


def test_no_peers_is_a_hint_instead_of_an_empty_table(daemon: FakeDaemon, tmp_path: Path) -> None:
    result = run(tmp_path, "peers")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "streamhop pair" in result.stderr
    assert run(tmp_path, "peers", "--format", "json").stdout == "[]\n"


def test_a_move_without_figures_is_still_told(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.result = REPORT | {"bytes": None, "downtime_s": None}
    result = run(tmp_path, "attach", "1a1a")
    assert (result.exit_code, "moved" in result.stdout) == (0, True)
