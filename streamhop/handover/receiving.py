"""Receives a container's content: verifies it, keeps it in the spool, applies it where it belongs as soon as it can."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from blake3 import blake3

from streamhop.content.image_layers import ImageAssembler
from streamhop.content.memory import PageStore
from streamhop.content.trees import HeldBlocks, TreeApplier
from streamhop.content.trees.held_blocks import LENGTH_BYTES, chunks_of
from streamhop.net import IncomingStream, PeerSession
from streamhop_protocol.errors import IntegrityError, LimitError, UnexpectedError
from streamhop_protocol.messages import StreamKind

from .concurrency import in_thread, in_worker

FINAL_PARTS = frozenset({"pages", "files"})
"""Parts of the final stage that come once; a final tree comes once for each tree."""

IMAGE_FILE_BYTES_MAX = 256 * 1024 * 1024
IMAGE_FILES_MAX = 16384

TREE_ROUNDS_MAX = 1000
"""Rounds of one tree; an honest source makes as many as of memory, at most 100."""


MEMORY_ROUNDS_MAX = 1000


class Receiver:
    """Everything that comes over the streams of one move.

    :param layers: takes the image's layers.
    :param pages: takes memory.
    :param trees: names of the trees that the manifest announced.
    :param files_dir: takes the process images of the final dump.
    """

    def __init__(
        self,
        layers: ImageAssembler,
        lacking: frozenset[str],
        pages: PageStore,
        trees: tuple[str, ...],
        spool: Path,
        tree_bytes_max: int,
        held_blocks: HeldBlocks,
    ) -> None:
        self._layers = layers
        self._lacking = set(lacking)
        self._pages = pages
        room = _Room(tree_bytes_max)
        self._trees = {name: _TreeQueue(held_blocks, number, room) for number, name in enumerate(trees)}
        self.files_dir = spool / "files"
        self.files_dir.mkdir(mode=0o700)
        self._files_bytes = 0
        self._final_begun: set[str] = set()
        self._final_seen: set[str] = set()
        """Parts of the final stage that are here whole."""
        self._rounds_begun: set[int] = set()
        self._memory_rounds = 0
        """Of memory, that are here whole. The next may be under way already, but counts only after them."""
        self._pages_came = asyncio.Event()
        self._changed = asyncio.Condition()

    # -- what others wait for --------------------------------------------------------------------------------------

    async def layers_complete(self) -> None:
        """Return when every lacking layer is here and verified."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._lacking)

    async def final_complete(self) -> None:
        """Return when the whole final stage is here and the trees are applied."""
        expected = FINAL_PARTS | {f"tree {name}" for name in self._trees}
        async with self._changed:
            await self._changed.wait_for(lambda: expected <= self._final_seen)
        for queue in self._trees.values():
            await queue.drained()

    async def process_images_complete(self) -> None:
        """Return when the final dump's files are here, all but memory."""
        async with self._changed:
            await self._changed.wait_for(lambda: "files" in self._final_seen)

    async def apply_trees(self, roots: Mapping[str, Path]) -> None:
        """Apply each tree's rounds, in order, below its root as they arrive; runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, queue in self._trees.items():
                group.create_task(queue.apply_to(roots[name]))

    # -- streams ---------------------------------------------------------------------------------------------------

    async def receive(self, session: PeerSession) -> None:
        """Take every stream the peer opens; runs until cancelled.

        :raises ProtocolError: a stream that was not announced, or content that is not what it claims to be.
        :raises OSError: it cannot be stored.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hash_ahead())
            while True:
                stream = await session.accept_stream()
                group.create_task(self._one(stream))

    async def _one(self, stream: IncomingStream) -> None:
        match stream.kind:
            case StreamKind.LAYER:
                await self._layer(stream)
            case StreamKind.MEMORY:
                await self._memory(stream)
            case StreamKind.TREE:
                await self._tree(stream)
            case StreamKind.FINAL:
                await self._final(stream)
            case StreamKind.HELD:
                raise UnexpectedError("a stream that only a target may open")
        await stream.done({})
        async with self._changed:
            self._changed.notify_all()

    async def _layer(self, stream: IncomingStream) -> None:
        digest = stream.attributes.get("digest")
        if not isinstance(digest, str) or digest not in self._lacking:
            raise UnexpectedError("a layer that was not asked for")
        writer = await in_worker(self._layers.blob_writer, digest)
        if stream.attributes.get("offset", 0) != writer.offset:
            raise UnexpectedError(f"a layer from another offset than the {writer.offset} bytes that are here")
        async for chunk in stream:
            await in_worker(writer.write, chunk.data)
        await in_worker(writer.commit)
        self._lacking.discard(digest)

    async def _memory(self, stream: IncomingStream) -> None:
        number = stream.attributes.get("round")
        if "pages" in self._final_seen:
            raise UnexpectedError("a round of memory after the final stage")
        if type(number) is not int or not self._memory_rounds <= number <= self._memory_rounds + 1:
            raise UnexpectedError("a round of memory out of turn")
        if number in self._rounds_begun:
            raise UnexpectedError("a round of memory came twice")
        if number >= MEMORY_ROUNDS_MAX:
            raise LimitError(f"more than {MEMORY_ROUNDS_MAX} rounds of memory")
        self._rounds_begun.add(number)
        async with self._changed:
            await self._changed.wait_for(lambda: self._memory_rounds == number)
        async for chunk in stream:
            await in_worker(self._pages.apply, chunk.meta, chunk.data)
        self._memory_rounds += 1
        self._pages_came.set()
        async with self._changed:
            self._changed.notify_all()

    async def _hash_ahead(self) -> None:
        """Take digests of pages that came, while others are on their way: less is left to do while frozen."""
        while True:
            await self._pages_came.wait()
            self._pages_came.clear()
            while await in_worker(self._pages.hash_ahead):
                continue

    async def _tree(self, stream: IncomingStream) -> None:
        name = stream.attributes.get("tree")
        if not isinstance(name, str) or name not in self._trees:
            raise UnexpectedError("a tree that was not announced")
        await self._trees[name].take(stream)

    async def _final(self, stream: IncomingStream) -> None:
        part = stream.attributes.get("part")
        if not isinstance(part, str):
            raise UnexpectedError("an unknown part of the final stage")
        if part == "tree":
            part = f"tree {stream.attributes.get('tree')}"
        # Noted before anything is waited for: of two at once, one could change what was checked of the other.
        if part in self._final_begun:
            raise UnexpectedError(f"final {part} came twice")
        self._final_begun.add(part)
        if part.startswith("tree "):
            await self._tree(stream)
        elif part == "pages":
            rounds = stream.attributes.get("rounds", 0)
            if type(rounds) is not int or not 0 <= rounds <= self._memory_rounds + 2:
                raise UnexpectedError("final pages after more rounds than there can be")
            async with self._changed:
                await self._changed.wait_for(lambda: self._memory_rounds >= rounds)
            self._pages.begin_final()
            async for chunk in stream:
                await in_worker(self._pages.apply, chunk.meta, chunk.data)
            self._pages_came.set()
        elif part == "files":
            await self._image_files(stream)
        else:
            raise UnexpectedError("an unknown part of the final stage")
        self._final_seen.add(part)

    async def _image_files(self, stream: IncomingStream) -> None:
        names: dict[str, int] = {}
        async for chunk in stream:
            meta = chunk.meta
            offset = meta.get("offset") if isinstance(meta, dict) else None
            name = self._pages.check_file_name(meta.get("name") if isinstance(meta, dict) else None)
            if type(offset) is not int or offset != names.get(name, 0):
                raise UnexpectedError(f"a piece of {name} out of order")
            names[name] = offset + len(chunk.data)
            self._files_bytes += len(chunk.data)
            if self._files_bytes > IMAGE_FILE_BYTES_MAX or len(names) > IMAGE_FILES_MAX:
                raise LimitError("the process images are too large or too many")
            await in_worker(_append, self.files_dir / name, chunk.data, new=offset == 0)


async def tell_held(session: PeerSession, pages: PageStore, blocks: HeldBlocks, seed: int) -> None:
    """Tell the source which pages, and which blocks of files, an earlier attempt has left here.

    :raises SessionLost: it went away.
    :raises OSError: they cannot be read.
    """
    stream = await session.open_stream(StreamKind.HELD, {})
    async for meta, hashes in in_thread(pages.held(seed)):
        await stream.write(hashes, meta)
    for meta, hashes in blocks.told():
        await stream.write(hashes, meta)
    await stream.finish({})


def _append(path: Path, data: bytes | memoryview, *, new: bool) -> None:
    with path.open("xb" if new else "ab") as file:
        file.write(data)


class _Room:
    """Bytes that all trees of a move may take together."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._taken = 0

    def take(self, size: int) -> None:
        """:raises LimitError: that is more than there may be."""
        self._taken += size
        if self._taken > self.bytes_max:
            raise LimitError(f"more than {self.bytes_max} bytes of files")


class _TreeQueue:
    """The rounds of one tree: spooled as they arrive, applied in order once the root is there."""

    def __init__(self, held_blocks: HeldBlocks, number: int, room: _Room) -> None:
        self._held_blocks = held_blocks
        self._number = number
        self._room = room
        self._taken = 0
        self._waiting: asyncio.Queue[Path] = asyncio.Queue()

    async def take(self, stream: IncomingStream) -> None:
        """Spool one round; the peer waits for its end before it sends the next."""
        if self._taken >= TREE_ROUNDS_MAX:
            raise LimitError(f"more than {TREE_ROUNDS_MAX} rounds of files")
        path = self._held_blocks.round_file(self._number, self._taken)
        self._taken += 1
        hasher = blake3()
        with path.open("xb") as file:
            async for chunk in stream:
                self._room.take(LENGTH_BYTES + len(chunk.data))
                hasher.update(chunk.data)
                file.write(len(chunk.data).to_bytes(LENGTH_BYTES, "big"))
                await in_worker(file.write, chunk.data)
        if stream.end_attributes.get("digest") != hasher.digest():
            raise IntegrityError("the files that arrived are not those that were sent")
        self._waiting.put_nowait(path)

    async def apply_to(self, root: Path) -> None:
        """Apply rounds below ``root`` until cancelled."""
        while True:
            path = await self._waiting.get()
            await in_worker(_apply_tree, path, root, self._room.bytes_max, self._held_blocks)
            self._waiting.task_done()

    async def drained(self) -> None:
        """Return when everything taken is applied."""
        await self._waiting.join()


def _apply_tree(path: Path, root: Path, bytes_max: int, held_blocks: HeldBlocks) -> None:
    applier = TreeApplier(root, allow_devices=False, quota_bytes=bytes_max, held_blocks=held_blocks)
    for chunk in chunks_of(path):
        applier.feed(chunk)
    applier.finish()
