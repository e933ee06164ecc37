"""P10: what a hostile peer sends to a receiving daemon costs bounded memory and is written nowhere but in the spool."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from content.image_layers_support import SampleImage, layer_tar
from support.net_helpers import two_peers

from streamhop.content.image_layers import ImageAssembler
from streamhop.content.memory import PageStore
from streamhop.content.trees import HeldBlocks
from streamhop.handover.failures import first_failure
from streamhop.handover.receiving import FINAL_PARTS, Receiver
from streamhop.net import PeerSession, SessionLost
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.limits import CHUNK_RAW_BYTES_MAX
from streamhop_protocol.messages import StreamKind
from streamhop_protocol.page_batches import RAW, ZERO, ZERO_PAGES_PER_BATCH_MAX, PageRun, encode_meta

PAGE = 4096
QUOTA_BYTES = 8 << 20
GROWTH_BYTES_MAX = 128 << 20
"""What the receiver's process, which is the sender's too, may grow by: the windows of both ends, most of it."""

LAYER = layer_tar("base", b"x" * 4096)
IMAGE = SampleImage([LAYER]).classic()

Attack = Callable[[PeerSession], Coroutine[Any, Any, None]]


def listing(root: Path) -> dict[str, str]:
    """Every file below ``root`` by its content, and every link by its target; but for the move's spool."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith("state/spool/move"):
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "dir"
    return found


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.asynccontextmanager
async def receiver(tmp_path: Path) -> AsyncIterator[tuple[Receiver, Path]]:
    """A receiver with small limits, whose spool is beside files that are none of its business."""
    spool = tmp_path / "state" / "spool" / "move"
    spool.mkdir(parents=True)
    for place in ("canary", "state/canary", "state/spool/canary", "state/spool/other/files/core-1.img"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place)
    (tmp_path / "state/journal.sqlite").write_bytes(b"journal")
    layers = ImageAssembler(spool / "layers", IMAGE)
    pages = PageStore(spool / "pages", PAGE, quota_bytes=QUOTA_BYTES, index_bytes_max=1 << 20)
    lacking = frozenset({IMAGE.layers[0].digest})
    blocks = HeldBlocks(spool / "blocks", QUOTA_BYTES)
    yield Receiver(layers, lacking, pages, ("rootfs", "mount:/data"), spool, QUOTA_BYTES, blocks), spool
    pages.discard()


async def stream(session: PeerSession, kind: StreamKind, attributes: dict[str, Any], chunks: Any, **end: Any) -> None:
    """One stream, with whatever is in it."""
    out = await session.open_stream(kind, attributes)
    for data, meta in chunks:
        await out.write(data, meta)
    await out.finish(end)


def files(*names: object) -> Attack:
    """Process images by these names."""
    chunks = [(b"owned", {"name": name, "offset": 0}) for name in names]
    return lambda session: stream(session, StreamKind.FINAL, {"part": "files"}, chunks)


def memory(metas: Any, data: bytes = b"") -> Attack:
    """Batches of pages."""
    return lambda session: stream(session, StreamKind.MEMORY, {"round": 0}, ((data, meta) for meta in metas))


def zeros_everywhere() -> Any:
    """Zero pages cost nothing to send: as much address space as fits into batches, scattered, in many objects."""
    for pid in range(1, 400):
        for start in range(64):
            runs = [PageRun((start * 64 + run) << 20, 1, ZERO) for run in range(64)]
            yield encode_meta(f"pagemap-{pid}", runs)


async def trees_that_share_the_room(session: PeerSession) -> None:
    """Each tree less than all of them may have, and together more."""
    content = os.urandom(QUOTA_BYTES * 2 // 3)
    pieces = [(content[at : at + (1 << 19)], None) for at in range(0, len(content), 1 << 19)]
    for tree in ("rootfs", "mount:/data"):
        await stream(session, StreamKind.TREE, {"tree": tree, "round": 0}, pieces, digest=blake3(content).digest())


async def never_ending_tree(session: PeerSession) -> None:
    """More of a tree than it may have."""
    piece = bytes(CHUNK_RAW_BYTES_MAX)
    await stream(session, StreamKind.TREE, {"tree": "rootfs", "round": 0}, ((piece, None) for _ in range(10_000)))


async def never_ending_layer(session: PeerSession) -> None:
    """More of a layer than it said it has."""
    piece = bytes(CHUNK_RAW_BYTES_MAX)
    await stream(session, StreamKind.LAYER, {"digest": IMAGE.layers[0].digest}, ((piece, None) for _ in range(10_000)))


async def thousand_rounds_of_pages(session: PeerSession) -> None:
    """More memory than the quota, page by page at ever new places."""
    size = CHUNK_RAW_BYTES_MAX // PAGE
    metas = ((bytes(size * PAGE), encode_meta("pagemap-1", [PageRun(n * size, size, RAW)])) for n in range(10_000))
    await stream(session, StreamKind.MEMORY, {"round": 0}, metas)


ATTACKS: dict[str, Attack] = {
    "file that leads up": files("../../../canary"),
    "absolute file": files("/etc/streamhop-canary.img"),
    "file in a directory": files("a/b.img"),
    "file that hides": files(".img"),
    "no name": files(None),
    "name of 10 kB": files("a" * 10_000 + ".img"),
    "name with NUL": files("core-1\0.img"),
    "pages as a file": files("pages-1.img"),
    "file twice": files("core-1.img", "core-2.img", "core-1.img"),
    "layer not asked for": lambda s: stream(s, StreamKind.LAYER, {"digest": "sha256:" + "0" * 64}, [(b"x", None)]),
    "layer that leads up": lambda s: stream(s, StreamKind.LAYER, {"digest": "../../canary"}, [(b"x", None)]),
    "layer that never ends": never_ending_layer,
    "tree that leads up": lambda s: stream(s, StreamKind.TREE, {"tree": "../../canary"}, [(b"x", None)]),
    "tree not announced": lambda s: stream(s, StreamKind.TREE, {"tree": "mount:/dev/shm"}, [(b"x", None)]),
    "trees that share the room": trees_that_share_the_room,
    "a tree that is a list": lambda s: stream(s, StreamKind.TREE, {"tree": ["rootfs"]}, [(b"x", None)]),
    "tree that never ends": never_ending_tree,
    "object that leads up": memory([{"o": "../../canary", "r": [[0, 1, ZERO]]}]),
    "zeros everywhere": memory(zeros_everywhere()),
    "zeros without end": memory([encode_meta("pagemap-1", [PageRun(0, ZERO_PAGES_PER_BATCH_MAX, ZERO)] * 2000)]),
    "memory over the quota": thousand_rounds_of_pages,
    "no such part": lambda s: stream(s, StreamKind.FINAL, {"part": "../x"}, [(b"x", None)]),
    "a part that is a list": lambda s: stream(s, StreamKind.FINAL, {"part": ["pages"]}, [(b"x", None)]),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_it_is_refused_within_bounds_and_touches_nothing(tmp_path: Path, name: str) -> None:
    """P10: the receiver ends with a protocol error, its memory stays under a ceiling, a tree around it as it was."""
    async with receiver(tmp_path) as (receiving, spool), two_peers() as (dialer, acceptor):
        before = listing(tmp_path)
        resident = resident_bytes()
        attack = asyncio.ensure_future(ATTACKS[name](dialer))
        with pytest.raises(BaseExceptionGroup) as raised:
            await receiving.receive(acceptor)
        assert isinstance(first_failure(raised.value), ProtocolError), raised.value
        assert resident_bytes() - resident < GROWTH_BYTES_MAX
        attack.cancel()
        with contextlib.suppress(asyncio.CancelledError, SessionLost, ProtocolError):
            await attack
        assert listing(tmp_path) == before
        assert not Path("/etc/streamhop-canary.img").exists()
        used = sum(path.stat().st_blocks * 512 for path in spool.rglob("*") if path.is_file())
        assert used <= QUOTA_BYTES + CHUNK_RAW_BYTES_MAX
        assert not any(path.is_symlink() for path in spool.rglob("*"))


@pytest.mark.parametrize("part", sorted(FINAL_PARTS))
async def test_a_final_part_comes_once_and_ends_the_rounds(tmp_path: Path, part: str) -> None:
    """P10: rounds out of order: the final stage twice, or a round of memory after it."""
    for again in (StreamKind.FINAL, StreamKind.MEMORY):
        async with receiver(tmp_path / again.value) as (receiving, _), two_peers() as (dialer, acceptor):
            hearing = asyncio.ensure_future(receiving.receive(acceptor))
            await stream(dialer, StreamKind.FINAL, {"part": part}, [])
            attack = asyncio.ensure_future(stream(dialer, again, {"part": part, "round": 9}, []))
            with pytest.raises(BaseExceptionGroup) as raised:
                await hearing
            assert isinstance(first_failure(raised.value), ProtocolError)
            attack.cancel()
            with contextlib.suppress(asyncio.CancelledError, SessionLost, ProtocolError):
                await attack


async def test_final_pages_wait_for_the_rounds_before_them(tmp_path: Path) -> None:
    """A round that is on its way when the final pages come is applied before them."""
    meta = encode_meta("pagemap-1", [PageRun(5, 1, RAW)])
    async with receiver(tmp_path) as (receiving, spool), two_peers() as (dialer, acceptor):
        hearing = asyncio.ensure_future(receiving.receive(acceptor))
        late = await dialer.open_stream(StreamKind.MEMORY, {"round": 0})
        await late.write(b"old!" * (PAGE // 4), meta)
        final = asyncio.ensure_future(
            stream(dialer, StreamKind.FINAL, {"part": "pages", "rounds": 1}, [(b"new!" * (PAGE // 4), meta)])
        )
        done, _ = await asyncio.wait({final}, timeout=0.2)
        assert not done
        await late.finish({})
        await final
        hearing.cancel()
        (pages,) = (spool / "pages").glob("level-*/pages-1.img")
        with pages.open("rb") as file:
            file.seek(5 * PAGE)
            assert file.read(PAGE) == b"new!" * (PAGE // 4)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        (StreamKind.MEMORY, {"round": 2}),
        (StreamKind.MEMORY, {"round": "0"}),
        (StreamKind.MEMORY, {}),
        (StreamKind.FINAL, {"part": "pages", "rounds": 3}),
        (StreamKind.FINAL, {"part": "pages", "rounds": "1"}),
    ],
)
async def test_rounds_that_cannot_be(tmp_path: Path, kind: StreamKind, attributes: dict[str, Any]) -> None:
    async with receiver(tmp_path) as (receiving, _), two_peers() as (dialer, acceptor):
        hearing = asyncio.ensure_future(receiving.receive(acceptor))
        attack = asyncio.ensure_future(stream(dialer, kind, attributes, []))
        with pytest.raises(BaseExceptionGroup) as raised:
            await hearing
        assert isinstance(first_failure(raised.value), ProtocolError)
        attack.cancel()
        with contextlib.suppress(asyncio.CancelledError, SessionLost, ProtocolError):
            await attack


async def test_process_images_come_in_one_stream_only(tmp_path: Path) -> None:
    """What was admitted of the first must not be changed by a second that is still open."""
    async with receiver(tmp_path) as (receiving, _), two_peers() as (dialer, acceptor):
        hearing = asyncio.ensure_future(receiving.receive(acceptor))
        first = await dialer.open_stream(StreamKind.FINAL, {"part": "files"})
        await first.write(b"core", {"name": "core-1.img", "offset": 0})
        second = asyncio.ensure_future(files("core-2.img")(dialer))
        with pytest.raises(BaseExceptionGroup) as raised:
            await hearing
        assert isinstance(first_failure(raised.value), ProtocolError)
        second.cancel()
        with contextlib.suppress(asyncio.CancelledError, SessionLost, ProtocolError):
            await second


async def test_a_round_comes_once(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (receiving, _), two_peers() as (dialer, acceptor):
        hearing = asyncio.ensure_future(receiving.receive(acceptor))
        await dialer.open_stream(StreamKind.MEMORY, {"round": 0})
        await dialer.open_stream(StreamKind.MEMORY, {"round": 0})
        with pytest.raises(BaseExceptionGroup) as raised:
            await hearing
        assert isinstance(first_failure(raised.value), ProtocolError)
