"""What the two ends of a session say to each other besides messages: handshake, streams, upkeep."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from .errors import MalformedError
from .fields import anything, binary, from_map, integer, optional, text, to_map
from .frames import FrameType
from .limits import (
    CHUNK_RAW_BYTES_MAX,
    CODE_BYTES_MAX,
    CONNECTIONS_MAX,
    NAME_BYTES_MAX,
    SEQ_MAX,
    STREAM_WINDOW_BYTES,
    STREAMS_OPEN_MAX,
)
from .messages import Attributes, Code, Prose, StreamKind
from .wirepack import pack, unpack

SESSION_ID_BYTES = 16
JOIN_TOKEN_BYTES = 32

_U64_MAX = (1 << 64) - 1
_VERSION_MAX = (1 << 16) - 1


def _kind(what: str, value: object) -> str:
    name = text(CODE_BYTES_MAX)(what, value)
    if name not in {kind.value for kind in StreamKind}:
        raise MalformedError(f"{what} is {name!r}, none of this protocol's kinds of streams")
    return str(name)


Name = Annotated[str, text(NAME_BYTES_MAX, empty=False)]
Kind = Annotated[str, _kind]
Version = Annotated[int, integer(1, _VERSION_MAX)]
Connections = Annotated[int, integer(1, CONNECTIONS_MAX - 1)]
Streams = Annotated[int, integer(1, STREAMS_OPEN_MAX)]
SessionId = Annotated[bytes, binary(SESSION_ID_BYTES)]
JoinToken = Annotated[bytes, binary(JOIN_TOKEN_BYTES)]
PingNumber = Annotated[int, integer(0, _U64_MAX)]
Seq = Annotated[int, integer(1, SEQ_MAX)]
CodecNumber = Annotated[int | None, optional(integer(0, 255))]
RawBytes = Annotated[int | None, optional(integer(0, CHUNK_RAW_BYTES_MAX))]
Meta = Annotated[object, anything()]
CreditBytes = Annotated[int, integer(1, STREAM_WINDOW_BYTES)]


@dataclass(frozen=True, slots=True)
class Signal:
    """One frame that is not a message."""


@dataclass(frozen=True, slots=True)
class Hello(Signal):
    """Dialer, first on the control connection."""

    name: Name
    version_min: Version
    version_max: Version
    connections: Connections
    """Payload connections that will join."""
    streams_max: Streams
    """Streams that the acceptor may have open towards the dialer."""


@dataclass(frozen=True, slots=True)
class Welcome(Signal):
    """Acceptor's answer to HELLO."""

    name: Name
    version: Version
    session: SessionId
    token: JoinToken
    streams_max: Streams
    """Streams that the dialer may have open towards the acceptor."""


@dataclass(frozen=True, slots=True)
class Join(Signal):
    """Dialer, first on a payload connection."""

    session: SessionId
    token: JoinToken


@dataclass(frozen=True, slots=True)
class Joined(Signal):
    """Acceptor's answer to JOIN."""


@dataclass(frozen=True, slots=True)
class Ping(Signal):
    """Asks for a PONG of the same number."""

    number: PingNumber


@dataclass(frozen=True, slots=True)
class Pong(Signal):
    """Answers a PING."""

    number: PingNumber


@dataclass(frozen=True, slots=True)
class Bye(Signal):
    """The sender is done with the session and sends nothing more."""


@dataclass(frozen=True, slots=True)
class Error(Signal):
    """The sender ends the session because of what the receiver did."""

    code: Code
    reason: Prose


@dataclass(frozen=True, slots=True)
class Open(Signal):
    """Begins a stream; always number 0 of it."""

    kind: Kind
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Data(Signal):
    """A chunk or a fragment of one. Only the first fragment tells codec, size and meta."""

    seq: Seq
    codec: CodecNumber = None
    raw_bytes: RawBytes = None
    meta: Meta = None


@dataclass(frozen=True, slots=True)
class End(Signal):
    """Ends a stream: nothing has a higher number."""

    seq: Seq
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credit(Signal):
    """The receiver of a stream lets its sender send more."""

    size_bytes: CreditBytes


@dataclass(frozen=True, slots=True)
class Done(Signal):
    """The receiver of a stream has taken all of it."""

    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reset(Signal):
    """Either side ends a stream early."""

    code: Code
    reason: Prose


SIGNAL_TYPES: dict[FrameType, type[Signal]] = {
    FrameType.HELLO: Hello,
    FrameType.WELCOME: Welcome,
    FrameType.JOIN: Join,
    FrameType.JOINED: Joined,
    FrameType.PING: Ping,
    FrameType.PONG: Pong,
    FrameType.BYE: Bye,
    FrameType.ERROR: Error,
    FrameType.OPEN: Open,
    FrameType.DATA: Data,
    FrameType.END: End,
    FrameType.CREDIT: Credit,
    FrameType.DONE: Done,
    FrameType.RESET: Reset,
}

_TYPES = {cls: frame_type for frame_type, cls in SIGNAL_TYPES.items()}


def encode_signal(signal: Signal) -> tuple[FrameType, bytes]:
    """Type and header of the frame that says ``signal``.

    :raises ProtocolError: a field that the peer would refuse.
    """
    values = to_map(signal)
    return _TYPES[type(signal)], pack(values) if values else b""


def decode_signal(frame_type: FrameType, header: bytes) -> Signal:
    """The signal that a frame's header holds.

    :raises ProtocolError:
    """
    return from_map(SIGNAL_TYPES[frame_type], unpack(header) if header else {})
