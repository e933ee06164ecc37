"""Gathers pages into batches of a size that lets more urgent data overtake soon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from streamhop_protocol.page_batches import (
    LIKE,
    LIKE_BYTES_PER_BATCH_MAX,
    RAW,
    RUNS_PER_BATCH_MAX,
    WITH_DATA,
    ZERO,
    ZERO_PAGES_PER_BATCH_MAX,
    PageRun,
    encode_meta,
)

from .encoding import LEFT_OUT, Kinds

BATCH_BYTES = 256 * 1024
"""Bytes of pages in a batch. At 20 Mbit/s and a ratio of 0.2 these are 20 ms on the wire."""


@dataclass(frozen=True, slots=True)
class PageBatch:
    """Pages of one object: ``meta`` goes into msgpack, ``data`` (independent bytes) is the chunk's payload."""

    meta: dict[str, object]
    data: bytes


class BatchBuilder:
    """Joins pages, given in ascending order of each object, into batches.

    :param page_size: bytes of a page.
    """

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._room = {
            RAW: BATCH_BYTES // page_size,
            ZERO: ZERO_PAGES_PER_BATCH_MAX,
            LIKE: LIKE_BYTES_PER_BATCH_MAX // page_size,
        }
        """Pages of a batch by kind; those with data share one room."""
        self._object_name = ""
        self._like_object: str | None = None
        self._runs: list[PageRun] = []
        self._pieces: list[bytes] = []
        self._pages: Counter[int] = Counter()

    def add(
        self,
        object_name: str,
        indices: npt.NDArray[np.int64],
        kinds: Kinds,
        data: memoryview,
        like_object: str | None = None,
    ) -> Iterator[PageBatch]:
        """Take pages and yield the batches they complete.

        :param indices: ascending page indices.
        :param kinds: what is sent of each, or that it is left out.
        :param data: the bytes of all of them, in order; copied.
        :param like_object: what pages of kind ``LIKE`` are like.
        """
        if object_name != self._object_name:
            yield from self.flush()
            self._object_name = object_name
        # A run ends where the indices jump, where pages are left out, and where kinds meet
        cuts = np.flatnonzero((np.diff(indices) != 1) | (kinds[1:] != kinds[:-1])) + 1
        bounds = [0, *cuts.tolist(), len(indices)]
        for begin, end in pairwise(bounds):
            kind = int(kinds[begin])
            if kind != LEFT_OUT:
                if kind == LIKE and self._like_object != like_object:
                    if self._pages[LIKE]:
                        yield from self.flush()
                    self._like_object = like_object
                run = PageRun(int(indices[begin]), end - begin, kind)
                yield from self._add_run(run, data[begin * self._page_size :])

    def _add_run(self, run: PageRun, data: memoryview) -> Iterator[PageBatch]:
        first, left, kind = run
        counted_as = RAW if kind in WITH_DATA else kind
        while left:
            count = min(left, self._room[counted_as] - self._pages[counted_as])
            if kind in WITH_DATA:
                self._pieces.append(bytes(data[: count * self._page_size]))
                data = data[count * self._page_size :]
            self._pages[counted_as] += count
            self._append(PageRun(first, count, kind))
            first, left = first + count, left - count
            if self._pages[counted_as] == self._room[counted_as] or len(self._runs) == RUNS_PER_BATCH_MAX:
                yield from self.flush()

    def _append(self, run: PageRun) -> None:
        if self._runs:
            last = self._runs[-1]
            if last.kind == run.kind and last.first + last.pages == run.first:
                self._runs[-1] = PageRun(last.first, last.pages + run.pages, run.kind)
                return
        self._runs.append(run)

    def flush(self) -> Iterator[PageBatch]:
        """Yield what is left, if anything."""
        if self._runs:
            named = self._like_object if self._pages[LIKE] else None
            batch = PageBatch(encode_meta(self._object_name, self._runs, named), b"".join(self._pieces))
            self._runs, self._pieces, self._pages = [], [], Counter()
            yield batch
