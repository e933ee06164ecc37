"""As much of protobuf's encoding as CRIU's images need. Source: protobuf.dev/programming-guides/encoding.

What is decoded may come from a peer: nothing is allocated by a length that the data does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from streamhop_protocol.errors import MalformedError

Field: TypeAlias = "tuple[int, int | bytes]"

_VARINT_BITS = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_LENGTHS = {_FIXED64: 8, _FIXED32: 4}


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message in their order: number, and integer or bytes (strings, messages, fixed-width numbers).

    :raises MalformedError: not a message.
    """
    position, size = 0, len(message)
    while position < size:
        key, position = read_varint(message, position)
        wire_type = key & 7
        if wire_type == _VARINT:
            value, position = read_varint(message, position)
            yield key >> 3, value
            continue
        if wire_type == _BYTES:
            length, position = read_varint(message, position)
        elif wire_type in _FIXED_LENGTHS:
            length = _FIXED_LENGTHS[wire_type]
        else:
            raise MalformedError(f"protobuf field of wire type {wire_type}")
        if length > size - position:
            raise MalformedError("protobuf message ends inside a field")
        yield key >> 3, message[position : position + length]
        position += length


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and the position behind it.

    :raises MalformedError: cut off, or over 64 bits.
    """
    value = shift = 0
    size = len(data)
    while position < size and shift < _VARINT_BITS:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> _VARINT_BITS:
                break
            return value, position
        shift += 7
    raise MalformedError("protobuf number is cut off or too large")


def varint(value: int) -> bytes:
    """Encode a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
