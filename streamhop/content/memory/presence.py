"""Which pages of a mapping exist: page indices from /proc/PID/pagemap, data ranges of shared files.

Sources: Documentation/admin-guide/mm/pagemap.rst (bits, PAGEMAP_SCAN), lseek(2) (SEEK_DATA).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator

import numpy as np

from .page_windows import WINDOW_PAGES, PageIndices, expand_runs

_BIT_PRESENT = np.uint64(1 << 63)
_BIT_SWAPPED = np.uint64(1 << 62)
_BIT_FILE = np.uint64(1 << 61)
_BIT_GUARD = np.uint64(1 << 58)

_PAGEMAP_SCAN = 0xC060_6610
"""_IOWR('f', 16, struct pm_scan_arg), Linux 6.7."""
_SCAN_ARGUMENT = struct.Struct("=12Q")
_SCAN_REGIONS = 2048
_IS_FILE, _IS_PRESENT, _IS_SWAPPED, _IS_ZERO_PAGE, _IS_GUARD = 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 8
"""The last since Linux 6.16: pages that were made guards (MADV_GUARD_INSTALL), which count as swapped out."""

_SCAN_UNSUPPORTED = frozenset({errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP})


class PrivatePages:
    """Lists pages of private mappings of one process that are its own: in memory or swapped out, not the file's."""

    def __init__(self, pagemap_fd: int, page_size: int) -> None:
        self._fd = pagemap_fd
        self._page_size = page_size
        self._can_scan = True
        self._left_out = _IS_FILE | _IS_ZERO_PAGE | _IS_GUARD
        self._regions = np.zeros((_SCAN_REGIONS, 3), dtype=np.uint64)

    def windows(self, start: int, end: int) -> Iterator[PageIndices]:
        """Yield ascending arrays of page indices for the addresses ``start`` to ``end``; none is empty.

        Memory that is mapped but was never touched costs next to nothing where the kernel has PAGEMAP_SCAN.

        :raises OSError: the process is gone, or the kernel does not show this range.
        """
        if self._can_scan:
            try:
                yield from self._scan(start, end)
            except OSError as error:
                if error.errno not in _SCAN_UNSUPPORTED:
                    raise
                # An old kernel says so at the first call, before anything was yielded
                self._can_scan = error.errno == errno.EINVAL and bool(self._left_out & _IS_GUARD)
                self._left_out &= ~_IS_GUARD
                yield from self.windows(start, end)
            return
        yield from self._read(start, end)

    def _scan(self, start: int, end: int) -> Iterator[PageIndices]:
        position = start
        while position < end:
            argument = bytearray(
                _SCAN_ARGUMENT.pack(
                    _SCAN_ARGUMENT.size,
                    0,
                    position,
                    end,
                    0,  # walk_end, an answer
                    self._regions.ctypes.data,
                    _SCAN_REGIONS,
                    WINDOW_PAGES,
                    self._left_out,  # inverted: these must be clear
                    self._left_out,
                    _IS_PRESENT | _IS_SWAPPED,  # any of these
                    _IS_PRESENT | _IS_SWAPPED,  # returned
                )
            )
            count = fcntl.ioctl(self._fd, _PAGEMAP_SCAN, argument, True)
            reached = int(_SCAN_ARGUMENT.unpack(argument)[4])
            if count:
                # With more than 512 regions Linux (seen: 6.18) may answer a walk_end before the last of them
                reached = max(reached, int(self._regions[count - 1, 1]))
                bounds = (self._regions[:count, :2] // np.uint64(self._page_size)).astype(np.int64)
                yield expand_runs(bounds[:, 0], bounds[:, 1] - bounds[:, 0])
            if reached <= position:
                return
            position = reached

    def _read(self, start: int, end: int) -> Iterator[PageIndices]:
        first, last = start // self._page_size, end // self._page_size
        for window in range(first, last, WINDOW_PAGES):
            wanted = min(WINDOW_PAGES, last - window)
            entries = np.frombuffer(os.pread(self._fd, wanted * 8, window * 8), dtype=np.uint64)
            own = (entries & (_BIT_PRESENT | _BIT_SWAPPED) != 0) & (entries & (_BIT_FILE | _BIT_GUARD) == 0)
            indices = np.flatnonzero(own)
            if indices.size:
                yield indices + window


def file_windows(descriptor: int, page_size: int) -> Iterator[PageIndices]:
    """Yield ascending arrays of indices of pages of a file that hold data; holes are not read, so not filled.

    A file system that knows no holes (hugetlbfs) is all data.

    :raises OSError: the file cannot be sought in.
    """
    size = os.fstat(descriptor).st_size
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno != errno.EINVAL:
                raise
            start, end = position, size
        first, last = start // page_size, -(-end // page_size)
        for window in range(first, last, WINDOW_PAGES):
            yield np.arange(window, min(window + WINDOW_PAGES, last), dtype=np.int64)
        position = max(end, position + page_size)
