"""The sending half of a session: chunks wait here until it is their turn, then leave as frames.

The most urgent stream goes first, whatever was there before it, and a chunk leaves in fragments small enough that
something more urgent can go in between. Every frame of a stream is numbered, so any payload connection may carry it.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .codecs import Codec
from .connection import encode_body
from .errors import LimitError, UnexpectedError
from .frames import FLAG_MORE, FLAG_REQUIRED, PREFIX_BYTES, STREAM_ID_MAX, FrameType, encode_head
from .limits import CHUNK_RAW_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, META_BYTES_MAX
from .messages import StreamKind
from .signals import Data, End, Open, encode_signal
from .windows import SendWindow, frame_cost_bytes
from .wirepack import pack

FRAGMENT_BYTES_MIN = 4096
"""Credit for less than this is waited out rather than spent on slivers."""

HELD_BYTES_MIN = 16 * 1024
"""A tiny chunk counts as this much of what waits, so that a bound on bytes bounds the number of chunks too."""


@dataclass(slots=True)
class OutgoingChunk:
    """A chunk in the queue. It keeps its place while it is being compressed."""

    raw_bytes: int
    meta: object
    codec: Codec | None = None
    """None until it is compressed."""
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    sent_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """Memory it takes, about."""
        left = self.raw_bytes if self.codec is None else len(self.data) - self.sent_bytes
        return max(HELD_BYTES_MIN, left)


@dataclass(frozen=True, slots=True)
class OutgoingFrame:
    """A frame to write on any payload connection: ``head``, then ``payload``."""

    stream: int
    head: bytes
    payload: memoryview
    codec: Codec | None = None
    """Of DATA; None for the others."""

    @property
    def wire_bytes(self) -> int:
        """Length on the wire."""
        return len(self.head) + len(self.payload)


@dataclass(slots=True)
class _OutStream:
    id: int
    kind: StreamKind
    opening: Open | None
    window: SendWindow = field(default_factory=SendWindow)
    seq: int = 1
    chunks: deque[OutgoingChunk] = field(default_factory=deque)
    end: Mapping[str, Any] | None = None
    ended: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.kind.priority, self.id


_NOTHING = memoryview(b"")


class SendSide:
    """All outgoing streams of one end.

    :param first_id: 1 for the dialer, 2 for the acceptor; IDs go up in steps of 2.
    :param streams_max: what the peer allows to be open at once.
    """

    def __init__(self, first_id: int, streams_max: int) -> None:
        self._next_id = first_id
        self._parity = first_id % 2
        self._streams_max = streams_max
        self._streams: dict[int, _OutStream] = {}
        self._order: list[tuple[int, int]] = []
        self._given_up: set[int] = set()
        """Reset by this side; they count as open until the peer has confirmed."""

    # -- the application -------------------------------------------------------------------------------------------

    @property
    def may_open(self) -> bool:
        """Whether the peer allows one more stream now."""
        return len(self._streams) + len(self._given_up) < self._streams_max

    def open(self, kind: StreamKind, attributes: Mapping[str, Any]) -> int:
        """Begin a stream; returns its ID.

        :raises LimitError: too many are open, or attributes too large.
        """
        if not self.may_open or self._next_id > STREAM_ID_MAX:
            raise LimitError(f"more than {self._streams_max} streams at once")
        opening = Open(kind=kind.value, attributes=dict(attributes))
        encode_body(opening, stream=self._next_id)  # fails here rather than when its turn comes
        stream = _OutStream(self._next_id, kind, opening)
        self._streams[stream.id] = stream
        bisect.insort(self._order, stream.order)
        self._next_id += 2
        return stream.id

    def put(self, stream_id: int, raw_bytes: int, meta: object) -> OutgoingChunk:
        """Give a chunk its place. It leaves once :meth:`fill` was called.

        :raises LimitError: the chunk or its meta is too large.
        :raises UnexpectedError: the stream has ended.
        """
        stream = self._open_stream(stream_id)
        if raw_bytes > CHUNK_RAW_BYTES_MAX:
            raise LimitError(f"chunk of {raw_bytes} bytes, at most {CHUNK_RAW_BYTES_MAX} allowed")
        if meta is not None and (meta_bytes := len(pack(meta))) > META_BYTES_MAX:
            raise LimitError(f"meta of {meta_bytes} bytes, at most {META_BYTES_MAX} allowed")
        chunk = OutgoingChunk(raw_bytes, meta)
        stream.chunks.append(chunk)
        return chunk

    @staticmethod
    def fill(chunk: OutgoingChunk, codec: Codec, data: bytes | memoryview) -> None:
        """The chunk is compressed and may leave. ``data`` must not change afterwards."""
        chunk.data = memoryview(data).cast("B") if data else _NOTHING
        chunk.codec = codec

    def end(self, stream_id: int, attributes: Mapping[str, Any]) -> None:
        """Nothing more follows.

        :raises UnexpectedError: the stream has ended.
        """
        stream = self._open_stream(stream_id)
        encode_body(End(seq=1, attributes=dict(attributes)), stream=stream_id)
        stream.end = dict(attributes)

    def give_up(self, stream_id: int) -> bool:
        """Forget a stream that this side resets; returns whether there was one."""
        if stream_id not in self._streams:
            return False
        self._drop(stream_id)
        self._given_up.add(stream_id)
        return True

    def _drop(self, stream_id: int) -> bool:
        self._given_up.discard(stream_id)
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._order.remove(stream.order)
        return stream is not None

    def drop_all(self) -> None:
        """Forget everything; the session is over."""
        self._streams.clear()
        self._order.clear()

    def held_bytes(self, stream_id: int) -> int:
        """Memory that the stream's chunks take, about."""
        stream = self._streams.get(stream_id)
        return sum(chunk.held_bytes for chunk in stream.chunks) if stream else 0

    def _open_stream(self, stream_id: int) -> _OutStream:
        stream = self._streams.get(stream_id)
        if stream is None or stream.end is not None:
            raise UnexpectedError(f"stream {stream_id} has ended")
        return stream

    # -- the payload connections -----------------------------------------------------------------------------------

    def next_frame(self, fragment_bytes: int) -> OutgoingFrame | None:
        """The most urgent frame that may leave now, or None.

        :param fragment_bytes: largest payload; a chunk that is larger leaves in several frames.
        """
        for _, stream_id in self._order:
            frame = self._next_of(self._streams[stream_id], min(fragment_bytes, FRAME_PAYLOAD_BYTES_MAX))
            if frame is not None:
                return frame
        return None

    def _next_of(self, stream: _OutStream, fragment_bytes: int) -> OutgoingFrame | None:
        if stream.opening is not None:
            head = encode_body(stream.opening, stream=stream.id)
            stream.opening = None
            return OutgoingFrame(stream.id, head, _NOTHING)
        if stream.chunks:
            return self._next_fragment(stream, stream.chunks[0], fragment_bytes)
        if stream.end is not None and not stream.ended:
            stream.ended = True
            head = encode_body(End(seq=stream.seq, attributes=dict(stream.end)), stream=stream.id)
            return OutgoingFrame(stream.id, head, _NOTHING)
        return None

    @staticmethod
    def _next_fragment(stream: _OutStream, chunk: OutgoingChunk, fragment_bytes: int) -> OutgoingFrame | None:
        if chunk.codec is None:
            return None
        begins = chunk.sent_bytes == 0
        data = Data(stream.seq, int(chunk.codec), chunk.raw_bytes, chunk.meta) if begins else Data(stream.seq)
        _, header = encode_signal(data)
        left = len(chunk.data) - chunk.sent_bytes
        room = stream.window.available_bytes - PREFIX_BYTES - len(header)
        size = min(left, fragment_bytes, room)
        if size < min(left, FRAGMENT_BYTES_MIN):
            return None
        cost = frame_cost_bytes(PREFIX_BYTES + len(header) + size)
        if cost > stream.window.available_bytes:
            return None
        stream.window.take(cost)
        flags = FLAG_REQUIRED if size == left else FLAG_REQUIRED | FLAG_MORE
        head = encode_head(FrameType.DATA, header, payload_bytes=size, flags=flags, stream=stream.id)
        payload = chunk.data[chunk.sent_bytes : chunk.sent_bytes + size]
        chunk.sent_bytes += size
        stream.seq += 1
        if size == left:
            stream.chunks.popleft()
        return OutgoingFrame(stream.id, head, payload, chunk.codec)

    # -- the peer --------------------------------------------------------------------------------------------------

    def on_credit(self, stream_id: int, size_bytes: int) -> bool:
        """The peer gave credit; returns whether the stream is still open.

        :raises ProtocolError: a stream that never was, or too much.
        """
        self._check_existed(stream_id)
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.window.grant(size_bytes)
        return stream is not None

    def on_done(self, stream_id: int) -> bool:
        """The peer has taken the whole stream; returns whether it was still open.

        :raises UnexpectedError: a stream that never was, or has not been sent whole.
        """
        self._check_existed(stream_id)
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ended:
            raise UnexpectedError(f"DONE for stream {stream_id}, which has not ended")
        return self._drop(stream_id)

    def on_reset(self, stream_id: int) -> bool:
        """The peer does not want the stream; returns whether it was still open.

        :raises UnexpectedError: a stream that never was.
        """
        self._check_existed(stream_id)
        return self._drop(stream_id)

    def _check_existed(self, stream_id: int) -> None:
        if stream_id % 2 != self._parity or stream_id >= self._next_id:
            raise UnexpectedError(f"stream {stream_id} was never opened")
