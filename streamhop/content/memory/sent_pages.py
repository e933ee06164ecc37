"""The content of pages as last sent, as far as there is room: what differences are taken to.

The pages are in a memory file of their own, which is no part of the daemon's address space; where there is no room for
all, those that changed longest ago go first.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from itertools import pairwise
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from .image_digest import BLOCK_PAGES

Pages: TypeAlias = npt.NDArray[np.uint64]
"""A row a page."""

Mask: TypeAlias = npt.NDArray[np.bool_]
Slots: TypeAlias = npt.NDArray[np.int64]


class _Block:
    """Where a block has its place in the file, and which of its pages are there."""

    __slots__ = ("held", "place")

    def __init__(self, place: int) -> None:
        self.place = place
        self.held: Mask = np.zeros(BLOCK_PAGES, dtype=np.bool_)


class SentPages:
    """Keeps pages by object, block (page index // ``BLOCK_PAGES``) and slot in it. For one thread at a time.

    :param page_size: bytes of a page.
    :param bytes_max: most that is kept.
    """

    def __init__(self, page_size: int, bytes_max: int) -> None:
        self._page_size = page_size
        self._places = bytes_max // (page_size * BLOCK_PAGES)
        self._blocks: OrderedDict[tuple[str, int], _Block] = OrderedDict()
        self._file = os.memfd_create("streamhop-sent", os.MFD_CLOEXEC) if self._places else -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything, and give the memory back. Safe to repeat; nothing is kept afterwards."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._places = -1, 0
            self._blocks.clear()

    def keep(self, object_name: str, block: int, slots: Slots, pages: Pages) -> None:
        """Keep pages as they were sent.

        :param slots: ascending.
        :param pages: a row for each.
        """
        if not self._places or not len(slots):
            return
        kept = self._block(object_name, block)
        cuts = np.flatnonzero(np.diff(slots) != 1) + 1
        bounds = [0, *cuts.tolist(), len(slots)]
        for begin, end in pairwise(bounds):
            run = pages[begin:end].data.cast("B")
            try:
                written = os.pwrite(self._file, run, self._offset(kept, int(slots[begin])))
            except OSError:  # no memory: what is not kept is sent whole
                written = 0
            kept.held[slots[begin:end]] = written == len(run)

    def forget(self, object_name: str, block: int, slots: Slots) -> None:
        """These pages have been sent with another content since."""
        kept = self._blocks.get((object_name, block))
        if kept is not None:
            kept.held[slots] = False

    def recall(self, object_name: str, block: int, slots: Slots) -> tuple[Pages, Mask] | None:
        """Pages as they were sent, a row for each, and which of the rows hold; None if none does.

        :param slots: ascending, not empty.
        """
        kept = self._blocks.get((object_name, block))
        if kept is None or not (held := kept.held[slots]).any():
            return None
        first, end = int(slots[0]), int(slots[-1]) + 1
        content = np.zeros(((end - first), self._page_size // 8), dtype=np.uint64)
        got = os.preadv(self._file, [content.data.cast("B")], self._offset(kept, first))
        # A place that was never written to its end is shorter: those pages are not held.
        held = held & (slots - first < got // self._page_size)
        return content[slots - first], held

    def _block(self, object_name: str, block: int) -> _Block:
        key = (object_name, block)
        kept = self._blocks.get(key)
        if kept is not None:
            self._blocks.move_to_end(key)
            return kept
        full = len(self._blocks) >= self._places
        place = self._blocks.popitem(last=False)[1].place if full else len(self._blocks)
        kept = self._blocks[key] = _Block(place)
        return kept

    def _offset(self, kept: _Block, slot: int) -> int:
        return (kept.place * BLOCK_PAGES + slot) * self._page_size
