"""What a dump of a frozen process will hold, before it is made: where each page of its pages file belongs.

CRIU tells that in a file that is complete only in the end. Knowing it earlier lets pages be compared and hashed while
they are written. It is a guess, held against CRIU's own word afterwards: a wrong one costs time and nothing else.

Source: criu/mem.c (``should_dump_page``): of private mappings CRIU dumps the pages that are in memory or swapped out
and not a file's, and all of the vDSO.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .criu_pagemap import PagemapEntry
from .maps import Mapping, parse_maps, private_mappings
from .presence import PageIndices, PrivatePages

Runs = list[tuple[int, int]]
"""First page and number of pages; ascending, none touches the next."""

_VDSO = "[vdso]"


@dataclass(frozen=True, slots=True)
class ExpectedObject:
    """Pages of one memory object, in the order of its pages file."""

    name: str
    runs: Runs

    @property
    def pages(self) -> int:
        """How many."""
        return sum(count for _, count in self.runs)


def expected_object(name: str, host_pid: int, page_size: int) -> ExpectedObject | None:
    """What CRIU will dump of a frozen process; None if it cannot be told."""
    directory = Path(f"/proc/{host_pid}")
    try:
        mappings = private_mappings(parse_maps((directory / "maps").read_text(errors="surrogateescape")))
        descriptor = os.open(directory / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pages = PrivatePages(descriptor, page_size)
        windows = [window for mapping in mappings for window in _windows(pages, mapping, page_size)]
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return ExpectedObject(name, _runs_of(windows))


def _windows(pages: PrivatePages, mapping: Mapping, page_size: int) -> Iterable[PageIndices]:
    if mapping.path == _VDSO:
        return [np.arange(mapping.start // page_size, mapping.end // page_size, dtype=np.int64)]
    return pages.windows(mapping.start, mapping.end)


def _runs_of(windows: Sequence[PageIndices]) -> Runs:
    found: list[PagemapEntry] = []
    for window in windows:
        cuts = np.flatnonzero(np.diff(window) != 1) + 1
        firsts = window[np.concatenate(([0], cuts))]
        counts = np.diff(np.concatenate(([0], cuts, [len(window)])))
        found += (PagemapEntry(first, count, 0) for first, count in zip(firsts.tolist(), counts.tolist(), strict=True))
    return merged(found)


def merged(entries: Iterable[PagemapEntry]) -> Runs:
    """Ascending entries, with those that touch as one."""
    runs: Runs = []
    for first, pages, _ in entries:
        if runs and runs[-1][0] + runs[-1][1] == first:
            runs[-1] = (runs[-1][0], runs[-1][1] + pages)
        else:
            runs.append((first, pages))
    return runs
