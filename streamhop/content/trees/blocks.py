"""Which blocks of a file differ from what was sent of it before.

A block is known by 16 bytes of its BLAKE3 hash, collision resistant because both versions may come from whoever runs
in the container. A block of zeros has the hash of zeros, whatever its length: holes need not be read to be known.

What is compared is smaller than what the target is asked for: a database writes 4 to 16 KiB here and there, and each
time a whole block would go.
"""

from __future__ import annotations

import enum
import errno
import os
from typing import TYPE_CHECKING

from blake3 import blake3

from streamhop_protocol.tree_records import CONTENT_DATA_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 64 * 1024
"""Of a block that the target may hold from an earlier attempt."""

UNIT_BYTES = 8 * 1024
"""Of a block that is compared with what was sent. Hashing costs 0.52 s a GB so, 0.34 s in blocks of 64 KiB, 0.70 s in
blocks of 4 KiB."""

HASH_BYTES = 16

_READ_BYTES = CONTENT_DATA_BYTES_MAX // UNIT_BYTES * UNIT_BYTES
_ZEROS = bytes(UNIT_BYTES)
_ZERO_HASH = bytes(HASH_BYTES)

Piece = tuple[int, int, memoryview | None]
"""A changed range: offset and length in bytes, and its data, or None where it reads as zeros."""


class _Now(enum.Enum):
    """What a block is, beside what it was."""

    SAME = enum.auto()
    ZERO = enum.auto()
    OTHER = enum.auto()


def hashes_bytes(size: int) -> int:
    """Bytes that the hashes of a file of ``size`` bytes take."""
    return -(-size // UNIT_BYTES) * HASH_BYTES


def hash_of(block: bytes | memoryview) -> bytes:
    """What a block is known by."""
    return blake3(block).digest(length=HASH_BYTES)


def blocks_of(offset: int, data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Cut content of a file that begins at ``offset`` where its blocks begin; yields the place in ``data`` of each."""
    start = 0
    while start < len(data):
        end = min(len(data), start + BLOCK_BYTES - (offset + start) % BLOCK_BYTES)
        yield start, data[start:end]
        start = end


def changed_pieces(
    fd: int, size: int, before: bytes | None, after: bytearray | None, *, maybe_sparse: bool
) -> Iterator[Piece]:
    """Read a file and tell what changed, in rising order.

    What cannot be read because the file has become shorter reads as zeros.

    :param fd: the file.
    :param size: bytes to look at.
    :param before: hashes of the blocks sent earlier; missing ones are zeros; None: nothing is known of them.
    :param after: takes the hashes of what is told now, :func:`hashes_bytes` zeros at first; None: not wanted.
    :param maybe_sparse: look for holes.
    """
    position = 0
    for start, end in _data_ranges(fd, size) if maybe_sparse else [(0, size)]:
        yield from _hole(position, start, before)
        for at in range(start, end, _READ_BYTES):
            data = _read(fd, at, min(_READ_BYTES, end - at))
            yield from _changed_runs(data, at, before, after)
        position = end
    yield from _hole(position, size, before)


def _hole(start: int, end: int, before: bytes | None) -> Iterator[Piece]:
    if start >= end:
        return
    if before is None or any(before[start // UNIT_BYTES * HASH_BYTES : hashes_bytes(end)]):
        yield start, end - start, None


def _changed_runs(data: bytes, at: int, before: bytes | None, after: bytearray | None) -> Iterator[Piece]:
    view = memoryview(data)
    run, run_is = 0, _Now.SAME
    """Where in ``data`` the run of blocks begins that is not told yet, and what became of them."""
    for start in range(0, len(data), UNIT_BYTES):
        block = view[start : start + UNIT_BYTES]
        is_zero = data.startswith(_ZEROS[: len(block)], start)
        now = _ZERO_HASH if is_zero else hash_of(block)
        hash_at = (at + start) // UNIT_BYTES * HASH_BYTES
        if after is not None:
            after[hash_at : hash_at + HASH_BYTES] = now
        if before is not None and now == (before[hash_at : hash_at + HASH_BYTES] or _ZERO_HASH):
            block_is = _Now.SAME
        else:
            block_is = _Now.ZERO if is_zero else _Now.OTHER
        if block_is is not run_is:
            yield from _run(view[run:start], at + run, run_is)
            run, run_is = start, block_is
    yield from _run(view[run:], at + run, run_is)


def _run(data: memoryview, at: int, run_is: _Now) -> Iterator[Piece]:
    if data and run_is is not _Now.SAME:
        yield at, len(data), data if run_is is _Now.OTHER else None


def _read(fd: int, at: int, length: int) -> bytes:
    data = os.pread(fd, length, at)
    while len(data) < length:
        more = os.pread(fd, length - len(data), at + len(data))
        if not more:
            return data.ljust(length, b"\0")
        data += more
    return data


def _data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges that may hold data, widened to whole blocks, joined where they then touch."""
    start, end = 0, 0
    while end < size:
        try:
            data_at = os.lseek(fd, end, os.SEEK_DATA)
            hole_at = os.lseek(fd, data_at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole up to the end, or the file has become shorter
        data_at = data_at // UNIT_BYTES * UNIT_BYTES
        if data_at >= size:
            break
        if data_at > end:
            if start < end:
                yield start, end
            start = data_at
        end = min(-(-hole_at // UNIT_BYTES) * UNIT_BYTES, size)
    if start < end:
        yield start, end
