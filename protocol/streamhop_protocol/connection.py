"""One TCP connection without the TCP: preamble, frames, and who may say what when.

Three verbs: :meth:`Connection.receive_data` takes what arrived, :meth:`Connection.events` says what it meant,
:meth:`Connection.data_to_send` gives what has to go out. Who can choose where arriving bytes are put calls
:meth:`Connection.room` and :meth:`Connection.received` instead of the first, which saves a copy. The first error is
recorded in :attr:`Connection.error`, an ERROR frame is queued where the peer can read one, and everything that arrives
later is discarded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .errors import MalformedError, ProtocolError, TruncatedError, UnexpectedError, VersionError
from .frames import FLAG_MORE, FLAG_REQUIRED, PREAMBLE, Frame, FrameReader, FrameType, encode_frame, is_message
from .limits import CONTROL_TEXT_BYTES_MAX
from .messages import Message, MoveMessage, decode_message, encode_message
from .signals import Error, Hello, Join, Joined, Signal, Welcome, decode_signal, encode_signal

VERSION_MIN = 1
VERSION_MAX = 1
"""Versions of the protocol that this code speaks."""


class Phase(Enum):
    """How far a connection has come, and what it is for."""

    AWAIT_FIRST = "await first"
    """Acceptor: HELLO or JOIN has to come."""
    DECIDE = "decide"
    """Acceptor: one of them came; :meth:`Connection.accept` or :meth:`Connection.refuse` is due."""
    AWAIT_WELCOME = "await welcome"
    AWAIT_JOINED = "await joined"
    CONTROL = "control"
    PAYLOAD = "payload"
    CLOSED = "closed"


_CONTROL_TYPES = frozenset(
    {
        FrameType.PING,
        FrameType.PONG,
        FrameType.BYE,
        FrameType.ERROR,
        FrameType.CREDIT,
        FrameType.DONE,
        FrameType.RESET,
    }
)

ALLOWED: dict[Phase, frozenset[FrameType]] = {
    Phase.AWAIT_FIRST: frozenset({FrameType.HELLO, FrameType.JOIN}),
    Phase.DECIDE: frozenset(),
    Phase.AWAIT_WELCOME: frozenset({FrameType.WELCOME, FrameType.ERROR}),
    Phase.AWAIT_JOINED: frozenset({FrameType.JOINED, FrameType.ERROR}),
    Phase.CONTROL: _CONTROL_TYPES,
    Phase.PAYLOAD: frozenset({FrameType.OPEN, FrameType.DATA, FrameType.END}),
}
"""Types of frames that may arrive in each phase. Messages may arrive in CONTROL, and nowhere else."""

NEXT_AFTER_RECEIVING: dict[tuple[Phase, FrameType], Phase] = {
    (Phase.AWAIT_FIRST, FrameType.HELLO): Phase.DECIDE,
    (Phase.AWAIT_FIRST, FrameType.JOIN): Phase.DECIDE,
    (Phase.AWAIT_WELCOME, FrameType.WELCOME): Phase.CONTROL,
    (Phase.AWAIT_WELCOME, FrameType.ERROR): Phase.CLOSED,
    (Phase.AWAIT_JOINED, FrameType.JOINED): Phase.PAYLOAD,
    (Phase.AWAIT_JOINED, FrameType.ERROR): Phase.CLOSED,
}
"""What a frame that arrives makes of the phase; all others leave it as it is. An error of the peer's closes it."""

NEXT_AFTER_SENDING: dict[tuple[Phase, FrameType], Phase] = {
    (Phase.DECIDE, FrameType.WELCOME): Phase.CONTROL,
    (Phase.DECIDE, FrameType.JOINED): Phase.PAYLOAD,
}
"""What an answer of the acceptor's makes of the phase."""

_ERROR_READABLE = frozenset({Phase.AWAIT_FIRST, Phase.DECIDE, Phase.CONTROL})
"""Phases in which the peer's table lets an ERROR through."""


@dataclass(frozen=True, slots=True)
class Received:
    """One frame that arrived, decoded."""

    body: Signal | MoveMessage
    stream: int = 0
    payload: bytes | memoryview = b""
    more: bool = False
    """The chunk goes on in the next frame of the stream."""
    wire_bytes: int = 0


def encode_body(body: Signal | Message, *, stream: int = 0) -> bytes:
    """The frame that says ``body``; not for DATA.

    :raises ProtocolError: a field that the peer would refuse.
    """
    if isinstance(body, Message):
        number, header, payload = encode_message(body)
        return encode_frame(number, header, payload, flags=FLAG_REQUIRED)
    frame_type, header = encode_signal(body)
    return encode_frame(frame_type, header, flags=FLAG_REQUIRED, stream=stream)


def error_signal(error: ProtocolError) -> Error:
    """What the peer is told about ``error``."""
    reason = str(error).encode("utf-8", "replace")[:CONTROL_TEXT_BYTES_MAX].decode("utf-8", "ignore")
    return Error(code=error.code, reason=reason)


def decode_frame(frame: Frame) -> Received:
    """What a frame of a known type says.

    :raises ProtocolError:
    """
    if is_message(frame.type):
        return Received(decode_message(frame.type, frame.header, frame.payload), wire_bytes=frame.wire_bytes)
    signal = decode_signal(FrameType(frame.type), frame.header)
    return Received(signal, frame.stream, frame.payload, bool(frame.flags & FLAG_MORE), frame.wire_bytes)


class Connection:
    """One end of one connection. Make it with :meth:`dial_control`, :meth:`dial_payload` or :meth:`accepted`."""

    def __init__(self, phase: Phase, first: Signal | None) -> None:
        self.phase = phase
        self.error: ProtocolError | None = None
        self._reader = FrameReader(self._check_type)
        self._events: list[Received] = []
        self._out = [PREAMBLE]
        self._first = first
        if first is not None:
            self._out.append(encode_body(first))

    @classmethod
    def dial_control(cls, hello: Hello) -> Connection:
        """The dialer's end of the control connection."""
        return cls(Phase.AWAIT_WELCOME, hello)

    @classmethod
    def dial_payload(cls, join: Join) -> Connection:
        """The dialer's end of a payload connection."""
        return cls(Phase.AWAIT_JOINED, join)

    @classmethod
    def accepted(cls) -> Connection:
        """The acceptor's end of a connection that may become either."""
        return cls(Phase.AWAIT_FIRST, None)

    @property
    def closed(self) -> bool:
        """Whether what arrives is discarded: after an error, a refusal or the end."""
        return self.phase is Phase.CLOSED

    # -- in --------------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they arrived. Never raises what a peer can cause: see :attr:`error`."""
        left = memoryview(data)
        while left and not self.closed:
            room = self.room()
            size = min(len(room), len(left))
            room[:size] = left[:size]
            self.received(size)
            left = left[size:]

    def room(self) -> memoryview:
        """Where the next bytes that arrive are to be put; never empty. Not to be kept."""
        return self._reader.room()

    def received(self, size: int) -> None:
        """Take so many bytes, which were put where :meth:`room` said. Never raises what a peer can cause."""
        if self.closed:
            return
        self._reader.received(size)
        try:
            while not self.closed and (frame := self._reader.next_frame()) is not None:
                self._events.append(self._take(frame))
        except ProtocolError as error:
            self.refuse(error)

    def receive_eof(self) -> None:
        """The peer sends nothing more; in the middle of a frame or of the handshake that is an error."""
        established = self.phase in (Phase.CONTROL, Phase.PAYLOAD)
        if self.phase is not Phase.CLOSED and (self._reader.mid_frame or not established):
            self.error = TruncatedError(
                f"the connection ended in the middle of {'a frame' if established else 'hello'}"
            )
        self.phase = Phase.CLOSED

    def watch(self, on_frame: Callable[[Frame], object]) -> None:
        """Have ``on_frame`` told of each whole frame that arrives before it is decoded, of skipped ones too."""
        self._reader.on_frame = on_frame

    def events(self) -> list[Received]:
        """What arrived since the last call."""
        events, self._events = self._events, []
        return events

    def _check_type(self, frame_type: int) -> None:
        allowed = self.phase is Phase.CONTROL if is_message(frame_type) else frame_type in ALLOWED[self.phase]
        if not allowed:
            raise UnexpectedError(f"frame type {frame_type:#04x} on a connection in phase {self.phase.value!r}")

    def _take(self, frame: Frame) -> Received:
        received = decode_frame(frame)
        if isinstance(received.body, Welcome):
            self._check_version(received.body.version)
        if not is_message(frame.type):
            self._enter(NEXT_AFTER_RECEIVING.get((self.phase, FrameType(frame.type)), self.phase))
        return received

    def _check_version(self, version: int) -> None:
        if not isinstance(self._first, Hello) or not self._first.version_min <= version <= self._first.version_max:
            raise VersionError(f"the peer chose version {version}, which was not on offer")

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        if phase in (Phase.CONTROL, Phase.PAYLOAD):
            self._reader.trusted = True

    # -- out -------------------------------------------------------------------------------------------------------

    def send(self, body: Signal | Message, *, stream: int = 0) -> None:
        """Queue a frame; not for DATA, whose payload is not copied.

        :raises ProtocolError: a field that the peer would refuse; nothing is queued.
        """
        self._out.append(encode_body(body, stream=stream))

    def accept(self, answer: Welcome | Joined) -> None:
        """Acceptor: answer HELLO with WELCOME, or JOIN with JOINED.

        :raises UnexpectedError: the peer has not asked.
        """
        answered = FrameType.WELCOME if isinstance(answer, Welcome) else FrameType.JOINED
        phase = NEXT_AFTER_SENDING.get((self.phase, answered))
        if phase is None:
            raise UnexpectedError(f"{type(answer).__name__} in phase {self.phase.value!r}")
        self._enter(phase)
        self.send(answer)

    def refuse(self, error: ProtocolError) -> None:
        """Record ``error``, tell the peer if it can be told here, and discard the rest."""
        if self.phase is Phase.CLOSED:
            return
        if self.phase in _ERROR_READABLE:
            self.send(error_signal(error))
        self.error = error
        self.phase = Phase.CLOSED

    def data_to_send(self) -> bytes:
        """What has to go out, and is taken as gone."""
        out, self._out = self._out, []
        return b"".join(out)


def choose_version(hello: Hello) -> int:
    """Acceptor: the highest version that both speak.

    :raises VersionError: there is none.
    :raises MalformedError: bounds the wrong way round.
    """
    if hello.version_min > hello.version_max:
        raise MalformedError(f"HELLO offers versions {hello.version_min} to {hello.version_max}")
    version = min(hello.version_max, VERSION_MAX)
    if version < max(hello.version_min, VERSION_MIN):
        raise VersionError(
            f"the peer speaks versions {hello.version_min} to {hello.version_max}, "
            f"this side {VERSION_MIN} to {VERSION_MAX}"
        )
    return version
