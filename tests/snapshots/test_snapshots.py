"""P18: JSON documents and events have the keys and types that scripts rely on. Made by the code itself, not by hand."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from snapshots_support import DOCUMENTS, check_snapshot

import streamhop
from streamhop.config import Address, Config
from streamhop.control.access import Access
from streamhop.control.api import serve_control
from streamhop.control.peering import PeeringApi
from streamhop.engine.capabilities import HostCapabilities
from streamhop.findings import Finding, Severity
from streamhop.handover import inquiries, operations
from streamhop.handover.checking import CheckResult
from streamhop.handover.errors import InDoubtError, RefusedError, UnreachableError
from streamhop.handover.host import Host, kept_content
from streamhop.handover.journal import Journal
from streamhop.handover.moves import Moves
from streamhop.handover.outgoing import OutgoingMove
from streamhop.handover.policy import PolicyOptions, RoundResult
from streamhop.handover.report import Tally, report_without_figures
from streamhop.handover.sending import _CountedStream
from streamhop.handover.states import Role, State
from streamhop.identity import Peer, PeerBook, load_or_create
from streamhop.peering import Pairing, PeerDirectory
from streamhop.telemetry.events import EventLog

GONE, CAME = b"g" * 16, b"c" * 16
FOUND = Finding("target.disk", "no room", "make some", "because", "a page", Severity.REFUSES)
ROUND = RoundResult(pages=10, deferred_pages=1, raw_bytes=4096, wire_bytes=1000, seconds=0.5)


class FakeEngine:
    """A Docker engine with one container."""

    async def list_containers(self) -> list[dict[str, Any]]:
        return [{"Id": "c" * 64, "Status": "Up 3 minutes"}]

    async def inspect_container(self, _name: str) -> dict[str, Any]:
        return {"Name": "/web", "Config": {"Image": "nginx:1"}, "State": {"Pid": os.getpid()}}


class FakeStream:
    raw_bytes, wire_bytes, wire_bytes_by_codec = 4096, 1000, {"zstd": 1000}

    async def write(self, *_: object) -> None: ...

    async def finish(self, *_: object) -> None: ...


class Asked:
    """A daemon of this test's own: real API, moves, journal and peer book over a fake engine."""

    def __init__(self, host: Host, client: aiohttp.ClientSession) -> None:
        self.host = host
        self._client = client

    async def __call__(self, method: str, route: str, body: Any = None) -> Any:
        async with self._client.request(method, route, json=body) as answer:
            return await answer.json()


@pytest.fixture
async def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    async def for_ever(*_: Any) -> None:
        await asyncio.Event().wait()

    async def capabilities(_engine: object) -> HostCapabilities:
        versions: Any = SimpleNamespace(
            docker="28.5.2", containerd="2.1", runc="1.3", criu="4.2", kernel="6.18", image_store="classic"
        )
        found: HostCapabilities = versions
        return found

    monkeypatch.setattr(operations, "find_container", for_ever)
    monkeypatch.setattr(inquiries, "host_capabilities", capabilities)
    config = Config(state_dir=tmp_path, run_dir=tmp_path, name="edge-a", control_socket=tmp_path / "control.sock")
    identity = load_or_create(tmp_path / "identity")
    other = load_or_create(tmp_path / "other")
    book = PeerBook(tmp_path / "peers")
    book.add(Peer("edge-b", other.id, (Address("127.0.0.1", 1),), other.certificate.read_text()))
    peers = PeerDirectory(config, identity, book)
    journal = Journal(tmp_path / "journal.sqlite")
    fakes: Any = FakeEngine(), None
    host = Host(config, fakes[0], journal, fakes[1], peers, kept_content(config))
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        moves = Moves(host, tasks)
        peering = PeeringApi("edge-a", peers, Pairing(peers, identity, "edge-a", (Address("127.0.0.1", 1),)))
        async with (
            serve_control(moves, Access(config.control_socket), peering),
            aiohttp.ClientSession(
                "http://localhost", connector=aiohttp.UnixConnector(str(config.control_socket))
            ) as http,
        ):
            yield Asked(host, http)
            moves.stop()
    journal.close()


# -- results -----------------------------------------------------------------------------------------------------------


def finished_tally() -> Tally:
    tally = Tally(downtime_s=0.5, target_timings={"restore_s": 0.25})
    tally.timeline.mark("preflight")
    judged(tally, EventLog())
    tally.wire_by_codec["zstd"] = 1000
    return tally


def judged(tally: Tally, events: EventLog) -> None:
    """Judge one round as a move does."""
    host: Any = SimpleNamespace(journal=None, trace=None)
    container: Any = SimpleNamespace(id="c", manifest=SimpleNamespace(page_size=4096, memory_bytes=1_000_000))
    session: Any = SimpleNamespace(goodput_bytes_per_s=2_500_000.0, rtt_s=0.05)
    peer: Any = None
    move = OutgoingMove(host, GONE, container, peer, PolicyOptions(), events, tally)
    move._judge(session, [ROUND], 0.5, alone=True)


def test_results() -> None:
    """P18: what ``migrate`` and ``attach`` print, and what ``wait`` has as the result."""
    moved = finished_tally().report(("web", "web2"), "edge-a", "edge-b")
    check_snapshot("result_moved", moved)
    check_snapshot("result_moved_without_figures", report_without_figures(("web", "web2"), "edge-a", "edge-b"))
    check_snapshot("result_failed", RefusedError.of_several([FOUND, FOUND]).as_json())
    lost = UnreachableError("nobody answers")
    check_snapshot("check", CheckResult("web", "edge-a", "edge-b", [FOUND], [FOUND]).as_json())
    check_snapshot("check_without_peer", CheckResult("web", "edge-a", "edge-b", [], [], lost).as_json())
    check_snapshot("result_in_doubt", InDoubtError("GO was sent").as_json())


# -- events ------------------------------------------------------------------------------------------------------------


async def test_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """P18: every kind of event there is in the code has a snapshot, and looks like it."""
    events, fake = EventLog(), FakeStream()
    monkeypatch.setattr("streamhop.handover.sending.PROGRESS_INTERVAL_S", 0.0)
    stream: Any = fake
    counted = _CountedStream(stream, "memory", "memory_precopy", Tally(), events)
    counted.total_bytes = 10_000
    await counted.write(b"x")
    await counted.finish()
    judged(Tally(), events)
    # These have no function of their own.
    events.emit("phase", phase="pre-copy")
    events.emit("remark", text="aborting")
    events.emit("throttle", percent=20)
    operation = operations.Operation(operations.MoveRequest("web", "edge-b"), log=events)
    operation.end(RefusedError("no room").as_json())
    seen = {event["event"]: event async for event in events.follow()}
    source = "\n".join(path.read_text() for path in Path(streamhop.__file__).parent.rglob("*.py"))
    assert set(seen) == set(re.findall(r'\.emit\(\s*"(\w+)"', source))
    for kind, event in seen.items():
        check_snapshot(f"event_{kind}", event)


# -- commands ----------------------------------------------------------------------------------------------------------


async def test_moves_and_handovers(ask: Asked) -> None:
    """P18: ``moves``, ``wait``, ``cancel``, ``migrate --detach``, ``handover ls`` and ``show``, and refusals."""
    journal = ask.host.journal
    journal.operations.begin(GONE, "web", "edge-b")
    journal.record(GONE, Role.SOURCE, 1, State.PRECOPY, name="web", peer="edge-b", container="c")
    journal.record(GONE, Role.SOURCE, 1, State.ABORTED)
    journal.operations.end(GONE, RefusedError("no room").as_json())
    check_snapshot("move_ended", await ask("GET", f"/v1/moves/{GONE.hex()}"))
    journal.record(CAME, Role.TARGET, 1, State.RECEIVING, name="db", peer="edge-b")
    check_snapshot("move_under_way", await ask("GET", f"/v1/moves/{CAME.hex()}"))
    assert [row["id"] for row in await ask("GET", "/v1/moves")] == [GONE.hex(), CAME.hex()]
    check_snapshot("handovers", (await ask("GET", "/v1/handovers"))[1:])
    started = await ask("POST", "/v1/moves", {"container": "web", "peer": "edge-b"})
    check_snapshot("move_started", started)
    check_snapshot("cancel", await ask("DELETE", f"/v1/moves/{started['id']}"))
    check_snapshot("refusal", await ask("GET", "/v1/moves/ffff"))


async def test_this_host_and_its_peers(ask: Asked) -> None:
    """P18: ``ps``, ``peers``, ``version``, ``id``, ``pair``, ``rename``, ``unpair``."""
    check_snapshot("containers", await ask("GET", "/v1/containers"))
    check_snapshot("peers", await ask("GET", "/v1/peers"))
    check_snapshot("version", await ask("GET", "/v1/version"))
    check_snapshot("identity", await ask("GET", "/v1/identity"))
    invitation = await ask("POST", "/v1/invitations", {"seconds": 60})
    check_snapshot("invitation", invitation)
    assert "127.0.0.1 alone" in invitation["warning"]
    refused = await ask("PATCH", "/v1/peers/edge-x", {"name": "edge-c"})
    check_snapshot("refusal", refused)
    assert ("edge-b" in refused["reason"], "streamhop pair" in refused["fix"]) == (True, True)
    check_snapshot("peer", await ask("PATCH", "/v1/peers/edge-b", {"name": "edge-c"}))
    check_snapshot("peer", await ask("DELETE", "/v1/peers/edge-c"))


def test_no_snapshot_is_left_over() -> None:
    """P18: each file is looked at by a test above."""
    names = set(re.findall(r'check_snapshot\(\s*"(\w+)"', Path(__file__).read_text()))
    left = {path.stem for path in DOCUMENTS.iterdir()} - names
    assert all(name.startswith("event_") for name in left), left
