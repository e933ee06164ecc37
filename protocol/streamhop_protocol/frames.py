"""Frames: a fixed prefix, a small msgpack header, a raw payload. See "Frames" in ``SPEC.md``.

:class:`FrameReader` bounds every length as soon as the prefix is there, before anything that it announces is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from .errors import LimitError, MalformedError, UnexpectedError, VersionError
from .limits import CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, HELLO_BYTES_MAX

FRAMING_VERSION = 1
MAGIC = b"\xf5HOP\r\n"
"""No text protocol begins with the byte 0xF5, and whatever changes line ends spoils the rest."""

PREAMBLE = MAGIC + FRAMING_VERSION.to_bytes(2, "big")

_PREFIX = struct.Struct(">IHBBI")
PREFIX_BYTES = _PREFIX.size

FLAG_REQUIRED = 0x01
"""A receiver that does not know the type must end the session rather than skip the frame."""

FLAG_MORE = 0x02
"""DATA only: the chunk goes on in the next frame of the stream."""

STREAM_ID_MAX = (1 << 32) - 1

HANDSHAKE_BUFFER_BYTES = 2 * 1024
"""Memory of a reader whose peer has not introduced itself: there may be many of those."""

BUFFER_BYTES = 64 * 1024
"""Memory of a reader, besides one payload; more only for a header that does not fit."""


class FrameType(IntEnum):
    """Types of frames other than messages, which are in :data:`.messages.MESSAGE_TYPES`."""

    HELLO = 0x01
    WELCOME = 0x02
    JOIN = 0x03
    JOINED = 0x04
    PING = 0x05
    PONG = 0x06
    BYE = 0x07
    ERROR = 0x08
    OPEN = 0x10
    DATA = 0x11
    END = 0x12
    CREDIT = 0x13
    DONE = 0x14
    RESET = 0x15


STREAM_TYPES = frozenset(
    {FrameType.OPEN, FrameType.DATA, FrameType.END, FrameType.CREDIT, FrameType.DONE, FrameType.RESET}
)
"""Types that belong to a stream: their stream is not 0. All other types have stream 0."""

MESSAGE_TYPE_MIN = 0x20
MESSAGE_TYPE_MAX = 0x2D

_TYPE_NUMBERS = frozenset(FrameType)


def is_message(frame_type: int) -> bool:
    """Whether frames of this type hold a message."""
    return MESSAGE_TYPE_MIN <= frame_type <= MESSAGE_TYPE_MAX


def is_known(frame_type: int) -> bool:
    """Whether this version knows the type."""
    return frame_type in _TYPE_NUMBERS or is_message(frame_type)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was on the wire; nothing inside of it is decoded."""

    type: int
    flags: int
    stream: int
    header: bytes
    payload: bytes | memoryview

    @property
    def wire_bytes(self) -> int:
        """Length on the wire."""
        return PREFIX_BYTES + len(self.header) + len(self.payload)


def encode_head(frame_type: int, header: bytes, *, payload_bytes: int = 0, flags: int = 0, stream: int = 0) -> bytes:
    """Prefix and header; the payload follows on the wire, and is never copied.

    :raises LimitError: a header that no prefix can announce.
    """
    if len(header) >= FRAME_HEADER_BYTES_MAX:
        raise LimitError(f"header of {len(header)} bytes, less than {FRAME_HEADER_BYTES_MAX} allowed")
    return _PREFIX.pack(payload_bytes, len(header), frame_type, flags, stream) + header


def encode_frame(frame_type: int, header: bytes, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """A whole frame with a payload small enough to copy."""
    head = encode_head(frame_type, header, payload_bytes=len(payload), flags=flags, stream=stream)
    return head + payload if payload else head


class Prefix(NamedTuple):
    """The first bytes of a frame."""

    type: int
    flags: int
    stream: int
    header_bytes: int
    payload_bytes: int

    @property
    def wire_bytes(self) -> int:
        """Length of the whole frame on the wire."""
        return PREFIX_BYTES + self.header_bytes + self.payload_bytes

    def pack(self) -> bytes:
        """As it is on the wire."""
        return _PREFIX.pack(self.payload_bytes, self.header_bytes, self.type, self.flags, self.stream)


def decode_prefix(data: bytes | bytearray | memoryview, offset: int = 0) -> Prefix:
    """The prefix that is in ``data`` at ``offset``, as it is: nothing about it is checked.

    :raises struct.error: fewer than :data:`PREFIX_BYTES` are there.
    """
    payload_bytes, header_bytes, frame_type, flags, stream = _PREFIX.unpack_from(data, offset)
    return Prefix(frame_type, flags, stream, header_bytes, payload_bytes)


def _payload_bytes_max(frame_type: int) -> int:
    if is_message(frame_type):
        return CONTROL_PAYLOAD_BYTES_MAX
    if frame_type == FrameType.DATA or not is_known(frame_type):
        return FRAME_PAYLOAD_BYTES_MAX
    return 0


@dataclass(slots=True)
class _PartialFrame:
    """A frame whose payload has not come whole."""

    type: int
    flags: int
    stream: int
    header: bytes
    payload: bytearray
    filled_bytes: int = 0

    @property
    def missing_bytes(self) -> int:
        return len(self.payload) - self.filled_bytes

    def room(self) -> memoryview:
        return memoryview(self.payload)[self.filled_bytes :]

    def take(self, data: memoryview) -> None:
        self.payload[: len(data)] = data
        self.filled_bytes = len(data)


class FrameReader:
    """Cuts the bytes of one connection into the preamble and frames.

    Bytes are put where :meth:`room` says, then counted with :meth:`received`; or both by :meth:`feed`. All whole frames
    are to be taken before more is put in. A payload that has not come whole gets memory of its own, and the rest of it
    is put there directly.

    Unknown optional frames are skipped. After an error the reader is of no more use.

    :param check_type: raises if a frame of this known type may not arrive now; by default each may. Called when the
        prefix is there: nothing of a frame that may not arrive is kept.
    """

    def __init__(self, check_type: Callable[[int], object] = is_known) -> None:
        self._check_type = check_type
        self._buffer = bytearray(HANDSHAKE_BUFFER_BYTES)
        self._begin = self._end = 0
        """What of the buffer is not taken yet."""
        self._partial: _PartialFrame | None = None
        """Comes before what is in the buffer."""
        self._preamble_seen = False
        self.on_frame: Callable[[Frame], object] | None = None
        """Told of each whole frame before it is given out, of those that are skipped too; for who only watches."""
        self.trusted = False
        """Set once the peer has introduced itself; until then only frames of the handshake's size are read."""

    def room(self) -> memoryview:
        """Where the next bytes are to be put, or the first of them; never empty. Not to be kept."""
        if self._partial is not None and self._partial.missing_bytes:
            return self._partial.room()
        if self._begin == self._end:
            self._begin = self._end = 0
        size = BUFFER_BYTES if self.trusted else HANDSHAKE_BUFFER_BYTES
        if len(self._buffer) < size or len(self._buffer) - self._end < size // 4:
            self._make_room(size)
        return memoryview(self._buffer)[self._end :]

    def _make_room(self, size: int) -> None:
        unread = self._end - self._begin
        # A new one rather than this one made longer: somebody may still have a view of it.
        larger = bytearray(max(size, 2 * unread))
        larger[:unread] = memoryview(self._buffer)[self._begin : self._end]
        self._buffer, self._begin, self._end = larger, 0, unread

    def received(self, size: int) -> None:
        """So many bytes were put where :meth:`room` said."""
        if self._partial is not None and self._partial.missing_bytes:
            self._partial.filled_bytes += size
        else:
            self._end += size

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take a copy of what was received elsewhere."""
        left = memoryview(data)
        while left:
            room = self.room()
            size = min(len(room), len(left))
            room[:size] = left[:size]
            self.received(size)
            left = left[size:]

    @property
    def held_bytes(self) -> int:
        """Memory that the reader has for what arrives."""
        return len(self._buffer) + (len(self._partial.payload) if self._partial is not None else 0)

    @property
    def mid_frame(self) -> bool:
        """Whether the bytes so far end inside a frame or the preamble."""
        return self._begin < self._end or self._partial is not None or not self._preamble_seen

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None if more bytes are needed.

        :raises ProtocolError:
        """
        if not self._preamble_seen and not self._take_preamble():
            return None
        while True:
            frame = self._take_partial() if self._partial is not None else self._take_frame()
            if frame is not None and self.on_frame is not None:
                self.on_frame(frame)
            if frame is None or is_known(frame.type):
                return frame

    def _take_preamble(self) -> bool:
        seen = bytes(self._buffer[self._begin : min(self._end, self._begin + len(PREAMBLE))])
        if not MAGIC.startswith(seen[: len(MAGIC)]):
            raise MalformedError(f"the peer does not speak this protocol: it began with {seen!r}")
        if len(seen) < len(PREAMBLE):
            return False
        if seen != PREAMBLE:
            version = int.from_bytes(seen[len(MAGIC) :], "big")
            raise VersionError(f"the peer frames as in version {version}, not {FRAMING_VERSION}")
        self._begin += len(PREAMBLE)
        self._preamble_seen = True
        return True

    def _take_frame(self) -> Frame | None:
        there = self._end - self._begin
        if there < PREFIX_BYTES:
            return None
        payload_bytes, header_bytes, frame_type, flags, stream = _PREFIX.unpack_from(self._buffer, self._begin)
        self._check_prefix(payload_bytes, header_bytes, frame_type, flags, stream)
        if there < PREFIX_BYTES + header_bytes:
            return None
        payload_at = self._begin + PREFIX_BYTES + header_bytes
        view = memoryview(self._buffer)
        header = bytes(view[self._begin + PREFIX_BYTES : payload_at])
        if self._end - payload_at < payload_bytes:
            self._partial = _PartialFrame(frame_type, flags, stream, header, bytearray(payload_bytes))
            self._partial.take(view[payload_at : self._end])
            self._begin = self._end
            return None
        self._begin = payload_at + payload_bytes
        return Frame(frame_type, flags, stream, header, bytes(view[payload_at : self._begin]))

    def _take_partial(self) -> Frame | None:
        partial = self._partial
        if partial is None or partial.missing_bytes:
            return None
        self._partial = None
        return Frame(
            partial.type, partial.flags, partial.stream, partial.header, memoryview(partial.payload).toreadonly()
        )

    def _check_prefix(self, payload_bytes: int, header_bytes: int, frame_type: int, flags: int, stream: int) -> None:
        if not is_known(frame_type) and flags & FLAG_REQUIRED:
            raise UnexpectedError(f"unknown frame type {frame_type:#04x} is required")
        payload_max = _payload_bytes_max(frame_type) if self.trusted else 0
        if payload_bytes > payload_max:
            raise LimitError(f"frame type {frame_type:#04x} with a payload of {payload_bytes} bytes, not {payload_max}")
        if header_bytes > HELLO_BYTES_MAX and not self.trusted and frame_type != FrameType.ERROR:
            raise LimitError(f"header of {header_bytes} bytes in the handshake, at most {HELLO_BYTES_MAX} allowed")
        if flags & FLAG_MORE and is_known(frame_type) and frame_type != FrameType.DATA:
            raise MalformedError(f"frame type {frame_type:#04x} with the flag MORE")
        if is_known(frame_type) and (stream != 0) != (frame_type in STREAM_TYPES):
            raise MalformedError(f"frame type {frame_type:#04x} with stream {stream}")
        if is_known(frame_type):
            self._check_type(frame_type)
