"""P4: a bit flipped anywhere on the way ends the move before the container is started, with the integrity error."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from content.image_layers_support import SampleImage, layer_tar
from content.memory.memory_support import PAGE, digest_of, mm_image, page, write_dump
from handover_support import MOVE, POLICY, FakeEngine, host_with
from support.net_helpers import two_peers
from support.process_images import WIDE, Images, config

from streamhop.content.image_layers import ImageAssembler
from streamhop.content.memory import PageStore
from streamhop.content.trees import HeldBlocks
from streamhop.handover.errors import from_peer
from streamhop.handover.incoming import IncomingMove
from streamhop.handover.journal import Journal
from streamhop.handover.receiving import Receiver
from streamhop.handover.states import Role, State
from streamhop.net import PeerSession, SessionLost
from streamhop_protocol.messages import Failed, Message, Offer, Prepare, Prepared, Ready, Release, Started, StreamKind
from streamhop_protocol.page_batches import RAW, PageRun, encode_meta
from streamhop_protocol.tree_entries import EntryRecord, EntryType
from streamhop_protocol.tree_records import encode_entry

LAYER = layer_tar("base", b"content")
IMAGE = SampleImage([LAYER]).classic()
DIRECTORY = encode_entry(
    EntryRecord(path=b"made", type=EntryType.DIRECTORY, fresh=True, mode=0o755, uid=0, gid=0, mtime_ns=0)
)
EARLY, LATE = 0x10, 0x11
"""Pages sent in a round, and while frozen."""


def flipped(data: bytes) -> bytes:
    """``data`` with one bit changed, in its middle."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


@dataclass
class Pending:
    """The restore as the runtime would do it; notes what it was asked for."""

    bundle_dir: Path
    asked: list[str] = field(default_factory=list)
    starting: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def bundle(self) -> Any:
        return SimpleNamespace(path=self.bundle_dir)

    async def get_ready(self, image: Path, work: Path, launchers: Path, tcp: str, logs: Path) -> None:
        self.asked.append("ready")

    async def fail(self) -> None:
        await asyncio.Event().wait()

    async def begin(self, *, network_first: bool) -> None:
        self.asked.append("begin")

    async def complete(self) -> None:
        self.asked.append("complete")

    async def restored(self) -> dict[str, float]:
        return {}

    async def go(self) -> None:
        self.asked.append("go")
        self.starting.set_result(None)

    async def refuse(self, reason: str) -> None:
        if not self.starting.done():
            self.starting.set_exception(RuntimeError(reason))

    def discard(self) -> None:
        pass


class Target:
    """The receiving side, real but for Docker and the runtime."""

    def __init__(self, session: PeerSession, journal: Journal, tmp_path: Path) -> None:
        self.session, self.journal, self.root = session, journal, tmp_path / "root"
        self.root.mkdir()
        (tmp_path / "config.json").write_text(json.dumps(config()))
        self.pending = Pending(tmp_path)
        host = host_with(FakeEngine("gone"), journal, tmp_path)
        self.move: Any = IncomingMove(host, session, Offer(move=MOVE, epoch=1, manifest={}))
        self.move._admit, self.move._warm_up = self._admit, self._warm_up

    async def _admit(self) -> Any:
        spool = self.move._spool
        spool.mkdir(parents=True)
        self.move._layers = ImageAssembler(spool / "layers", IMAGE)
        self.move._pages = PageStore(spool / "pages", PAGE, quota_bytes=1 << 20)
        lacking = frozenset({IMAGE.layers[0].digest})
        blocks = HeldBlocks(spool / "blocks", 1 << 20)
        layers, pages = self.move._layers, self.move._pages
        self.move._receiver = Receiver(layers, lacking, pages, ("rootfs",), spool, 1 << 20, blocks)
        await self.move._journal.enter(State.RECEIVING, restart_policy=POLICY)
        return SimpleNamespace(descriptors=())

    async def _warm_up(self, manifest: object) -> Any:
        await self.move._receiver.layers_complete()
        await self.move._journal.note(container="c", image_loaded={})
        self.move._pending, self.move._starting = self.pending, self.pending.starting
        return self.pending, {"rootfs": self.root}

    async def run(self) -> None:
        """See the move through; returns at its end."""
        hearing = asyncio.ensure_future(self._hear())
        await self.move.run()
        hearing.cancel()

    async def _hear(self) -> None:
        with contextlib.suppress(SessionLost):
            while True:
                self.move.take(self.session, await self.session.receive())


@dataclass
class Source:
    """Sends a container; what is named in ``flip`` goes out with one bit changed."""

    session: PeerSession
    dump: Path
    flip: str
    heard: list[Message] = field(default_factory=list)

    def _spoilt(self, name: str, data: bytes) -> bytes:
        return flipped(data) if name == self.flip else data

    async def run(self) -> None:
        """The whole of it, or until the target has had enough."""
        with contextlib.suppress(SessionLost):
            await self._stream(
                StreamKind.LAYER, {"digest": IMAGE.layers[0].digest}, [(self._spoilt("layer", LAYER), None)]
            )
            await self._hear(Ready)
            await self._stream(StreamKind.MEMORY, {"round": 0}, [self._page("memory", EARLY)])
            await self._tree("tree", StreamKind.TREE, {"round": 0})
            digest = digest_of(self.dump)
            await self.session.send(Prepare(move=MOVE, epoch=1, image_digest=self._spoilt("PREPARE", digest)))
            await self._tree("final tree", StreamKind.FINAL, {"part": "tree"})
            await self._stream(StreamKind.FINAL, {"part": "pages"}, [self._page("final pages", LATE)])
            names = [path.name for path in sorted(self.dump.iterdir()) if not path.name.startswith("pages-")]
            files = [(self._spoilt(n, (self.dump / n).read_bytes()), {"name": n, "offset": 0}) for n in names]
            await self._stream(StreamKind.FINAL, {"part": "files"}, files)
            await self._hear(Prepared)
            await self.session.send(Release(move=MOVE, epoch=1, image_digest=self._spoilt("RELEASE", digest)))
            await self._hear(Started)

    def _page(self, name: str, index: int) -> tuple[bytes, object]:
        return self._spoilt(name, page(index)), encode_meta("pagemap-1", [PageRun(index, 1, RAW)])

    async def _tree(self, name: str, kind: StreamKind, attributes: dict[str, Any]) -> None:
        end = {"digest": blake3(DIRECTORY).digest()}
        await self._stream(kind, attributes | {"tree": "rootfs"}, [(self._spoilt(name, DIRECTORY), None)], end)

    async def _stream(
        self, kind: StreamKind, attributes: dict[str, Any], chunks: list[tuple[bytes, object]], end: Any = None
    ) -> None:
        stream = await self.session.open_stream(kind, attributes)
        for data, meta in chunks:
            await stream.write(data, meta)
        await self._or_failed(stream.finish(end or {}))

    async def _hear(self, kind: type[Message]) -> None:
        while not self.heard or not isinstance(self.heard[-1], kind):
            await self._next()

    async def _next(self) -> None:
        self.heard.append(await self.session.receive())
        if isinstance(self.heard[-1], Failed):
            raise SessionLost("the target gave up")

    async def _or_failed(self, work: Any) -> None:
        """``work``, unless the target says before that it has failed."""
        working, hearing = asyncio.ensure_future(work), asyncio.ensure_future(self._next())
        await asyncio.wait({working, hearing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (working, hearing):
            task.cancel()
        for outcome in await asyncio.gather(working, hearing, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def dump_of(images: Images, directory: Path) -> Path:
    """A dump of a container with two pages."""
    images.raw = {"mm-1.img": mm_image(), "mm-7.img": mm_image(), "descriptors.json": b"[]"}
    images.write(directory)
    write_dump(directory, {"pagemap-1": {EARLY: page(EARLY), LATE: page(LATE)}})
    return directory


@contextlib.asynccontextmanager
async def moved(
    journal: Journal, tmp_path: Path, flip: str = "", images: Images | None = None
) -> AsyncIterator[tuple[Target, Source]]:
    """Both ends, after a move that went as far as it could."""
    async with two_peers() as (dialer, acceptor):
        target = Target(acceptor, journal, tmp_path)
        source = Source(dialer, dump_of(images or Images(), tmp_path / "dump"), flip)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(target.run())
            group.create_task(source.run())
            await running
        yield target, source


def state_at(journal: Journal) -> State:
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    return record.state


async def test_what_arrives_as_it_was_sent_starts(journal: Journal, tmp_path: Path) -> None:
    """P4, the other half: without a flipped bit the same move starts the container."""
    async with moved(journal, tmp_path) as (target, _):
        assert target.pending.asked == ["ready", "begin", "complete", "go"]
        assert (target.root / "made").is_dir()


FLIPPED = ["layer", "memory", "tree", "PREPARE", "final tree", "final pages", "core-1.img", "pagemap-1.img", "RELEASE"]


@pytest.mark.parametrize("flip", FLIPPED)
async def test_a_flipped_bit_and_it_is_never_started(journal: Journal, tmp_path: Path, flip: str) -> None:
    """P4: one bit, in each kind of content and in each digest that the source states."""
    async with moved(journal, tmp_path, flip) as (target, source):
        assert "go" not in target.pending.asked
        assert ("complete" in target.pending.asked) == (flip == "RELEASE")
        assert state_at(journal) in (State.ABORTED, State.REFUSED)
        failed = source.heard[-1] if source.heard else None
        if not isinstance(failed, Failed):
            failed = await source.session.receive()
        assert isinstance(failed, Failed)
        if flip != "pagemap-1.img":  # which may be no pagemap any more, and says that
            assert from_peer(failed.code, failed.reason, failed.fix).exit_code == 15, failed
        assert not (tmp_path / "spool").exists() or not list((tmp_path / "spool").iterdir())


async def test_images_that_ask_for_more_than_was_granted_never_reach_criu(journal: Journal, tmp_path: Path) -> None:
    """P12: intact, as dumped, and yet not restored: every process may make any system call."""
    images = Images()
    images.files["seccomp"][0][1] = [{1: WIDE, 3: 1}]
    async with moved(journal, tmp_path, images=images) as (target, source):
        assert target.pending.asked == ["ready"]
        failed = source.heard[-1]
        assert isinstance(failed, Failed)
        assert from_peer(failed.code, failed.reason, failed.fix).exit_code == 13
        assert "system call filter" in failed.reason
