"""All content of one move, as the streams bring it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from blake3 import blake3

from fuzz.target import Target, packed, unpacked
from fuzz.targets.images import CLASSIC, LAYER, digest
from fuzz.targets.memory import PAGE, QUOTA_BYTES
from fuzz.targets.scratch import scratch
from fuzz.targets.trees import content, entry
from streamhop.content.image_layers import ImageAssembler
from streamhop.content.memory import PageStore
from streamhop.content.memory.criu_pagemap import PRESENT, PagemapEntry, encode_pagemap
from streamhop.content.trees import HeldBlocks
from streamhop.handover import receiving
from streamhop.handover.failures import EXPECTED
from streamhop.handover.manifest import ROOTFS_TREE
from streamhop.handover.receiving import Receiver
from streamhop.net.streams import Chunk
from streamhop_protocol.limits import STREAMS_DEFAULT
from streamhop_protocol.messages import StreamKind
from streamhop_protocol.page_batches import RAW, PageRun, encode_meta

KINDS = tuple(StreamKind)
_LOOP = asyncio.new_event_loop()


class _Stream:
    """A stream whose chunks are there already."""

    def __init__(self, kind: StreamKind, attributes: dict[str, Any], chunks: list[Chunk], end: dict[str, Any]) -> None:
        self.kind = kind
        self.attributes = attributes
        self.end_attributes = end
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        for chunk in self._chunks:
            yield chunk

    async def done(self, attributes: object) -> None:
        pass


async def _here(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Instead of a worker thread: coverage is counted in the thread that runs the input."""
    return function(*args, **kwargs)


def _streams(case: object) -> Iterator[_Stream]:
    for item in case if isinstance(case, list) else ():
        match item:
            case [int(kind), dict(attributes), list(chunks), dict(end)]:
                pairs = [Chunk(pair[0], pair[1]) for pair in chunks if _is_pair(pair)]
                yield _Stream(KINDS[kind % len(KINDS)], attributes, pairs, end)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], bytes)


def run_receiving(data: bytes) -> None:
    """``[[kind, attributes, [[meta, data], ...], attributes of the end], ...]``: one stream after the other."""
    streams = list(_streams(unpacked(data)))[:STREAMS_DEFAULT]
    with scratch() as directory:
        pages = PageStore(directory / "pages", PAGE, quota_bytes=QUOTA_BYTES)
        layers = ImageAssembler(directory / "layers", CLASSIC)
        lacking = frozenset(layer.digest for layer in CLASSIC.layers)
        root = directory / "root"
        root.mkdir()
        spool = directory / "spool"
        spool.mkdir()
        blocks = HeldBlocks(spool / "blocks", QUOTA_BYTES)
        receiver = Receiver(layers, lacking, pages, (ROOTFS_TREE,), spool, QUOTA_BYTES, blocks)

        async def receive() -> None:
            for stream in streams:
                await receiver._one(stream)  # type: ignore[arg-type]
            queue = receiver._trees[ROOTFS_TREE]
            while not queue._waiting.empty():
                receiving._apply_tree(queue._waiting.get_nowait(), root, QUOTA_BYTES, blocks)
            pages.assemble(directory / "image", receiver.files_dir)

        before, receiving.in_worker = receiving.in_worker, _here
        try:
            _LOOP.run_until_complete(receive())
        finally:
            receiving.in_worker = before
            pages.discard()


def stream(kind: StreamKind, chunks: list[list[object]], **attributes: object) -> list[object]:
    """A stream of an input; a tree's end has the digest of its chunks."""
    end: dict[str, object] = {}
    if "tree" in attributes:
        hasher = blake3()
        for _meta, data in chunks:
            hasher.update(data)  # type: ignore[arg-type]
        end = {"digest": hasher.digest()}
    return [KINDS.index(kind), attributes, chunks, end]


def _seeds() -> Iterator[bytes]:
    batch = [encode_meta("pagemap-1", [PageRun(16, 1, RAW)]), bytes(PAGE)]
    tree = [[None, entry(b"f", size=3) + content(0, b"abc")]]
    pagemap = encode_pagemap(1, [PagemapEntry(16, 1, PRESENT)], PAGE)
    files = [[{"name": "pagemap-1.img", "offset": 0}, pagemap], [{"name": "core-1.img", "offset": 0}, b"core"]]
    whole = [
        stream(StreamKind.LAYER, [[None, LAYER]], digest=digest(LAYER)),
        stream(StreamKind.MEMORY, [batch]),
        stream(StreamKind.TREE, tree, tree=ROOTFS_TREE),
        stream(StreamKind.FINAL, [batch], part="pages"),
        stream(StreamKind.FINAL, files, part="files"),
        stream(StreamKind.FINAL, [], part="tree", tree=ROOTFS_TREE),
    ]
    yield packed(whole)
    for one in whole:
        yield packed([one])


TARGETS = {"receiving": Target(run_receiving, _seeds, EXPECTED)}
