"""Reads and writes CRIU's pagemap images: which pages of an object are in its pages file, in which order.

Source of the format: CRIU's images/pagemap.proto and criu/include/magic.h. A file is two magic numbers, then records,
each a little-endian 32-bit length and a protobuf message: first ``pagemap_head`` (1 = pages_id), then
``pagemap_entry`` (1 = vaddr, 2 = number of pages as 32 bits, 3 = in_parent, 4 = flags, 5 = number of pages).
All fields are varints. Images may come from a peer: anything that CRIU would not write is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from streamhop_protocol.errors import LimitError, MalformedError
from streamhop_protocol.page_batches import ADDRESS_BITS_MAX

from .protobuf import fields, varint

IN_PARENT = 1
LAZY = 2
PRESENT = 4
_KNOWN_FLAGS = IN_PARENT | LAZY | PRESENT

PAGEMAP_FILE_BYTES_MAX = 64 * 1024 * 1024
"""Some four million entries. Above that, memory is so scattered that a restore would take minutes."""

_MAGIC = struct.pack("<II", 0x54564319, 0x56084025)
_LENGTH = struct.Struct("<I")
_RECORD_BYTES_MAX = 64
_UINT32_MAX = 0xFFFF_FFFF


class PagemapEntry(NamedTuple):
    """``pages`` pages from page index ``first``; ``flags`` of :data:`IN_PARENT`, :data:`LAZY`, :data:`PRESENT`."""

    first: int
    pages: int
    flags: int


def pages_file_id(data: bytes) -> int:
    """The number in the name of the pages file that belongs to a pagemap image (``pages-<id>.img``).

    :raises MalformedError: not a pagemap image.
    :raises LimitError: larger than any that is accepted.
    """
    if len(data) > PAGEMAP_FILE_BYTES_MAX:
        raise LimitError(f"pagemap of {len(data)} bytes, at most {PAGEMAP_FILE_BYTES_MAX} allowed")
    if not data.startswith(_MAGIC):
        raise MalformedError("image is not a pagemap")
    record, _ = _record(data, len(_MAGIC))
    head = _fields(record)
    if head.keys() != {1} or head[1] > _UINT32_MAX:
        raise MalformedError("head of a pagemap is not one 32-bit pages_id")
    return head[1]


def entries(data: bytes, page_size: int) -> Iterator[PagemapEntry]:
    """The entries of a pagemap image as CRIU dumps it without a parent: ascending, not overlapping, all present.

    :raises MalformedError: anything else, possibly after some entries were yielded.
    :raises LimitError: larger than any that is accepted, or pages beyond the address space.
    """
    pages_file_id(data)
    _, position = _record(data, len(_MAGIC))
    page_limit = (1 << ADDRESS_BITS_MAX) // page_size
    end = 0
    while position < len(data):
        record, position = _record(data, position)
        entry = _entry(_fields(record), page_size)
        if entry.first < end:
            raise MalformedError(f"pagemap entry at page {entry.first} overlaps or is out of order")
        end = entry.first + entry.pages
        if end > page_limit:
            raise LimitError(f"pagemap entry at page {entry.first} is beyond the address space")
        yield entry


def encode_pagemap(pages_id: int, items: Iterable[PagemapEntry], page_size: int) -> bytes:
    """A pagemap image with these entries, in this order."""
    out = bytearray(_MAGIC)
    _append_record(out, b"\x08" + varint(pages_id))
    for first, pages, flags in items:
        count = varint(pages)
        # CRIU reads field 5; field 2 is required by the schema and left 0 by CRIU itself
        _append_record(out, b"\x08" + varint(first * page_size) + b"\x10\x00\x20" + varint(flags) + b"\x28" + count)
    return bytes(out)


def _append_record(out: bytearray, record: bytes) -> None:
    out += _LENGTH.pack(len(record))
    out += record


def _record(data: bytes, position: int) -> tuple[bytes, int]:
    body = position + _LENGTH.size
    if body > len(data):
        raise MalformedError("pagemap ends inside a record's length")
    (length,) = _LENGTH.unpack_from(data, position)
    if length > _RECORD_BYTES_MAX:
        raise MalformedError(f"record of {length} bytes in a pagemap")
    if body + length > len(data):
        raise MalformedError("pagemap ends inside a record")
    return data[body : body + length], body + length


def _entry(found: dict[int, int], page_size: int) -> PagemapEntry:
    if not {1, 2} <= found.keys() <= {1, 2, 3, 4, 5}:
        raise MalformedError("fields of a pagemap entry are missing or unknown")
    first, misaligned = divmod(found[1], page_size)
    if misaligned:
        raise MalformedError(f"pagemap entry at {found[1]:#x} is not aligned to pages")
    pages = found.get(5, found[2])
    if pages < 1:
        raise MalformedError("pagemap entry has no pages")
    flags = found.get(4, PRESENT)
    if found.get(3) or not flags & PRESENT or flags & IN_PARENT or flags & ~_KNOWN_FLAGS:
        raise MalformedError(f"pagemap entry with flags {flags:#x} has no pages of its own")
    return PagemapEntry(first, pages, flags)


def _fields(record: bytes) -> dict[int, int]:
    """The fields of a message that has nothing but numbers."""
    found: dict[int, int] = {}
    for number, value in fields(record):
        if not isinstance(value, int) or number in found:
            raise MalformedError(f"field {number} of a pagemap record is not one number")
        found[number] = value
    return found
