"""Records of a flow file, and their bytes.

A file begins with :data:`HEAD`. Then come records: a kind (one byte), a length (four bytes, big-endian), and so many
bytes. The first record is :class:`About`. A record of a kind that is not known is skipped, so that a later version may
add some. All but :class:`FrameRecord` are msgpack maps under the protocol's own limits.

A frame is kept as it was on the wire: its prefix, its header, its payload. What is left out by default is told by its
size, and by a digest under a key that nobody keeps: equal content has equal digests within one file, and says nothing
about itself otherwise.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, ClassVar

from hopwire.errors import FlowError
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.fields import Check, from_map, integer, text, to_map
from streamhop_protocol.frames import PREFIX_BYTES, Prefix, decode_prefix
from streamhop_protocol.limits import CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX
from streamhop_protocol.wirepack import pack, unpack

MAGIC = b"\xf5HOPF\r\n"
VERSION = 1
HEAD = MAGIC + bytes([VERSION])

RECORD = struct.Struct(">BI")
_FRAME = struct.Struct(">QIBBHI")
"""at_ns, connection, bits, bytes of digest, bytes of header, bytes of payload; the frame's prefix follows."""

FROM_ACCEPTOR, REDACTED, PAYLOAD_LEFT_OUT = 1, 2, 4

DIGEST_BYTES = 16
MAP_BYTES_MAX = 64 * 1024
RECORD_BYTES_MAX = _FRAME.size + PREFIX_BYTES + 255 + FRAME_HEADER_BYTES_MAX + CONTROL_PAYLOAD_BYTES_MAX
"""Checked before anything is read of a record."""

_TEXT_BYTES_MAX = 4096
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1


def _flag() -> Check:
    def check(what: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise FlowError(f"{what} is a {type(value).__name__}, neither true nor false")
        return value

    return check


Nanoseconds = Annotated[int, integer(0, _U64)]
Number = Annotated[int, integer(0, _U32)]
Text = Annotated[str, text(_TEXT_BYTES_MAX)]
Flag = Annotated[bool, _flag()]


@dataclass(frozen=True, slots=True)
class About:
    """What the file is; always first."""

    KIND: ClassVar[int] = 1
    source: Text
    """What has written it, such as ``tap``."""
    began_at_ns: Nanoseconds
    """Wall clock at time 0, since 1970."""
    payload: Flag
    """Whether payloads are in it: memory, files, environments of containers."""


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A connection was made; frames name it by its number."""

    KIND: ClassVar[int] = 2
    at_ns: Nanoseconds
    connection: Number
    dialer: Text
    """Address, for people."""
    acceptor: Text
    tls: Flag


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One whole frame.

    :param digest: of what was left out of the payload; empty if nothing was.
    :param redacted: whether something secret in the header, or in a message's payload, was replaced.
    """

    KIND: ClassVar[int] = 3
    at_ns: int
    connection: int
    from_dialer: bool
    prefix: Prefix
    """As on the wire: its sizes are those before anything was left out."""
    header: bytes
    payload: bytes | memoryview | None
    """None if it was left out."""
    digest: bytes = b""
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """A direction of a connection broke the protocol; nothing after that could be read."""

    KIND: ClassVar[int] = 4
    at_ns: Nanoseconds
    connection: Number
    from_dialer: Flag
    code: Text
    reason: Text


@dataclass(frozen=True, slots=True)
class DirectionEnded:
    """Nothing more came in one direction of a connection."""

    KIND: ClassVar[int] = 5
    at_ns: Nanoseconds
    connection: Number
    from_dialer: Flag
    unread_bytes: Annotated[int, integer(0, _U64)]
    """Bytes after a violation, of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The writer ended the file; a file without it was cut off."""

    KIND: ClassVar[int] = 6
    at_ns: Nanoseconds
    left_out_frames: Annotated[int, integer(0, _U64)]
    """Frames that came after the file had reached its bound."""


MapRecord = About | ConnectionOpened | Violation | DirectionEnded | Closed
Record = MapRecord | FrameRecord

_MAPS: dict[int, type[MapRecord]] = {
    cls.KIND: cls for cls in (About, ConnectionOpened, Violation, DirectionEnded, Closed)
}


def encode(record: MapRecord) -> bytes:
    """The bytes of a record that is not a frame, its kind and length in front."""
    body = pack(to_map(record))
    return RECORD.pack(record.KIND, len(body)) + body


def encode_frame_head(record: FrameRecord) -> bytes:
    """The bytes of a frame's record up to its payload, which follows as it is."""
    payload_bytes = 0 if record.payload is None else len(record.payload)
    bits = (
        (0 if record.from_dialer else FROM_ACCEPTOR)
        | (REDACTED if record.redacted else 0)
        | (PAYLOAD_LEFT_OUT if record.payload is None else 0)
    )
    sizes = len(record.digest), len(record.header), payload_bytes
    fixed = _FRAME.pack(record.at_ns, record.connection, bits, *sizes)
    length = len(fixed) + PREFIX_BYTES + sum(sizes)
    return b"".join((RECORD.pack(FrameRecord.KIND, length), fixed, record.prefix.pack(), record.digest, record.header))


def decode(kind: int, body: memoryview) -> Record | None:
    """The record of this kind in ``body``; None for a kind that is not known.

    A frame's payload is a view of ``body``: whoever keeps it copies it.

    :raises FlowError: the bytes are none of ours.
    """
    if kind == FrameRecord.KIND:
        return _decode_frame(body)
    cls = _MAPS.get(kind)
    if cls is None:
        return None
    try:
        return from_map(cls, unpack(body, bytes_max=MAP_BYTES_MAX))
    except ProtocolError as error:
        raise FlowError(f"a damaged record: {error}") from error


def _decode_frame(body: memoryview) -> FrameRecord:
    if len(body) < _FRAME.size + PREFIX_BYTES:
        raise FlowError("a damaged record: too short for a frame")
    at_ns, connection, bits, digest_bytes, header_bytes, payload_bytes = _FRAME.unpack_from(body)
    digest_at = _FRAME.size + PREFIX_BYTES
    header_at = digest_at + digest_bytes
    payload_at = header_at + header_bytes
    if payload_at + payload_bytes != len(body):
        raise FlowError("a damaged record: its parts do not add up")
    left_out = bool(bits & PAYLOAD_LEFT_OUT)
    if left_out and payload_bytes:
        raise FlowError("a damaged record: a payload that is there and left out")
    return FrameRecord(
        at_ns,
        connection,
        not bits & FROM_ACCEPTOR,
        decode_prefix(body, _FRAME.size),
        bytes(body[header_at:payload_at]),
        None if left_out else body[payload_at:],
        bytes(body[digest_at:header_at]),
        bool(bits & REDACTED),
    )
