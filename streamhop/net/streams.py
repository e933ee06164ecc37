"""Streams as the rest of the daemon uses them. They belong to a :class:`.PeerSession`, which makes them."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from streamhop.telemetry.trace import Trace
from streamhop_protocol.codecs import Codec, CodecChoice, decompress
from streamhop_protocol.errors import CODES, ProtocolError, UnexpectedError
from streamhop_protocol.messages import StreamKind
from streamhop_protocol.outflow import OutgoingFrame
from streamhop_protocol.session import ChunkArrived, Session, StreamEnded, StreamOpened, StreamReset

from .errors import SessionLost
from .packing import INLINE_BYTES_MAX, CodecThreads, ContentHabit, Packed, pack_chunk, stable
from .waking import Waker

HELD_BYTES_MAX = 3 * 1024 * 1024
"""Bytes of one outgoing stream that may wait here, compressed or not, before its writer has to."""

UNPACKED_AHEAD = 2
"""Chunks of an incoming stream that are decompressed before they are asked for."""


class StreamOwner(Protocol):
    """What streams need of their session."""

    session: Session
    threads: CodecThreads
    trace: Trace | None
    """Is told what is chosen, and why; usually there is none."""

    @property
    def over(self) -> SessionLost | None:
        """Why the session is over, or None."""

    @property
    def codec_rate_bytes_per_s(self) -> float | None:
        """Rate of the link, for the choice of a codec."""

    def pump(self) -> None:
        """Let frames leave that may leave."""

    def flush_control(self) -> None:
        """Send what waits for the control connection."""

    def fail(self, error: ProtocolError) -> None:
        """End the session because of ``error``."""


def reset_error(reset: StreamReset) -> ProtocolError:
    """The error that a peer's RESET means here."""
    kind = CODES.get(reset.code, ProtocolError)
    return kind(f"the peer ended the stream ({reset.code}): {reset.reason}")


class OutgoingStream:
    """A stream to the peer. Methods may be cancelled; a chunk whose :meth:`write` was cancelled is not sent.

    One task writes at a time.
    """

    def __init__(self, owner: StreamOwner, stream: int, kind: StreamKind) -> None:
        self.kind = kind
        self.raw_bytes = 0
        """Bytes written, before compression."""
        self.wire_bytes = 0
        """Bytes that have left, with their framing."""
        self.wire_bytes_by_codec: Counter[str] = Counter()
        """The same by the codec of the chunk, ``none``, ``lz4`` or ``zstd``; what is not a chunk counts as ``none``."""
        self._owner = owner
        self._id = stream
        self._habit = ContentHabit()
        self._changed = Waker()
        self._done: dict[str, Any] | None = None
        self._error: ProtocolError | None = None
        self._ending = False

    # -- the application -------------------------------------------------------------------------------------------

    async def write(self, data: bytes | memoryview, meta: object | None = None) -> None:
        """Send one chunk. Returns once it is taken, before it has left; waits while too much of the stream does.

        The caller may reuse a mutable buffer as soon as this returns: it was copied. ``bytes`` are not copied.

        :param data: at most ``CHUNK_RAW_BYTES_MAX`` bytes; may be empty.
        :param meta: describes the chunk; whatever msgpack holds, at most ``META_BYTES_MAX``.
        :raises SessionLost: the session is over.
        :raises ProtocolError: the peer does not want the stream; data or meta too large; the stream has ended.
        """
        while True:
            self._check()
            if self._owner.session.held_bytes(self._id) < HELD_BYTES_MAX:
                break
            await self._changed.wait()
        kept = stable(data)
        chunk = self._owner.session.put_chunk(self._id, len(kept), meta)
        self.raw_bytes += len(kept)
        choice = self._habit.choose(self._owner.codec_rate_bytes_per_s)
        if self._owner.trace is not None:
            self._tell_choice(self._owner.trace, choice, len(kept))
        if len(kept) <= INLINE_BYTES_MAX or choice.codec is Codec.NONE:
            self._owner.session.fill_chunk(chunk, *pack_chunk(kept, choice))
            self._owner.pump()
            return
        packing = self._owner.threads.pack(kept, choice)

        def packed(future: asyncio.Future[Packed]) -> None:
            if self._owner.over is None and not future.cancelled():
                codec, packed_data = future.result()
                self._habit.learn(codec)
                if self._owner.trace is not None:
                    sizes = {"raw_bytes": len(kept), "packed_bytes": len(packed_data)}
                    self._owner.trace.emit("codec:packed", stream=self._id, codec=codec.name.lower(), **sizes)
                self._owner.session.fill_chunk(chunk, codec, packed_data)
                self._owner.pump()
                self._changed.wake()

        packing.add_done_callback(packed)

    def _tell_choice(self, trace: Trace, choice: CodecChoice, raw_bytes: int) -> None:
        rate = self._owner.codec_rate_bytes_per_s
        trace.emit(
            "codec:chosen",
            stream=self._id,
            kind=self.kind.value,
            raw_bytes=raw_bytes,
            rate_bytes_per_s=None if rate is None else round(rate),
            unseen=self._habit.passing,
            codec=choice.codec.name.lower(),
            level=choice.level,
        )

    def end(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Nothing more is written: the peer hears of it, and :meth:`finish` only waits. Safe to repeat.

        :raises SessionLost: the session is over.
        :raises ProtocolError: the peer does not want the stream.
        """
        self._check()
        if not self._ending:
            self._owner.session.end_stream(self._id, attributes or {})
            self._ending = True
            self._owner.pump()

    async def finish(self, attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """End the stream and wait until the peer has taken all of it; returns what it says about that.

        May be called again after it was cancelled.

        :raises SessionLost: the session is over.
        :raises ProtocolError: the peer does not want the stream.
        """
        self.end(attributes)
        while self._done is None:
            self._check()
            await self._changed.wait()
        return self._done

    async def reset(self, code: str, reason: str) -> None:
        """Give the stream up; nothing if it is over."""
        if self._owner.over is None and self._done is None and self._error is None:
            self._owner.session.reset_stream(self._id, code, reason)
            self._error = UnexpectedError(f"the stream was given up here: {reason}")
            self._owner.flush_control()
            self._changed.wake()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._done is None and self._owner.over is not None:
            raise self._owner.over

    # -- the session -----------------------------------------------------------------------------------------------

    def on_sent(self, frame: OutgoingFrame) -> None:
        """A frame has left."""
        self.wire_bytes += frame.wire_bytes
        self.wire_bytes_by_codec[(frame.codec or Codec.NONE).name.lower()] += frame.wire_bytes
        self._changed.wake()

    def on_done(self, attributes: dict[str, Any]) -> None:
        """The peer has taken everything."""
        self._done = attributes
        self._changed.wake()

    def on_reset(self, reset: StreamReset) -> None:
        """The peer does not want it."""
        self._error = reset_error(reset)
        self._changed.wake()

    def on_over(self) -> None:
        """The session is over."""
        self._changed.wake()


def _mark_seen(future: asyncio.Future[bytes | memoryview]) -> None:
    """A stream may be abandoned before its reader comes to a chunk that is broken: that is no error of its own."""
    if not future.cancelled():
        future.exception()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk as it was written."""

    meta: object
    data: bytes | memoryview


class IncomingStream:
    """A stream from the peer: iterate over its chunks, then say :meth:`done`. Methods may be cancelled.

    One task iterates at a time.
    """

    def __init__(self, owner: StreamOwner, opened: StreamOpened) -> None:
        self.kind = opened.kind
        self.attributes = opened.attributes
        self.end_attributes: dict[str, Any] = {}
        """What the peer said at the end; there after the last chunk."""
        self._owner = owner
        self._id = opened.stream
        self._chunks: deque[ChunkArrived] = deque()
        self._unpacked: deque[asyncio.Future[bytes | memoryview]] = deque()
        """Belong to the first of ``_chunks``, in order."""
        self._changed = Waker()
        self._ended = False
        self._error: ProtocolError | None = None

    # -- the application -------------------------------------------------------------------------------------------

    def __aiter__(self) -> IncomingStream:
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk.

        :raises SessionLost: the session is over, and what had arrived was taken.
        :raises ProtocolError: the peer gave the stream up, or a chunk cannot be decompressed.
        """
        while True:
            if self._error is not None:
                raise self._error
            if not self._chunks:
                if self._ended:
                    raise StopAsyncIteration
                if self._owner.over is not None:
                    raise self._owner.over
                await self._changed.wait()
                continue
            self._unpack_ahead()
            first = self._unpacked[0]
            if first.done():
                return self._take_first(first)
            await asyncio.wait({first})

    def _take_first(self, unpacked: asyncio.Future[bytes | memoryview]) -> Chunk:
        if unpacked.cancelled():
            raise self._owner.over or SessionLost("the session is over")
        try:
            data = unpacked.result()
        except ProtocolError as error:
            self._error = error
            self._owner.fail(error)
            raise
        arrived = self._chunks.popleft()
        self._unpacked.popleft()
        self._owner.session.consumed(arrived)
        self._owner.flush_control()
        return Chunk(arrived.meta, data)

    def _unpack_ahead(self) -> None:
        while len(self._unpacked) < min(UNPACKED_AHEAD, len(self._chunks)):
            chunk = self._chunks[len(self._unpacked)]
            work = functools.partial(decompress, chunk.codec, chunk.data, chunk.raw_bytes)
            if self._owner.over is None and chunk.codec is not Codec.NONE and chunk.raw_bytes > INLINE_BYTES_MAX:
                in_thread = self._owner.threads.submit(work)
                in_thread.add_done_callback(_mark_seen)
                self._unpacked.append(in_thread)
                continue
            here: asyncio.Future[bytes | memoryview] = asyncio.get_running_loop().create_future()
            try:
                here.set_result(work())
            except ProtocolError as error:
                here.set_exception(error)
                _mark_seen(here)
            self._unpacked.append(here)

    async def done(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Tell the peer that all of it was taken.

        :raises SessionLost: the session is over.
        :raises ProtocolError: the stream has not ended, or was given up.
        """
        if self._error is not None:
            raise self._error
        if self._owner.over is not None:
            raise self._owner.over
        if self._chunks:
            raise UnexpectedError("the stream was not read to its end")
        self._owner.session.done(self._id, attributes or {})
        self._owner.flush_control()

    async def reset(self, code: str, reason: str) -> None:
        """Tell the peer that the stream is not wanted; nothing if it is over."""
        if self._owner.over is None and self._error is None:
            self._owner.session.reset_stream(self._id, code, reason)
            self._error = UnexpectedError(f"the stream was refused here: {reason}")
            self._chunks.clear()
            self._owner.flush_control()
            self._changed.wake()

    # -- the session -----------------------------------------------------------------------------------------------

    def on_chunk(self, chunk: ChunkArrived) -> None:
        """A chunk is here."""
        self._chunks.append(chunk)
        self._changed.wake()

    def on_ended(self, ended: StreamEnded) -> None:
        """Everything is here."""
        self._ended = True
        self.end_attributes = ended.attributes
        self._changed.wake()

    def on_reset(self, reset: StreamReset) -> None:
        """The peer gave it up."""
        self._error = reset_error(reset)
        self._chunks.clear()
        self._changed.wake()

    def on_over(self) -> None:
        """The session is over."""
        self._changed.wake()


__all__ = ["Chunk", "IncomingStream", "OutgoingStream", "StreamOwner"]
