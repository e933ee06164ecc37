"""A set of page indices that stays small where pages lie together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

GRANULE_PAGES = 512
_FULL = (1 << GRANULE_PAGES) - 1

GRANULE_BYTES = 256
"""Estimate of what one entry takes: a key, an integer of 512 bits, a place in the table."""


class PageSet:
    """Page indices as one bit each, in integers of 512 bits."""

    def __init__(self) -> None:
        self._granules: dict[int, int] = {}
        self.count = 0

    @property
    def size_bytes(self) -> int:
        """Estimate of the memory the set takes."""
        return len(self._granules) * GRANULE_BYTES

    def add(self, first: int, count: int) -> int:
        """Add pages; returns how many were not in the set."""
        added = 0
        for number, mask in _masks(first, count):
            held = self._granules.get(number, 0)
            fresh = mask & ~held
            if fresh:
                self._granules[number] = held | mask
                added += fresh.bit_count()
        self.count += added
        return added

    def remove(self, first: int, count: int) -> int:
        """Take pages out; returns how many were in the set."""
        removed = 0
        for number, mask in _masks(first, count):
            held = self._granules.get(number, 0)
            gone = held & mask
            if gone:
                removed += gone.bit_count()
                if held == gone:
                    del self._granules[number]
                else:
                    self._granules[number] = held ^ gone
        self.count -= removed
        return removed

    def bits(self, first: int, count: int) -> int:
        """Which of the ``count`` pages from ``first`` are in the set: bit 0 is the first; all in one granule of it."""
        number, slot = divmod(first, GRANULE_PAGES)
        return self._granules.get(number, 0) >> slot & (1 << count) - 1

    def first_missing(self, first: int, count: int) -> int | None:
        """The lowest of the ``count`` pages from ``first`` that is not in the set, or None."""
        for number, mask in _masks(first, count):
            missing = mask & ~self._granules.get(number, 0)
            if missing:
                return number * GRANULE_PAGES + (missing & -missing).bit_length() - 1
        return None


def _masks(first: int, count: int) -> Iterator[tuple[int, int]]:
    """Which bits of which granules the ``count`` pages from ``first`` are."""
    end = first + count
    while first < end:
        number, slot = divmod(first, GRANULE_PAGES)
        pages = min(end - first, GRANULE_PAGES - slot)
        yield number, _FULL if pages == GRANULE_PAGES else ((1 << pages) - 1) << slot
        first += pages
