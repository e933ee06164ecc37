"""Sends a container's content over a session: layers once, memory and trees in rounds, then the last difference."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamhop.content.image_layers import ImageDescription, read_layers
from streamhop.content.memory import BatchSpool, FinalImage, MemorySource, RoundStats, SpooledBatch
from streamhop.content.trees import TreeScanner, shared_mapped_files
from streamhop.content.trees.held_blocks import BLOCKS_MAX
from streamhop.engine.docker import Engine
from streamhop.engine.host_memory import available_memory_bytes
from streamhop.engine.processes import ProcessRef
from streamhop.net import OutgoingStream, PeerSession
from streamhop.telemetry.events import EventLog
from streamhop_protocol.errors import LimitError, ProtocolError, UnexpectedError
from streamhop_protocol.held_pages import HeldPages, decode_held
from streamhop_protocol.messages import StreamKind

from .concurrency import ThreadFeed, cancelled_once, in_thread, in_worker
from .manifest import ROOTFS_TREE, SHM_TREE
from .precopy import RoundSize
from .report import Tally

PROGRESS_INTERVAL_S = 0.25
"""How often a stream tells how far it is."""

KEPT_SHARE_MAX = 0.25
"""Of the memory that the host has to spare: what pages may take that are kept to send differences to them."""

DIFFERENCES_BYTES_PER_S_MAX = 1e9 / 8
"""On a faster link pages are not kept: sending them whole takes no longer than finding what has changed in them."""

IMAGE_FILE_CHUNK_BYTES = 256 * 1024


class Sender:
    """Everything that goes over the streams of one move."""

    def __init__(
        self, session: PeerSession, engine: Engine, seed: int, trees: Mapping[str, Path], tally: Tally, events: EventLog
    ) -> None:
        self._session = session
        self._engine = engine
        self._memory = MemorySource(seed=seed, sent_bytes_max=int(KEPT_SHARE_MAX * available_memory_bytes()))
        self._held_blocks: set[bytes] = set()
        self._trees = {
            name: TreeScanner(root, overlay_upper=name == ROOTFS_TREE, held_blocks=self._held_blocks)
            for name, root in trees.items()
        }
        self._trees_under_way: asyncio.Task[int] | None = None
        self._rounds = 0
        """Of memory, begun so far."""
        self._spool: BatchSpool | None = None
        """Of what is sent while frozen."""
        self._tally = tally
        self._events = events

    def close(self) -> None:
        """Give back what was kept; call it when nothing is sent any more. Safe to repeat."""
        self._memory.close()
        if self._spool is not None:
            self._spool.close()

    # -- one stream ------------------------------------------------------------------------------------------------

    async def _open(self, kind: StreamKind, label: str, counted_as: str, **attributes: object) -> _CountedStream:
        stream = await self._session.open_stream(kind, attributes)
        return _CountedStream(stream, label, counted_as, self._tally, self._events)

    # -- layers ----------------------------------------------------------------------------------------------------

    async def layers(self, image: ImageDescription, wanted: frozenset[str], offsets: Mapping[str, int]) -> None:
        """Send the blobs in ``wanted``; returns when the target has verified each.

        :param offsets: bytes of some of them that the target has already.
        """
        if not wanted:
            return
        sizes = {layer.digest: layer.size for layer in image.layers}
        async for digest, content in read_layers(self._engine, image, wanted):
            skip = offsets.get(digest, 0)
            stream = await self._open(
                StreamKind.LAYER, f"layer {digest.removeprefix('sha256:')[:12]}", "layers", digest=digest, offset=skip
            )
            stream.total_bytes = sizes[digest] - skip
            async for data in content:
                if skip < len(data):
                    await stream.write(data[skip:])
                skip = max(0, skip - len(data))
            await stream.finish()

    # -- what is there already -------------------------------------------------------------------------------------

    async def learn_held(self, page_size: int) -> None:
        """Hear the target out about pages and blocks that it has from an earlier attempt.

        :raises ProtocolError: it says something else.
        """
        stream = await self._session.accept_stream()
        if stream.kind is not StreamKind.HELD:
            raise UnexpectedError(f"a stream of {stream.kind.value} instead of what the target holds")
        async for chunk in stream:
            held = decode_held(chunk.meta, chunk.data, page_size)
            if isinstance(held, HeldPages):
                await asyncio.to_thread(self._memory.learn, held)
                self._tally.pages_held += sum(count for _, count in held.runs)
            else:
                self._held_blocks.update(held.hashes)
                self._tally.blocks_held += len(held.hashes)
                if len(self._held_blocks) > BLOCKS_MAX:
                    raise LimitError(f"more than {BLOCKS_MAX} blocks that are held")
        await stream.done({})

    # -- rounds ----------------------------------------------------------------------------------------------------

    async def round(
        self, number: int, processes: Sequence[ProcessRef], memory_bytes: int, group: asyncio.TaskGroup
    ) -> asyncio.Task[RoundSize]:
        """One pass over memory and trees while the container runs; returns when its memory is on its way.

        :param group: owns what goes on after that.
        :returns: ends when the target holds all of the round.
        """
        self._trees_under_way = trees = group.create_task(
            self._next_tree_round(self._trees_under_way, number, processes)
        )
        stream = await self._open(StreamKind.MEMORY, "memory", "memory_precopy", round=number)
        self._rounds = number + 1
        stream.total_bytes = memory_bytes if number == 0 else None
        async for batch in in_thread(self._memory.round(processes)):
            await stream.write(batch.data, batch.meta)
            link_bytes_per_s = self._session.codec_rate_bytes_per_s
            self._memory.keeps_sent = link_bytes_per_s is None or link_bytes_per_s < DIFFERENCES_BYTES_PER_S_MAX
        return group.create_task(self._arrival(stream, self._memory.last_round, trees))

    def cut_round(self) -> None:
        """End the reading of memory in the round under way early."""
        self._memory.cut_round()

    @staticmethod
    async def _arrival(stream: _CountedStream, stats: RoundStats, trees: asyncio.Task[int]) -> RoundSize:
        await stream.finish()
        return RoundSize(
            pages=stats.changed_pages,
            deferred_pages=stats.deferred_pages,
            raw_bytes=stream.raw_bytes,
            wire_bytes=stream.wire_bytes + await trees,
        )

    async def _next_tree_round(
        self, before: asyncio.Task[int] | None, number: int, processes: Sequence[ProcessRef]
    ) -> int:
        """As :meth:`_tree_round`, once the round before has arrived: a tree's rounds do not overtake each other."""
        if before is not None:
            await before
        return await self._tree_round(number, processes)

    async def _tree_round(self, number: int, processes: Sequence[ProcessRef], *, final: bool = False) -> int:
        """Send what changed in every tree; returns the bytes on the wire."""
        mapped = await asyncio.to_thread(shared_mapped_files, [p.host_pid for p in processes], self._trees)
        wire_bytes = 0
        for name, scanner in self._trees.items():
            changes = await asyncio.to_thread(scanner.scan, mapped.get(name, frozenset()))
            if changes.empty and not final:
                continue
            kind = StreamKind.FINAL if final else StreamKind.TREE
            attributes = {"part": "tree"} if final else {"round": number}
            stream = await self._open(kind, f"tree {name}", _counted_as(name), tree=name, **attributes)
            async for chunk in in_thread(changes.chunks()):
                await stream.write(chunk)
            await stream.finish(digest=changes.digest)
            wire_bytes += stream.wire_bytes
        return wire_bytes

    # -- while frozen ----------------------------------------------------------------------------------------------

    async def final_trees(self, processes: Sequence[ProcessRef]) -> None:
        """Send the last changes of every tree; the container must be frozen."""
        await self._tree_round(0, processes, final=True)

    async def final_memory(
        self,
        dump: Callable[[], Coroutine[Any, Any, None]],
        pages: socket.socket,
        image_dir: Path,
        group: asyncio.TaskGroup,
    ) -> bytes:
        """Have the dump made and send what of it the target does not hold; returns the image's digest.

        :param dump: makes it, with all but the pages in ``image_dir``.
        :param pages: where CRIU sends these.
        :param group: owns the sending, which may not have ended yet.
        """
        final = self._memory.final(image_dir)
        self._spool = BatchSpool(image_dir.parent)
        # Before CRIU begins: it must find somebody who listens, and be heard out, or it would hang in the processes.
        changed = ThreadFeed(self._spool.keep(final.take(pages)))
        try:
            group.create_task(self._final_pages(changed))
            # What is not wanted any more is not to be looked at either: CRIU comes to its end all the sooner.
            await cancelled_once(dump(), final.give_up)
            await changed.ended()
        except BaseException:
            final.give_up()
            with contextlib.suppress(ProtocolError, OSError):  # what failed first is what is told
                await changed.ended()
            raise
        files = await self._final_files(final)
        group.create_task(files.finish())
        return await in_worker(final.digest)

    async def _final_pages(self, changed: ThreadFeed[SpooledBatch]) -> None:
        stream = await self._open(StreamKind.FINAL, "final memory", "memory_final", part="pages", rounds=self._rounds)
        async for batch in changed.items():
            await stream.write(await in_worker(batch.load), batch.meta)
        await changed.ended()
        await stream.finish()

    async def _final_files(self, final: FinalImage) -> _CountedStream:
        stream = await self._open(StreamKind.FINAL, "process images", "memory_final", part="files")
        async for path, content in in_thread((path, path.read_bytes()) for path in final.image_files()):
            for offset in range(0, max(1, len(content)), IMAGE_FILE_CHUNK_BYTES):
                piece = content[offset : offset + IMAGE_FILE_CHUNK_BYTES]
                await stream.write(piece, {"name": path.name, "offset": offset})
        stream.end()
        return stream


def _counted_as(tree: str) -> str:
    return "writable_layer" if tree in (ROOTFS_TREE, SHM_TREE) else "volumes"


class _CountedStream:
    """An outgoing stream that tells its progress and adds itself to the tally when it ends."""

    def __init__(self, stream: OutgoingStream, label: str, counted_as: str, tally: Tally, events: EventLog) -> None:
        self._stream = stream
        self._label = label
        self._counted_as = counted_as
        self._tally = tally
        self._events = events
        self._told_at = 0.0
        self.total_bytes: int | None = None

    @property
    def raw_bytes(self) -> int:
        """Bytes written, before compression."""
        return self._stream.raw_bytes

    @property
    def wire_bytes(self) -> int:
        """Bytes written, as they are on the wire."""
        return self._stream.wire_bytes

    async def write(self, data: bytes | memoryview, meta: object | None = None) -> None:
        """Send one chunk; waits for credit."""
        await self._stream.write(data, meta)
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_INTERVAL_S:
            self._told_at = now
            self._events.emit(
                "progress",
                stream=self._label,
                raw_bytes=self.raw_bytes,
                wire_bytes=self.wire_bytes,
                total_bytes=self.total_bytes,
            )

    def end(self, **attributes: object) -> None:
        """Nothing more comes; :meth:`finish` waits until the target has all of it."""
        self._stream.end(attributes)

    async def finish(self, **attributes: object) -> None:
        """End the stream and wait until the target has accepted all of it."""
        await self._stream.finish(attributes)
        self._tally.wire_by_kind[self._counted_as] += self.wire_bytes
        self._tally.wire_by_codec.update(self._stream.wire_bytes_by_codec)
        self._events.emit("stream_finished", stream=self._label, raw_bytes=self.raw_bytes, wire_bytes=self.wire_bytes)
