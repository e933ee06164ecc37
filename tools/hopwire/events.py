"""What a reader of any recording sees, be it a flow file, a capture or the trace of a daemon. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamhop_protocol.connection import Received, decode_frame
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.frames import FLAG_MORE, FLAG_REQUIRED, Frame, FrameType, Prefix, is_known
from streamhop_protocol.limits import CONTROL_PAYLOAD_BYTES_MAX
from streamhop_protocol.messages import MESSAGE_TYPES, MoveMessage
from streamhop_protocol.signals import Signal

_BLANK = memoryview(bytes(CONTROL_PAYLOAD_BYTES_MAX))


def blank(size: int) -> memoryview:
    """Stands for a payload of so many bytes, of which only the length counts; takes no memory."""
    return _BLANK[:size]


TYPE_NAMES: dict[int, str] = {
    **{frame_type.value: frame_type.name for frame_type in FrameType},
    **{number: cls.__name__.upper() for number, cls in MESSAGE_TYPES.items()},
}
TYPE_NUMBERS = {name: number for number, name in TYPE_NAMES.items()}


def type_name(number: int) -> str:
    """What the specification calls a type of frames; its number if it is none of this version."""
    return TYPE_NAMES.get(number) or f"{number:#04x}"


@dataclass(frozen=True, slots=True)
class ConnectionSeen:
    """A connection was made."""

    at_ns: int
    connection: int
    dialer: str
    acceptor: str
    tls: bool


@dataclass(frozen=True, slots=True)
class FrameSeen:
    """One frame.

    :param received: what it says; None if nobody knows, see ``error``.
    :param error: why it cannot be decoded; None if it can, or if its receiver skips it anyhow.
    :param payload: None if it was left out; then ``digest`` may tell one from another.
    :param said: the fields that are known where ``received`` is None.
    """

    at_ns: int
    connection: int
    from_dialer: bool
    prefix: Prefix
    received: Received | None = None
    error: str | None = None
    payload: bytes | memoryview | None = None
    digest: bytes = b""
    redacted: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)
    header: bytes | None = None
    """As it was on the wire, but for what was hidden; None if it was not recorded."""

    @property
    def type_name(self) -> str:
        """What the specification calls it."""
        return type_name(self.prefix.type)

    @property
    def more(self) -> bool:
        """Whether the chunk goes on in the next frame of the stream."""
        return bool(self.prefix.flags & FLAG_MORE)

    @property
    def required(self) -> bool:
        """Whether a receiver that does not know the type must end the session."""
        return bool(self.prefix.flags & FLAG_REQUIRED)

    def field(self, name: str) -> Any:
        """One field of the decoded header, or message; None if it has none of that name."""
        if self.received is not None:
            return getattr(self.received.body, name, None)
        return self.said.get(name)

    def fields(self) -> Mapping[str, Any]:
        """The decoded header, or message."""
        return body_fields(self.received.body) if self.received is not None else self.said


@dataclass(frozen=True, slots=True)
class BrokenSeen:
    """A direction broke the protocol: what came later in it could not be read."""

    at_ns: int
    connection: int
    from_dialer: bool
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class EndSeen:
    """A direction of a connection ended."""

    at_ns: int
    connection: int
    from_dialer: bool
    unread_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NoteSeen:
    """Something that a daemon's trace tells besides frames: a phase, a decision with what it was based on."""

    at_ns: int
    name: str
    data: Mapping[str, Any]


Seen = ConnectionSeen | FrameSeen | BrokenSeen | EndSeen | NoteSeen


_FIELD_NAMES: dict[type, tuple[str, ...]] = {}
"""What :func:`body_fields` has found so far."""


def body_fields(body: Signal | MoveMessage) -> dict[str, Any]:
    """What a decoded frame says; fields that are None are left out."""
    names = _FIELD_NAMES.get(type(body))
    if names is None:
        names = _FIELD_NAMES[type(body)] = tuple(each.name for each in dataclasses.fields(body))
    values = ((name, getattr(body, name)) for name in names)
    return {name: value for name, value in values if value is not None}


def decode_seen(
    at_ns: int,
    connection: int,
    prefix: Prefix,
    header: bytes,
    payload: bytes | memoryview | None,
    *,
    from_dialer: bool,
    digest: bytes = b"",
    redacted: bool = False,
) -> FrameSeen:
    """The frame that a recording holds, decoded as its receiver would."""
    received, error = None, None
    if is_known(prefix.type):
        there = payload if payload is not None else blank(prefix.payload_bytes)
        try:
            received = decode_frame(Frame(prefix.type, prefix.flags, prefix.stream, header, there))
        except ProtocolError as broken:
            # What was hidden cannot be held against the peer.
            error = None if redacted else f"{broken.code}: {broken}"
    return FrameSeen(at_ns, connection, from_dialer, prefix, received, error, payload, digest, redacted, header=header)
