"""Reads CRIU's image files: records of protobuf messages behind magic numbers.

Source: CRIU's criu/include/magic.h, lib/pycriu/images/images.py and images/*.proto. A file begins with two magic
numbers (the inventory with one); a record is a little-endian 32-bit length and a message.

CRIU's decoder takes the last of a repeated scalar, joins repeated messages, and cuts numbers to 32 bits. Whatever it
could read in another way than this module is malformed here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from streamhop.content.memory.protobuf import fields, read_varint
from streamhop_protocol.errors import LimitError, MalformedError

FILE_BYTES_MAX = 64 * 1024 * 1024
"""Of an image that is read here; those with contents of files are not."""

COMMON_MAGIC = 0x54564319

INVENTORY = 0x58313116
MAGIC = {
    "cgroup": 0x59383330,
    "core": 0x55053847,
    "files": 0x56303138,
    "ghost-file": 0x52583605,
    "ids": 0x54432030,
    "mountpoints": 0x55563928,
    "pstree": 0x50273030,
    "seccomp": 0x64413049,
}

_NUMBER = struct.Struct("<I")
_UINT32_MAX = 0xFFFF_FFFF


class Message:
    """One protobuf message, by field numbers."""

    def __init__(self, data: bytes) -> None:
        """:raises MalformedError: not a message."""
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in fields(data):
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, field: int) -> bool:
        return field in self._fields

    def _one(self, field: int) -> int | bytes | None:
        values = self._fields.get(field, [])
        if len(values) > 1:
            raise MalformedError(f"field {field} of a process image is there twice")
        return values[0] if values else None

    def number(self, field: int, default: int | None = None) -> int:
        """An unsigned number of 32 bits.

        :raises MalformedError: it is missing and there is no ``default``, or it is none.
        """
        value = self._one(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or value > _UINT32_MAX:
            raise MalformedError(f"field {field} of a process image is not a 32-bit number")
        return value

    def long(self, field: int, default: int = 0) -> int:
        """A number of 64 bits, read as signed."""
        value = self._one(field)
        if value is None:
            return default
        if not isinstance(value, int):
            raise MalformedError(f"field {field} of a process image is not a number")
        return value - (1 << 64) if value >> 63 else value

    def numbers(self, field: int) -> list[int]:
        """All of a repeated number of 32 bits, packed or not."""
        found: list[int] = []
        for value in self._fields.get(field, []):
            if isinstance(value, int):
                found.append(value)
                continue
            position = 0
            while position < len(value):
                number, position = read_varint(value, position)
                found.append(number)
        if any(number > _UINT32_MAX for number in found):
            raise MalformedError(f"field {field} of a process image holds more than 32 bits")
        return found

    def data(self, field: int) -> bytes:
        """Bytes; empty if missing."""
        value = self._one(field)
        if value is None:
            return b""
        if not isinstance(value, bytes):
            raise MalformedError(f"field {field} of a process image is not text")
        return value

    def text(self, field: int) -> str:
        """Text; empty if missing.

        :raises MalformedError: none, or with a NUL, behind which CRIU sees nothing.
        """
        value = self.data(field)
        if b"\0" in value:
            raise MalformedError(f"field {field} of a process image contains a NUL")
        return value.decode(errors="surrogateescape")

    def texts(self, field: int) -> list[str]:
        """All of a repeated text."""
        return [value.decode(errors="surrogateescape") for value in self._all_bytes(field)]

    def message(self, field: int) -> Message | None:
        """A message inside this one; None if missing."""
        return Message(self.data(field)) if field in self._fields else None

    def messages(self, field: int) -> list[Message]:
        """All of a repeated message."""
        return [Message(value) for value in self._all_bytes(field)]

    def _all_bytes(self, field: int) -> list[bytes]:
        values = self._fields.get(field, [])
        if any(isinstance(value, int) for value in values):
            raise MalformedError(f"field {field} of a process image is not text or a message")
        return [value for value in values if isinstance(value, bytes)]


def records(path: Path, magic: int) -> Iterator[Message]:
    """The messages of an image.

    :param magic: of its kind; :data:`INVENTORY` has no other before it.
    :raises MalformedError: another kind, or cut off.
    :raises LimitError: larger than any that is accepted.
    :raises OSError: it cannot be read.
    """
    if path.stat().st_size > FILE_BYTES_MAX:
        raise LimitError(f"{path.name} has more than {FILE_BYTES_MAX} bytes")
    data = path.read_bytes()
    head = struct.pack("<I", magic) if magic == INVENTORY else struct.pack("<II", COMMON_MAGIC, magic)
    if not data.startswith(head):
        raise MalformedError(f"{path.name} is an image of another kind than its name says")
    position = len(head)
    while position < len(data):
        yield Message(_record(path, data, position))
        position += _NUMBER.size + _NUMBER.unpack_from(data, position)[0]


def first_record(path: Path, magic: int) -> Message:
    """The first message of an image, behind which there may be raw content."""
    found = next(records(path, magic), None)
    if found is None:
        raise MalformedError(f"{path.name} is empty")
    return found


def only_record(path: Path, magic: int) -> Message:
    """The one message of an image.

    :raises MalformedError: more than one, or as :func:`records`.
    """
    found = list(records(path, magic))
    if len(found) != 1:
        raise MalformedError(f"{path.name} does not hold exactly one record")
    return found[0]


def _record(path: Path, data: bytes, position: int) -> bytes:
    body = position + _NUMBER.size
    if body > len(data):
        raise MalformedError(f"{path.name} ends inside a record's length")
    length = _NUMBER.unpack_from(data, position)[0]
    if length > len(data) - body:
        raise MalformedError(f"{path.name} ends inside a record")
    return data[body : body + length]
