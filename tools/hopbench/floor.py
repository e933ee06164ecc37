"""The physical floor of a move: what changed since it was last sent, as small as zstd -3 makes it. Pure.

A *shadow* holds, for each page, what was last sent of it; a page that was never sent is not in it. Pages are compared
and joined in the order of the dump, and compressed as one frame: no sender that works in pieces gets below that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import zstandard

LEVEL = 3


def changed_pages(final: memoryview, shadow: memoryview, page_bytes: int) -> Iterator[memoryview]:
    """Yield the pages of ``final`` that differ from those of ``shadow``; pages never sent are zeros there.

    :param final: whole pages.
    :param shadow: as many.
    """
    now = np.frombuffer(final, dtype=np.uint64).reshape(-1, page_bytes // 8)
    before = np.frombuffer(shadow, dtype=np.uint64).reshape(-1, page_bytes // 8)
    for index in np.flatnonzero((now != before).any(axis=1)).tolist():
        yield final[index * page_bytes : (index + 1) * page_bytes]


class ZstdSize:
    """Counts what one zstd frame of everything added takes, without keeping it."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()
        self.pages = 0
        self._bytes = 0

    def add(self, pages: Iterable[memoryview]) -> None:
        """Take more pages."""
        for page in pages:
            self.pages += 1
            self._bytes += len(self._compressor.compress(page))

    def finish(self) -> int:
        """Bytes of the whole frame; zero if nothing was added."""
        self._bytes += len(self._compressor.flush())
        return self._bytes if self.pages else 0
