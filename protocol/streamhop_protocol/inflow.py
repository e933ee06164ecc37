"""The receiving half of a session: frames arrive from several connections and leave as chunks, in order.

What a peer can make this side hold is bounded by the number of streams and by each one's credit window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from .codecs import Codec, check_codec, check_packed_bytes
from .connection import Received
from .errors import FlowError, LimitError, MalformedError, UnexpectedError
from .limits import META_BYTES_MAX, REORDER_FRAMES_MAX
from .messages import StreamKind
from .signals import Data, End, Open
from .windows import ReceiveWindow, frame_cost_bytes
from .wirepack import pack, unpack

RESETS_KEPT_MAX = 1024
"""Streams that were reset and of which late frames are still let pass."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer began a stream."""

    stream: int
    kind: StreamKind
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChunkArrived:
    """The next chunk of a stream, whole, still compressed."""

    stream: int
    codec: Codec
    raw_bytes: int
    packed_meta: bytes | None
    """msgpack. What came in few bytes may take many times as much memory, and nobody may have asked for it yet."""
    data: bytes | memoryview
    cost_bytes: int
    """Credit to give back once it is consumed."""

    @property
    def meta(self) -> object:
        """What describes the chunk; None if nothing does."""
        return None if self.packed_meta is None else unpack(self.packed_meta)


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Everything of the stream was delivered."""

    stream: int
    attributes: dict[str, Any]


StreamEvent = StreamOpened | ChunkArrived | StreamEnded


@dataclass(slots=True)
class _InStream:
    id: int
    window: ReceiveWindow
    next_seq: int = 0
    waiting: dict[int, Received] = field(default_factory=dict)
    """What came before its turn. The meta of a chunk is packed, see :attr:`ChunkArrived.packed_meta`."""
    end_seq: int | None = None
    begun: Data | None = None
    """First fragment of the chunk that is being put together."""
    parts: list[bytes | memoryview] = field(default_factory=list)
    parts_bytes: int = 0
    cost_bytes: int = 0
    ended: bool = False


class ReceiveSide:
    """All incoming streams of one end.

    :param first_id: first ID the peer uses: 1 if the peer is the dialer, 2 if it is the acceptor.
    :param streams_max: what this side allows to be open at once.
    :param new_window: makes the credit window of a stream.
    """

    def __init__(
        self, first_id: int, streams_max: int, new_window: Callable[[], ReceiveWindow] = ReceiveWindow
    ) -> None:
        self._streams: dict[int, _InStream] = {}
        self._parity = first_id % 2
        self._next_new_id = first_id
        self._unseen: set[int] = set()
        """IDs below the highest one seen whose first frame is still under way on another connection."""
        self._reset: dict[int, None] = {}
        self._streams_max = streams_max
        self._new_window = new_window

    # -- the peer --------------------------------------------------------------------------------------------------

    def receive(self, received: Received) -> list[StreamEvent]:
        """Take an OPEN, DATA or END.

        :raises ProtocolError: over its credit or any other bound, a number twice, a stream that is over.
        """
        stream = self._find(received.stream)
        if stream is None:
            return []
        body = received.body
        seq = body.seq if isinstance(body, Data | End) else 0
        if isinstance(body, Data):
            stream.window.received(frame_cost_bytes(received.wire_bytes))
            if body.meta is not None:
                packed = pack(body.meta)
                if len(packed) > META_BYTES_MAX:
                    raise LimitError(f"meta of {len(packed)} bytes, at most {META_BYTES_MAX} allowed")
                received = replace(received, body=replace(body, meta=packed))
        if seq < stream.next_seq or seq in stream.waiting:
            raise UnexpectedError(f"frame {seq} of stream {stream.id} came twice")
        if seq >= stream.next_seq + REORDER_FRAMES_MAX:
            raise FlowError(f"frame {seq} of stream {stream.id}, but frame {stream.next_seq} has not come")
        if stream.end_seq is not None and (isinstance(body, End) or seq > stream.end_seq):
            raise UnexpectedError(f"stream {stream.id} goes on after its end")
        if isinstance(body, End):
            if any(waiting > seq for waiting in stream.waiting):
                raise UnexpectedError(f"stream {stream.id} goes on after its end")
            stream.end_seq = seq
        stream.waiting[seq] = received
        events: list[StreamEvent] = []
        while (ready := stream.waiting.pop(stream.next_seq, None)) is not None:
            self._take(stream, ready, events)
            stream.next_seq += 1
        return events

    def on_reset(self, stream_id: int) -> bool:
        """The peer gave the stream up; returns whether it was open, or not yet known, here."""
        if stream_id not in self._streams and self._is_new(stream_id):
            self._find(stream_id)  # RESET came before the stream's first frame: that one must not open it any more
        return self._forget(stream_id)

    def _is_new(self, stream_id: int) -> bool:
        self._check_parity(stream_id)
        return stream_id >= self._next_new_id or stream_id in self._unseen

    def _check_parity(self, stream_id: int) -> None:
        if stream_id % 2 != self._parity:
            raise UnexpectedError(f"stream {stream_id} is not the peer's to open")

    def _find(self, stream_id: int) -> _InStream | None:
        """The stream; None if it was reset and the peer may not know yet."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream
        if not self._is_new(stream_id):
            if stream_id in self._reset:
                return None
            raise UnexpectedError(f"a frame of stream {stream_id}, which is over")
        if stream_id >= self._next_new_id:
            skipped = (stream_id - self._next_new_id) // 2
            if len(self._unseen) + len(self._streams) + skipped >= self._streams_max:
                raise LimitError(f"more than {self._streams_max} streams at once")
            self._unseen.update(range(self._next_new_id, stream_id, 2))
            self._next_new_id = stream_id + 2
        else:
            self._unseen.discard(stream_id)
        stream = self._streams[stream_id] = _InStream(stream_id, self._new_window())
        return stream

    def _take(self, stream: _InStream, received: Received, events: list[StreamEvent]) -> None:
        body = received.body
        if isinstance(body, Open):
            events.append(StreamOpened(stream.id, StreamKind(body.kind), body.attributes))
        elif isinstance(body, Data):
            chunk = self._assemble(stream, body, received)
            if chunk is not None:
                events.append(chunk)
        elif isinstance(body, End):
            if stream.begun is not None:
                raise MalformedError(f"stream {stream.id} ends in the middle of a chunk")
            stream.ended = True
            events.append(StreamEnded(stream.id, body.attributes))

    @staticmethod
    def _assemble(stream: _InStream, data: Data, received: Received) -> ChunkArrived | None:
        if (stream.begun is None) != (data.codec is not None and data.raw_bytes is not None):
            raise MalformedError(f"frame {data.seq} of stream {stream.id} begins no chunk, or one within another")
        begun = stream.begun = stream.begun or data
        stream.parts.append(received.payload)
        stream.parts_bytes += len(received.payload)
        stream.cost_bytes += frame_cost_bytes(received.wire_bytes)
        raw_bytes, codec = begun.raw_bytes or 0, check_codec(begun.codec or 0)
        if received.more:
            if not received.payload or stream.parts_bytes >= raw_bytes:
                raise LimitError(f"a chunk of {raw_bytes} bytes on stream {stream.id} goes on and on")
            return None
        check_packed_bytes(codec, stream.parts_bytes, raw_bytes)
        packed = stream.parts[0] if len(stream.parts) == 1 else b"".join(stream.parts)
        meta = begun.meta if isinstance(begun.meta, bytes) else None
        chunk = ChunkArrived(stream.id, codec, raw_bytes, meta, packed, stream.cost_bytes)
        stream.begun, stream.parts, stream.parts_bytes, stream.cost_bytes = None, [], 0, 0
        return chunk

    # -- the application -------------------------------------------------------------------------------------------

    def consumed(self, stream_id: int, cost_bytes: int) -> int:
        """A chunk was taken; returns the credit to give to the peer now, or 0."""
        stream = self._streams.get(stream_id)
        # Credit after the end would be of no use to the peer.
        return 0 if stream is None or stream.ended else stream.window.consumed(cost_bytes)

    def done(self, stream_id: int) -> None:
        """The whole stream was taken.

        :raises UnexpectedError: it was not.
        """
        stream = self._streams.get(stream_id)
        if stream is None or not stream.ended:
            raise UnexpectedError(f"stream {stream_id} has not ended")
        del self._streams[stream_id]

    def was_reset(self, stream_id: int) -> bool:
        """Whether either side ended the stream early, not too many streams ago."""
        return stream_id in self._reset

    def reset(self, stream_id: int) -> bool:
        """This side does not want the stream any more; returns whether it was open."""
        return self._forget(stream_id)

    def _forget(self, stream_id: int) -> bool:
        if self._streams.pop(stream_id, None) is None:
            return False
        self._reset[stream_id] = None
        if len(self._reset) > RESETS_KEPT_MAX:
            del self._reset[next(iter(self._reset))]
        return True

    def drop_all(self) -> None:
        """Forget everything; the session is over."""
        self._streams.clear()
