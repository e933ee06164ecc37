"""Many pages at once: ascending arrays of page indices, made of runs and cut where they have to be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

PageIndices: TypeAlias = npt.NDArray[np.int64]

WINDOW_PAGES = 1 << 16
"""Pages looked at in one go; 512 KiB of pagemap or of indices."""


def expand_runs(firsts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> PageIndices:
    """The page indices of runs of pages, in the runs' order."""
    total = int(counts.sum())
    run_starts = np.cumsum(counts) - counts
    return np.repeat(firsts - run_starts, counts) + np.arange(total, dtype=np.int64)


def page_windows(runs: Iterable[tuple[int, int, int]]) -> Iterator[PageIndices]:
    """Yield ascending arrays of the indices of pages in ``runs`` (first page, pages, anything), a window at a time."""
    firsts: list[int] = []
    counts: list[int] = []
    room = WINDOW_PAGES
    for start, pages, _ in runs:
        first, left = start, pages
        while left:
            count = min(left, room)
            firsts.append(first)
            counts.append(count)
            first, left, room = first + count, left - count, room - count
            if not room:
                yield expand_runs(np.array(firsts, dtype=np.int64), np.array(counts, dtype=np.int64))
                firsts, counts, room = [], [], WINDOW_PAGES
    if firsts:
        yield expand_runs(np.array(firsts, dtype=np.int64), np.array(counts, dtype=np.int64))


def by_granule(windows: Iterable[PageIndices], granule_pages: int) -> Iterator[PageIndices]:
    """Cut ascending arrays of page indices where one granule ends and the next begins; a granule is never cut."""
    rest: PageIndices = np.zeros(0, dtype=np.int64)
    for window in windows:
        joined = np.concatenate((rest, window)) if len(rest) else window
        begin = 0
        for end in (np.flatnonzero(np.diff(joined // granule_pages)) + 1).tolist():
            yield joined[begin:end]
            begin = end
        rest = joined[begin:]
    if len(rest):
        yield rest
