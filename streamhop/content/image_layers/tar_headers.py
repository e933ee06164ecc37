"""Headers of tar archives, as far as ``docker save`` writes and ``docker load`` reads them. No I/O.

Source: POSIX.1-2017, pax (ustar and pax interchange formats); GNU tar manual for base-256 numbers and long names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from streamhop_protocol.errors import LimitError, MalformedError

BLOCK_BYTES = 512
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)
EXTENSION_BYTES_MAX = 64 * 1024
"""Content of an extended header; Docker's hold a path or a size."""

SIZE_MAX = (1 << 63) - 1

_USTAR_SIZE_MAX = 8**11 - 1
_CHECKSUM = slice(148, 156)


@dataclass(frozen=True, slots=True)
class TarHeader:
    """One header block."""

    name: str
    size: int
    """Bytes of content that follow, padding not counted."""

    kind: bytes
    """One byte: ``0`` a file, ``5`` a directory, ``x`` and ``g`` extended headers, ``L`` a long name, ..."""

    @property
    def is_file(self) -> bool:
        """Whether content follows that belongs to a regular file."""
        return self.kind in (b"0", b"\0", b"7")


def padding(size: int) -> int:
    """Bytes between content of ``size`` bytes and the next header."""
    return -size % BLOCK_BYTES


def parse_header(block: bytes) -> TarHeader | None:
    """Read one block; None for a block of zeros, which ends an archive.

    :raises MalformedError: it is no header.
    """
    if len(block) != BLOCK_BYTES:
        raise MalformedError("the archive ends inside a header")
    if not any(block):
        return None
    unsigned = sum(block[:148]) + 8 * 0x20 + sum(block[156:])
    if _number(block[_CHECKSUM]) != unsigned:
        raise MalformedError("the checksum of a header in the archive is wrong")
    name = _text(block[0:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    return TarHeader(name=name, size=_number(block[124:136]), kind=block[156:157])


def encode_header(name: str, size: int, *, directory: bool = False) -> bytes:
    """A header for a file or directory that root owns.

    :raises ValueError: ``name`` or ``size`` does not fit; a bug of the caller.
    """
    encoded = name.encode("ascii")
    if len(encoded) > 100 or not 0 <= size <= SIZE_MAX:
        raise ValueError(f"no header can be made for {name!r} with {size} bytes")
    # Where eleven octal digits do not suffice: base-256, big-endian, with the highest bit set.
    length = b"%011o\0" % size if size <= _USTAR_SIZE_MAX else b"\x80" + size.to_bytes(11, "big")
    kind, mode = (b"5", b"0000755\0") if directory else (b"0", b"0000644\0")
    zero = b"0000000\0"
    block = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x",
            encoded, mode, zero, zero, length, b"00000000000\0", b" " * 8, kind, b"", b"ustar\0", b"00", b"", b"", zero,
            zero, b"",
        )
    )  # fmt: skip
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def parse_pax(content: bytes) -> dict[str, str]:
    """Records of a pax extended header: ``length keyword=value`` each.

    :raises MalformedError: it is none.
    """
    records: dict[str, str] = {}
    while content:
        digits, space, _ = content[:20].partition(b" ")
        if not space or not digits.isdigit():
            raise MalformedError("an extended header in the archive is broken")
        record, content = content[: int(digits)], content[int(digits) :]
        keyword, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != int(digits) or not equals or record[-1:] != b"\n":
            raise MalformedError("an extended header in the archive is broken")
        records[keyword.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return records


def check_extension(header: TarHeader) -> None:
    """:raises LimitError: the content of this extended header is larger than any that Docker writes."""
    if header.size > EXTENSION_BYTES_MAX:
        raise LimitError(f"an extended header in the archive has {header.size} bytes")


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40 or value > SIZE_MAX:
            raise MalformedError("a number in a header of the archive is negative or too large")
        return value
    text = field.strip(b" \0")
    if text and (not text.isdigit() or b"8" in text or b"9" in text):
        raise MalformedError("a number in a header of the archive is not octal")
    return int(text or b"0", 8)
