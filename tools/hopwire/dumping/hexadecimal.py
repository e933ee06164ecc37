"""Bytes as hexadecimal digits and letters. Pure."""

from __future__ import annotations

from collections.abc import Iterator

_ROW = 16


def hex_lines(data: bytes | memoryview, bytes_max: int) -> Iterator[str]:
    """Offset, 16 bytes, and those that are printable ASCII, a line; at most ``bytes_max`` bytes."""
    for offset in range(0, min(len(data), bytes_max), _ROW):
        row = bytes(data[offset : min(offset + _ROW, bytes_max)])
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{offset:06x}  {row.hex(' '):<{3 * _ROW}} {letters}"
    if len(data) > bytes_max:
        yield f"... {len(data) - bytes_max} bytes more"
