"""A session without sockets: one control connection, some payload connections, streams in both directions.

The driver hands in what its :class:`~.connection.Connection` objects decoded, asks for :meth:`Session.events`, writes
:meth:`Session.control_to_send` on the control connection whenever that has room, and :meth:`Session.next_frame` on any
payload connection that has room. Nothing that a peer does makes what waits in here grow without bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .codecs import Codec
from .connection import Received, encode_body, error_signal
from .errors import FlowError, ProtocolError, UnexpectedError
from .inflow import ChunkArrived, ReceiveSide, StreamEnded, StreamEvent, StreamOpened
from .messages import Message, MoveMessage, StreamKind
from .outflow import OutgoingChunk, OutgoingFrame, SendSide
from .signals import Bye, Credit, Data, Done, End, Error, Open, Ping, Pong, Reset

PINGS_UNANSWERED_MAX = 64
PONGS_WAITING_MAX = 16
"""Answers that wait for room on the control connection; older ones are not given, so that pings cost no memory."""

ANSWERS_WAITING_MAX = 1024
"""DONE and RESET that wait for room on the control connection. An honest peer counts a stream as open until it has
read the answer, so it never makes more than :data:`.limits.STREAMS_OPEN_MAX` wait."""


@dataclass(frozen=True, slots=True)
class MessageArrived:
    """A message for the application."""

    message: MoveMessage
    wire_bytes: int = field(default=0, compare=False)
    """Of its frame."""


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer ended a stream early."""

    stream: int
    outgoing: bool
    """It was this side's stream, and the peer does not want it."""
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class StreamDone:
    """The peer has taken the whole of an outgoing stream."""

    stream: int
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CreditArrived:
    """More of an outgoing stream may leave."""

    stream: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PongArrived:
    """A PING was answered."""

    rtt_s: float


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The peer said BYE, or ERROR with why."""

    error: Error | None = None


SessionEvent = StreamEvent | MessageArrived | StreamReset | StreamDone | CreditArrived | PongArrived | PeerLeft


class Session:
    """One end of a session whose control connection is established.

    :param dialer: whether this end is the dialer.
    :param streams_max_in: what this end allowed the peer in HELLO or WELCOME.
    :param streams_max_out: what the peer allowed this end.
    """

    def __init__(self, *, dialer: bool, streams_max_in: int, streams_max_out: int) -> None:
        self.error: ProtocolError | None = None
        self._sending = SendSide(1 if dialer else 2, streams_max_out)
        self._receiving = ReceiveSide(2 if dialer else 1, streams_max_in)
        self._outgoing_parity = 1 if dialer else 0
        self._events: list[SessionEvent] = []
        self._control: list[bytes] = []
        self._answers_waiting = 0
        self._credits: dict[int, int] = {}
        self._pongs: list[int] = []
        self._pings: dict[int, float] = {}
        self._ping_number = 0
        self._left = False

    # -- in --------------------------------------------------------------------------------------------------------

    def receive(self, received: Received, now: float) -> None:
        """Take one decoded frame from any of the session's connections.

        Never raises what a peer can cause: the first error is recorded in :attr:`error`, ERROR is queued, the rest is
        discarded.

        :param now: monotonic seconds.
        """
        if self.error is not None or self._left:
            return
        try:
            self._dispatch(received, now)
        except ProtocolError as error:
            self.fail(error)

    def events(self) -> list[SessionEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def _dispatch(self, received: Received, now: float) -> None:
        body, stream = received.body, received.stream
        match body:
            case Data() | Open() | End():
                self._events += self._receiving.receive(received)
            case MoveMessage():
                self._events.append(MessageArrived(body, received.wire_bytes))
            case Credit() | Done() | Reset():
                self._on_stream_signal(stream, body)
            case Ping():
                self._pongs = [*self._pongs[1 - PONGS_WAITING_MAX :], body.number]
            case Pong():
                sent_at = self._pings.pop(body.number, None)
                if sent_at is not None:
                    self._events.append(PongArrived(now - sent_at))
            case Bye():
                self._leave(PeerLeft())
            case Error():
                self._leave(PeerLeft(body))
            case _:
                raise UnexpectedError(f"{type(body).__name__} in an established session")

    def _on_stream_signal(self, stream: int, body: Credit | Done | Reset) -> None:
        match body:
            case Credit():
                if self._sending.on_credit(stream, body.size_bytes):
                    self._events.append(CreditArrived(stream, body.size_bytes))
            case Done():
                if self._sending.on_done(stream):
                    self._events.append(StreamDone(stream, body.attributes))
            case Reset():
                self._on_reset(stream, body)

    def _on_reset(self, stream: int, reset: Reset) -> None:
        outgoing = stream % 2 == self._outgoing_parity
        side = self._sending if outgoing else self._receiving
        if side.on_reset(stream):
            self._credits.pop(stream, None)
            if not outgoing:
                # The echo tells the sender that the stream no longer counts as open here.
                self._answer(encode_body(Reset(reset.code, ""), stream=stream))
            self._events.append(StreamReset(stream, outgoing, reset.code, reset.reason))

    def _answer(self, frame: bytes) -> None:
        """Queue what answers a frame of a stream.

        :raises FlowError: the peer goes on and on and does not read its answers.
        """
        self._answers_waiting += 1
        if self._answers_waiting > ANSWERS_WAITING_MAX:
            raise FlowError(f"more than {ANSWERS_WAITING_MAX} answers about streams wait for the peer to read them")
        self._control.append(frame)

    def _leave(self, event: PeerLeft) -> None:
        self._left = True
        self._sending.drop_all()
        self._events.append(event)

    # -- the application -------------------------------------------------------------------------------------------

    @property
    def may_open(self) -> bool:
        """Whether the peer allows one more stream now."""
        return self._sending.may_open

    def open_stream(self, kind: StreamKind, attributes: Mapping[str, Any]) -> int:
        """Begin a stream; returns its ID. See :meth:`.SendSide.open`."""
        return self._sending.open(kind, attributes)

    def put_chunk(self, stream: int, raw_bytes: int, meta: object) -> OutgoingChunk:
        """Give a chunk its place in a stream; it leaves after :meth:`fill_chunk`. See :meth:`.SendSide.put`."""
        return self._sending.put(stream, raw_bytes, meta)

    def fill_chunk(self, chunk: OutgoingChunk, codec: Codec, data: bytes | memoryview) -> None:
        """The chunk is compressed and may leave. ``data`` must not change afterwards."""
        self._sending.fill(chunk, codec, data)

    def end_stream(self, stream: int, attributes: Mapping[str, Any]) -> None:
        """Nothing more follows on an outgoing stream. See :meth:`.SendSide.end`."""
        self._sending.end(stream, attributes)

    def held_bytes(self, stream: int) -> int:
        """Memory that the chunks of an outgoing stream take, about."""
        return self._sending.held_bytes(stream)

    def reset_stream(self, stream: int, code: str, reason: str) -> None:
        """End a stream of either direction early; nothing if it is over."""
        frame = encode_body(Reset(code, reason), stream=stream)
        side_drops = self._sending.give_up if stream % 2 == self._outgoing_parity else self._receiving.reset
        if side_drops(stream):
            self._credits.pop(stream, None)
            self._control.append(frame)

    def consumed(self, chunk: ChunkArrived) -> None:
        """The application took a chunk: give the peer its credit back."""
        granted = self._receiving.consumed(chunk.stream, chunk.cost_bytes)
        if granted:
            self._credits[chunk.stream] = self._credits.get(chunk.stream, 0) + granted

    def done(self, stream: int, attributes: Mapping[str, Any]) -> None:
        """The application took all of an incoming stream.

        :raises UnexpectedError: the stream has not ended.
        """
        frame = encode_body(Done(dict(attributes)), stream=stream)
        self._receiving.done(stream)
        self._credits.pop(stream, None)
        try:
            self._answer(frame)
        except FlowError as error:
            self.fail(error)

    def send(self, message: Message) -> None:
        """Queue a message.

        :raises ProtocolError: a field that the peer would refuse.
        """
        self._control.append(encode_body(message))

    def ping(self, now: float) -> None:
        """Queue a PING; its answer comes as :class:`PongArrived`."""
        while len(self._pings) >= PINGS_UNANSWERED_MAX:
            del self._pings[next(iter(self._pings))]
        self._ping_number += 1
        self._pings[self._ping_number] = now
        self._control.append(encode_body(Ping(self._ping_number)))

    def bye(self) -> None:
        """Queue BYE; streams that have not ended are given up."""
        self._sending.drop_all()
        self._receiving.drop_all()
        self._credits.clear()
        self._control.append(encode_body(Bye()))

    def fail(self, error: ProtocolError) -> None:
        """End the session because of ``error``: record it, tell the peer, discard the rest."""
        if self.error is None:
            self.error = error
            self._sending.drop_all()
            self._control.append(encode_body(error_signal(error)))

    # -- out -------------------------------------------------------------------------------------------------------

    def control_to_send(self) -> bytes:
        """What has to go out on the control connection, and is taken as gone."""
        out = [encode_body(Pong(number)) for number in self._pongs]
        out += [encode_body(Credit(size), stream=stream) for stream, size in self._credits.items()]
        out += self._control
        self._pongs, self._credits, self._control = [], {}, []
        self._answers_waiting = 0
        return b"".join(out)

    def next_frame(self, fragment_bytes: int) -> OutgoingFrame | None:
        """The most urgent frame for a payload connection, or None. See :meth:`.SendSide.next_frame`."""
        return self._sending.next_frame(fragment_bytes)


__all__ = [
    "ChunkArrived",
    "CreditArrived",
    "MessageArrived",
    "PeerLeft",
    "PongArrived",
    "Session",
    "SessionEvent",
    "StreamDone",
    "StreamEnded",
    "StreamOpened",
    "StreamReset",
]
