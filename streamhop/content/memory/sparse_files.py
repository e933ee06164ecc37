"""Pages on disk, laid out so that CRIU can read them where they are.

CRIU finds a page in a pages file by adding up the pages of all present entries before it. A pagemap that declares one
entry over a whole range of addresses therefore makes an offset out of an address, and a sparse file need hold only the
pages there are. Such a pagemap may declare pages that no process has only in a *parent* image: of a parent CRIU reads
what the child's pagemap asks for, and nothing else.

File systems bound a file's length (ext4: 16 TiB), so an object's addresses are cut into segments of 8 TiB, each a file
of its own. Processes use two or three of them (program and heap, libraries and stacks, sometimes low addresses).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .block_digests import BlockDigests
from .page_set import PageSet

SEGMENT_BYTES = 1 << 43
_OPEN_FILES_MAX = 64

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


@dataclass(slots=True)
class Segment:
    """8 TiB of an object's addresses. Page indices in it are those of the object."""

    number: int
    """Address // :data:`SEGMENT_BYTES`."""
    level: int
    """How many parent directories down its file is."""
    path: Path
    held: PageSet = field(default_factory=PageSet)
    """Pages that arrived, those of zeros included."""
    stored: PageSet = field(default_factory=PageSet)
    """Pages that take room on disk."""
    digests: BlockDigests = field(default_factory=BlockDigests)
    """Of what is in the file, as far as they were taken."""

    @property
    def index_bytes(self) -> int:
        """Estimate of the memory it takes to know what is held."""
        return self.held.size_bytes + self.stored.size_bytes


class SparseFiles:
    """Reads and writes segments' files, a bounded number of them open at a time. Not for several threads at once."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._open: OrderedDict[Path, int] = OrderedDict()

    def create(self, segment: Segment) -> None:
        """Make a segment's file, all zeros.

        :raises OSError: it exists, or the file system cannot hold a file that long.
        """
        descriptor = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # CRIU 4.2 reads in a loop until it has all it asked for: never let it meet the end of a file
            os.ftruncate(descriptor, SEGMENT_BYTES)
        finally:
            os.close(descriptor)

    def write(self, segment: Segment, first: int, data: memoryview) -> None:
        """Put pages where they belong.

        :raises OSError: no space.
        """
        descriptor, offset = self._descriptor(segment), self._offset(segment, first)
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written

    def clear(self, segment: Segment, first: int, count: int) -> None:
        """Make pages zero and give their room back.

        :raises OSError: the disk failed.
        """
        descriptor, offset = self._descriptor(segment), self._offset(segment, first)
        length = count * self._page_size
        if _libc.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, length) == 0:
            return
        number = ctypes.get_errno()
        if number != errno.EOPNOTSUPP:
            raise OSError(number, os.strerror(number), str(segment.path))
        zeros = memoryview(bytes(min(length, 1 << 20)))
        while length:
            written = os.pwrite(descriptor, zeros[:length], offset)
            length, offset = length - written, offset + written

    def read(self, segment: Segment, first: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with pages; what was never written is zero.

        :raises OSError: the disk failed, or the file was cut.
        """
        descriptor, offset = self._descriptor(segment), self._offset(segment, first)
        while buffer:
            got = os.preadv(descriptor, [buffer], offset)
            if not got:
                raise OSError(errno.EIO, "shorter than it was made", str(segment.path))
            buffer, offset = buffer[got:], offset + got

    def data_ranges(self, segment: Segment) -> Iterator[tuple[int, int]]:
        """Which pages the file has room for on disk: first page and number of pages, in rising order.

        :raises OSError: there is no such file, or the disk failed.
        """
        descriptor, base = self._descriptor(segment), segment.number * SEGMENT_BYTES
        end = 0
        while True:
            try:
                start = os.lseek(descriptor, end, os.SEEK_DATA)
                end = os.lseek(descriptor, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            first = (base + start) // self._page_size
            yield first, -(-(base + end) // self._page_size) - first

    def close(self) -> None:
        """Close all files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _offset(self, segment: Segment, first: int) -> int:
        return first * self._page_size - segment.number * SEGMENT_BYTES

    def _descriptor(self, segment: Segment) -> int:
        descriptor = self._open.pop(segment.path, None)
        if descriptor is None:
            if len(self._open) >= _OPEN_FILES_MAX:
                os.close(self._open.popitem(last=False)[1])
            descriptor = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._open[segment.path] = descriptor
        return descriptor
