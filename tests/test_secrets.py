"""P13: what a daemon stores is shut to everybody else, and says nothing of what containers keep to themselves."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamhop.config import Config
from streamhop.content.memory import PageStore
from streamhop.daemon import make_private
from streamhop.handover.errors import MoveError
from streamhop.handover.host import Host, kept_content
from streamhop.handover.incoming import IncomingMove
from streamhop.handover.journal import Journal
from streamhop.handover.means import Means
from streamhop.handover.outgoing import OutgoingMove
from streamhop.handover.policy import PolicyOptions
from streamhop.handover.report import Tally
from streamhop.identity import PeerBook, load_or_create
from streamhop.net import SessionLost
from streamhop.peering import PeerDirectory, PeerTarget
from streamhop.telemetry.events import EventLog
from streamhop_protocol.messages import Message, Offer

MOVE = b"m" * 16
SECRET = "hunter2-in-the-environment"


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A daemon that is started by somebody careless."""
    before = os.umask(0)
    yield
    os.umask(before)


def host_in(directory: Path) -> Host:
    config = Config(state_dir=directory / "state", run_dir=directory / "run", name="here", plaintext=True)
    make_private(config)
    fakes: Any = SimpleNamespace(), SimpleNamespace()
    peers = PeerDirectory(config, None, PeerBook(config.state_dir / "peers"))
    return Host(config, fakes[0], Journal(config.state_dir / "journal.sqlite"), fakes[1], peers, kept_content(config))


@pytest.mark.usefixtures("open_umask")
def test_directories_are_0700_and_files_0600_whatever_the_umask_was(tmp_path: Path) -> None:
    """P13: spool, dumps, journal, keys; by the code that makes them."""
    host = host_in(tmp_path)
    load_or_create(host.config.state_dir / "identity")
    host.spool(MOVE).mkdir(parents=True)
    PageStore(host.spool(MOVE) / "pages", 4096, quota_bytes=1 << 20)
    (host.dump_dir(MOVE) / "image").mkdir(parents=True)
    # What others make for us, such as CRIU its log, is made with the umask alone.
    (host.dump_dir(MOVE) / "image" / "pages-1.img").write_bytes(b"memory")
    host.journal.operations.begin(MOVE, "web", "edge-b")
    host.journal.close()
    for root in (host.config.state_dir, host.config.run_dir):
        for path in (root, *root.rglob("*")):
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.lstat().st_mode) == wanted, path


@pytest.mark.usefixtures("open_umask")
def test_a_directory_that_was_there_is_left_as_it_is(tmp_path: Path) -> None:
    """P13: /run or /tmp as a run directory stays usable for others; what is made below it is shut."""
    tmp_path.chmod(0o1777)
    config = replace(Config(), state_dir=tmp_path, run_dir=tmp_path)
    make_private(config)
    (tmp_path / "dumps").mkdir()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "dumps").stat().st_mode) == 0o700


class FakeSession:
    peer_name = peer_reference = "edge-b"
    rtt_s, wire_bytes_sent = 0.01, 0

    def __init__(self) -> None:
        self.heard: list[Message] = []

    async def send(self, message: Message) -> None:
        self.heard.append(message)


class FakeDialogue:
    move, epoch = MOVE, 1

    def __init__(self, session: FakeSession) -> None:
        self.session = session

    async def answer(self, _kind: type) -> Any:
        return SimpleNamespace(lacks=[], attributes={})


async def test_a_containers_environment_is_in_no_journal_event_or_log_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P13: it goes to the target, in OFFER, and nowhere else."""
    caplog.set_level(logging.DEBUG)
    host = host_in(tmp_path)
    body = {"Env": [f"PASSWORD={SECRET}"]}
    manifest = SimpleNamespace(
        request=SimpleNamespace(name="web", body=body),
        to_wire=lambda: {"request": {"body": body}},
        image=SimpleNamespace(layers=()),
        memory_bytes=1,
        page_size=4096,
    )
    container: Any = SimpleNamespace(
        id="c", name="web", init_pid=1, restart_policy={}, trees={}, volumes={}, runtime="runc", manifest=manifest
    )
    events, session = EventLog(), FakeSession()

    def sender(*_: object) -> None:
        raise SessionLost("gone")

    monkeypatch.setattr(Means, "sender", sender)
    move: Any = OutgoingMove(host, MOVE, container, PeerTarget("edge-b", ()), PolicyOptions(), events, Tally())
    monkeypatch.setattr(PeerTarget, "reference", "edge-b")
    with pytest.raises(SessionLost):
        await move._move(session, FakeDialogue(session))
    assert SECRET in repr(session.heard)
    host.journal.operations.begin(MOVE, "web", "edge-b")
    host.journal.operations.end(MOVE, MoveError("it failed").as_json())
    assert len(host.journal.all()) == 1
    host.journal.close()
    events.close()
    told = [event async for event in events.follow()]
    assert told
    for place in ((tmp_path / "state" / "journal.sqlite").read_bytes(), repr(told).encode(), caplog.text.encode()):
        assert SECRET.encode() not in place


async def test_what_is_refused_at_the_target_is_not_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P13: neither in its log and journal nor in what the source is told, and its users with it."""
    caplog.set_level(logging.DEBUG)
    host = host_in(tmp_path)
    session: Any = FakeSession()
    manifest = {"container": "web", "request": {"name": "web", "body": {"Env": [f"PASSWORD={SECRET}"]}}}
    async with asyncio.timeout(10):
        await IncomingMove(host, session, Offer(move=MOVE, epoch=1, manifest=manifest)).run()
    host.journal.close()
    assert len(session.heard) == 1
    for place in (repr(session.heard), caplog.text):
        assert SECRET not in place
    assert SECRET.encode() not in (tmp_path / "state" / "journal.sqlite").read_bytes()
