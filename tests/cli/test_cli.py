"""The command line against a fake daemon on a real unix socket."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from streamhop.cli.main import Duration, _split_new_name, cli
from streamhop.cli.render import BarProgress, PlainProgress, printable, report_table, size

REPORT: dict[str, Any] = {
    "outcome": "moved",
    "container": "web",
    "container_at_target": "web2",
    "source": "edge-a",
    "target": "edge-b",
    "total_s": 12.5,
    "downtime_s": 0.61,
    "rounds": [{}, {}],
    "bytes": {
        "layers": 1,
        "writable_layer": 2,
        "memory_precopy": 3_000_000,
        "memory_final": 40_000,
        "wire": 5_000_000,
        "by_codec": {"zstd": 5},
    },
    "predicted_downtime_s": 0.25,
    "layers_sent": 1,
    "layers_reused": 2,
    "timeline": [],
}
FAILED = {
    "outcome": "failed",
    "code": "refused",
    "exit_code": 13,
    "runs_at": "source",
    "reason": "the peer refuses: \x1b[31mprivileged\x1b[0m",
    "fix": "drop it",
}
EVENTS = [
    {"event": "phase", "at_s": 0.0, "phase": "offer"},
    {"event": "progress", "at_s": 0.1, "stream": "memory", "raw_bytes": 5, "wire_bytes": 2, "total_bytes": 10},
    {"event": "stream_finished", "at_s": 0.2, "stream": "memory", "raw_bytes": 10, "wire_bytes": 4},
    {
        "event": "round",
        "at_s": 0.2,
        "number": 0,
        "pages": 3,
        "wire_bytes": 4,
        "seconds": 0.1,
        "predicted_downtime_s": 0.4,
        "reason": "because",
    },
    {"event": "remark", "at_s": 0.3, "text": "something"},
]


HANDOVERS = [
    {
        "move": "ab" * 16,
        "role": "source",
        "epoch": 1,
        "state": "released",
        "settled": False,
        "container": "web",
        "peer": "edge-b",
        "details": {},
    },
    {
        "move": "cd" * 16,
        "role": "target",
        "epoch": 1,
        "state": "done",
        "settled": True,
        "container": "db",
        "peer": "edge-b",
        "details": {},
    },
]


class FakeDaemon(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.bodies: list[Any] = []
        self.result: dict[str, Any] = REPORT
        self.ends_early = False
        self.ends_when_cancelled = False
        self.too_late = False
        self.cancelled = threading.Event()
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    server: FakeDaemon

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        if self.path.startswith("/v1/handovers/"):
            self.server.bodies.append(self.path)
            self._answer(b"{}", 202)
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if body["peer"].startswith("nowhere:"):
            refusal = {"code": "usage", "reason": "not an address", "fix": "", "exit_code": 2, "runs_at": "source"}
            self._answer(json.dumps(refusal).encode(), 400)
            return
        self._answer(b'{"id": "1"}', 202)

    def do_GET(self) -> None:
        if self.path == "/v1/handovers":
            self._answer(json.dumps(HANDOVERS).encode())
            return
        if self.path == "/v1/moves":
            rows = [
                {"id": "1", "container": "web", "peer": "edge-b", "running": True, "result": None},
                {"id": "2", "container": "db", "peer": "edge-b", "running": False, "result": FAILED},
                {"id": "3", "container": "old", "peer": "edge-b", "running": False, "result": REPORT},
            ]
            self._answer(json.dumps(rows).encode())
            return
        if self.path == "/v1/containers":
            self._answer(b'[{"name": "web", "image": "i:1", "status": "Up", "memory": "1 MB"}]')
            return
        end = [] if self.server.ends_early else [{"event": "finished", "at_s": 1.0, "result": self.server.result}]
        if self.server.ends_when_cancelled:
            os.kill(os.getpid(), signal.SIGINT)
            assert self.server.cancelled.wait(10)
        self._answer(b"".join(json.dumps(event).encode() + b"\n" for event in [*EVENTS, *end]))

    def do_DELETE(self) -> None:
        self._answer(json.dumps({"cancelling": not self.server.too_late}).encode(), 202)
        self.server.cancelled.set()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--socket", str(tmp_path / "control.sock"), *arguments])


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
            "limit_bytes_per_s": None,
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


def test_a_daemon_that_ends_during_a_move_is_told(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.ends_early = True
    result = run(tmp_path, "migrate", "web", "edge-b")
    assert result.exit_code == 1
    assert "ended before the move did" in result.stderr


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
    assert _split_new_name(text) == (peer, new_name)


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
    daemon.ends_when_cancelled, daemon.too_late = True, too_late
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
    assert len(json.loads(run(tmp_path, "moves", "--format", "json").stdout)) == 3
    assert run(tmp_path, "cancel", "1").exit_code == 0
    daemon.too_late = True
    late = run(tmp_path, "cancel", "1")
    assert (late.exit_code, "too late" in late.stderr) == (1, True)


def test_moves_that_are_not_settled_are_listed(daemon: FakeDaemon, tmp_path: Path) -> None:
    listed = run(tmp_path, "handover", "ls").stdout
    assert "abababab" in listed
    assert "cdcdcdcd" not in listed
    assert "cdcdcdcd" in run(tmp_path, "handover", "ls", "--all").stdout
    assert json.loads(run(tmp_path, "handover", "show", "abab").stdout)["container"] == "web"
    assert run(tmp_path, "handover", "show", "ffff").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "typed", "asked"),
    [
        (["reclaim", "abab", "--fenced"], "", True),
        (["reclaim", "abab"], "web\n", True),
        (["reclaim", "abab"], "yes\n", False),
        (["claim", "abab", "--fenced"], "", False),
        (["reclaim", "ab", "--fenced"], "", False),
    ],
)
def test_a_person_must_mean_it(
    daemon: FakeDaemon, tmp_path: Path, arguments: list[str], typed: str, *, asked: bool
) -> None:
    socket = str(tmp_path / "control.sock")
    result = CliRunner().invoke(cli, ["--socket", socket, "handover", *arguments], input=typed)
    assert daemon.bodies == (["/v1/handovers/" + "ab" * 16 + "/reclaim"] if asked else [])
    assert result.exit_code == (0 if asked else 2)
