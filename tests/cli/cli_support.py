"""A fake daemon on a real unix socket, for the tests of the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from streamhop.cli.main import cli

MOVE, OTHER, OLD = "1a" * 16, "2b" * 16, "3c" * 16

REPORT: dict[str, Any] = {
    "outcome": "moved",
    "exit_code": 0,
    "runs_at": "target",
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
    "throttle_percent_max": 0,
    "throttled_s": 0.0,
    "layers_sent": 1,
    "layers_reused": 2,
    "timeline": [],
    "health": None,
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
    {"event": "phase", "at_s": 0.4, "phase": "pre-copy"},
]


HANDOVERS = [
    {
        "move": "ab" * 16,
        "role": "source",
        "epoch": 1,
        "state": "released",
        "settled": False,
        "container": "web",
        "peer": "MFZWI3D-BONSGYC",
        "peer_name": "edge-b",
        "details": {},
    },
    {
        "move": "cd" * 16,
        "role": "target",
        "epoch": 1,
        "state": "done",
        "settled": True,
        "container": "db",
        "peer": "MFZWI3D-BONSGYC",
        "peer_name": "edge-b",
        "details": {},
    },
]


FORWARDS = [
    {
        "id": MOVE,
        "container": "web",
        "peer": "edge-b",
        "begun": True,
        "left_s": 41.5,
        "ports": [
            {"port": "*:80/tcp", "open": True, "active": 2},
            {"port": "10.0.0.1:53/udp", "open": False, "active": 0},
        ],
    }
]
KEPT = [
    {
        "key": "feed" * 16,
        "peer": "MFZWI3D-BONSGYC",
        "peer_name": "edge-b",
        "container": "web",
        "image": "i:1",
        "bytes": 5_000_000,
        "expires_s": 600,
    }
]


STAGED = {
    "container": "web",
    "container_id": "ab" * 32,
    "peer": "edge-b",
    "refresh_s": 30.0,
    "sending": False,
    "times": 2,
    "wire_bytes": 5_000_000,
    "seconds": 2.5,
    "staged_at": "2026-03-01T10:00:00+00:00",
    "expires_at": "2026-03-01T11:00:00+00:00",
    "failure": None,
}
NOT_STAGED = {**STAGED, "peer": "edge-c", "times": 0, "staged_at": None, "expires_at": None, "failure": FAILED}

FOUND = {
    "id": "workload.io-uring",
    "severity": "refuses",
    "what": "an io_uring, in process 7 (no\x1b[31mde): descriptor 9",
    "why": "requests under way are in the kernel's rings",
    "reference": "https://github.com/checkpoint-restore/criu/issues/2131",
    "fix": "switch it off",
    "side": "source",
    "host": "edge-a",
}
WARNED = FOUND | {
    "id": "kernel.older",
    "severity": "warns",
    "what": "an older kernel",
    "reference": "",
    "side": "target",
    "host": "edge-b",
}
CHECKED: dict[str, Any] = {
    "container": "web",
    "source": "edge-a",
    "target": "edge-b",
    "exit_code": 12,
    "findings": [WARNED, FOUND],
    "target_asked": True,
    "target_failure": None,
    "memory_bytes": 5_000_000,
    "layer_bytes": 9_000_000,
    "lacking_bytes": 2_000_000,
}

BEGAN = "2026-03-01T10:00:00.250Z"


def row_of(move: str, container: str, result: dict[str, Any] | None, role: str = "source") -> dict[str, Any]:
    return {
        "id": move,
        "role": role,
        "container": container,
        "peer": "edge-b",
        "began_at": BEGAN,
        "ended_at": None if result is None else "2026-03-01T10:02:05.750Z",
        "running": result is None,
        "result": result,
    }


class FakeDaemon(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.bodies: list[Any] = []
        self.result: dict[str, Any] = REPORT
        self.ends_early = False
        self.too_late = False
        self.signal: signal.Signals | None = None
        self.paths: list[str] = []
        self.peers: list[dict[str, Any]] = []
        self.staged: list[dict[str, Any]] = [STAGED]
        self.checked: dict[str, Any] = CHECKED
        self.paired: dict[str, dict[str, Any]] = {
            "/v1/invitations": {"token": "streamhop-pair-1:x", "seconds": 600, "warning": None},
            "/v1/peers": {"name": "edge-b", "id": "MFZWI3D-BONSGYC", "addresses": [], "warning": None},
        }
        self.events = list(EVENTS)
        self.role = "source"
        self.told = False
        self.cancelled = threading.Event()
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    server: FakeDaemon

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        with contextlib.suppress(BrokenPipeError):  # a client that left is no error
            self.end_headers()
            self.wfile.write(body)

    def do_POST(self) -> None:
        if self.path.startswith("/v1/handovers/"):
            self.server.bodies.append(self.path)
            self._answer(json.dumps({"id": self.path.split("/")[3]}).encode(), 202)
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if self.path == "/v1/staged":
            rows = [{**STAGED, "times": 0, "peer": peer} for peer in body["peers"]]
            self._answer(json.dumps(rows).encode(), 202)
            return
        if self.path == "/v1/checks":
            self._answer(json.dumps(self.server.checked).encode())
            return
        if self.path in self.server.paired:
            self._answer(json.dumps(self.server.paired[self.path]).encode(), 201)
            return
        if body["peer"].startswith("nowhere:"):
            refusal = {"code": "usage", "reason": "not an address", "fix": "", "exit_code": 2, "runs_at": "source"}
            self._answer(json.dumps(refusal).encode(), 400)
            return
        self._answer(json.dumps({"id": MOVE}).encode(), 202)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            row_of(MOVE, "web", None),
            row_of(OTHER, "db", FAILED),
            row_of(OLD, "old", REPORT, "target") | {"began_at": None, "ended_at": None},
        ]

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        head, _, wanted = self.path.rpartition("/")
        if self.path == "/v1/handovers":
            self._answer(json.dumps(HANDOVERS).encode())
        elif self.path == "/v1/kept":
            self._answer(json.dumps(KEPT).encode())
        elif self.path == "/v1/forwards":
            self._answer(json.dumps(FORWARDS).encode())
        elif self.path == "/v1/staged":
            self._answer(json.dumps(self.server.staged).encode())
        elif self.path == "/v1/moves":
            self._answer(json.dumps(self._rows()).encode())
        elif self.path == "/v1/peers":
            self._answer(json.dumps(self.server.peers).encode())
        elif self.path == "/v1/containers":
            self._answer(b'[{"name": "web", "image": "i:1", "status": "Up", "memory": "1 MB"}]')
        elif wanted == "events":
            self._events()
        elif head == "/v1/moves":
            found = [row for row in self._rows() if row["id"].startswith(wanted)]
            if found and found[0]["id"] == MOVE:
                result = self.server.result if self.server.told else None
                found = [row_of(MOVE, "web", result, self.server.role)]
            self._found(found[:1] and found[0], wanted)
        else:
            self._found([row for row in HANDOVERS if row["move"].startswith(wanted)], wanted)

    def _found(self, document: Any, wanted: str) -> None:
        if document:
            self._answer(json.dumps(document).encode())
            return
        refusal = {"code": "unknown_move", "reason": f"there is no move {wanted}", "fix": "", "exit_code": 2}
        self._answer(json.dumps(refusal).encode(), 404)

    def _events(self) -> None:
        if self.server.ends_early:
            self.server.ends_early = False
            self._answer(b"".join(json.dumps(event).encode() + b"\n" for event in self.server.events))
            return
        if self.server.signal is not None:
            os.kill(os.getpid(), self.server.signal)
            self.server.cancelled.wait(10)
        self.server.told = True
        end = {"event": "finished", "at_s": 1.0, "result": self.server.result}
        self._answer(b"".join(json.dumps(event).encode() + b"\n" for event in [*self.server.events, end]))

    def do_DELETE(self) -> None:
        self.server.paths.append(self.path)
        if self.path.startswith("/v1/staged/"):
            self._answer(json.dumps(self.server.staged).encode())
            return
        self._answer(json.dumps({"id": MOVE, "cancelling": not self.server.too_late}).encode(), 202)
        self.server.cancelled.set()


def run(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--socket", str(tmp_path / "control.sock"), *arguments])
