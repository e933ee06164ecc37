"""Rounds of pre-copy at the source: reads the memory of running processes, yields what the target does not hold.

Nothing is frozen, so what is read may be torn or late. That does no harm: the dump of the frozen container is
compared with what was sent, see :mod:`.final`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from streamhop_protocol.held_pages import HeldPages

from .batching import BatchBuilder, PageBatch
from .encoding import encode, note_sent
from .final import FinalImage
from .maps import Mapping, anonymous_shared_device, parse_maps, private_mappings, shared_mappings
from .page_windows import PageIndices, by_granule
from .presence import PrivatePages, file_windows
from .sent_pages import SentPages
from .stats import RoundStats
from .table import GRANULE_PAGES, PageHasher, SentTable, as_hashes

DEFER_AFTER_ROUNDS = 3
"""A page that changed in this many rounds in a row is left to the final stage."""

TABLE_BYTES_MAX = 512 * 1024 * 1024
"""Hashes of some 110 GiB of memory."""


class ProcessLike(Protocol):
    """A process of the container."""

    @property
    def host_pid(self) -> int:
        """Its PID on this host."""

    @property
    def ns_pid(self) -> int:
        """Its PID in the container's PID namespace; CRIU names its images by that."""


class MemorySource:
    """What of a container's memory the target holds, and how to bring it up to date.

    One object serves one move. A round that is not consumed to its end leaves it unusable: pages count as sent when
    they are yielded. :meth:`cut_round` brings the end about.

    :param seed: secret, drawn for each move; hashes are taken under it.
    :param page_size: bytes of a page on this host.
    :param sent_bytes_max: memory for pages as they were sent, to send differences to them.
    """

    def __init__(
        self,
        seed: int,
        *,
        page_size: int = os.sysconf("SC_PAGE_SIZE"),
        defer_after_rounds: int = DEFER_AFTER_ROUNDS,
        table_bytes_max: int = TABLE_BYTES_MAX,
        sent_bytes_max: int = 0,
    ) -> None:
        self._page_size = page_size
        self._table = SentTable(PageHasher(seed, page_size), defer_after_rounds, table_bytes_max)
        self._buffer = memoryview(bytearray(GRANULE_PAGES * page_size))
        self._builder = BatchBuilder(page_size)
        self._sent = SentPages(page_size, sent_bytes_max)
        self.keeps_sent = True
        """Whether pages are kept to send differences to them: not worth while on a fast link."""
        self._cut = threading.Event()
        self.last_round = RoundStats()

    def round(self, processes: Sequence[ProcessLike]) -> Iterator[PageBatch]:
        """Yield the pages of ``processes`` that changed since they were last sent; blocks, nothing is frozen.

        Processes and mappings that go away meanwhile are left out. ``last_round`` counts along.
        """
        try:
            yield from self._pass_over(processes)
        finally:
            # Not before: a cut may come before the round's thread does.
            self._cut.clear()

    def _pass_over(self, processes: Sequence[ProcessLike]) -> Iterator[PageBatch]:
        stats = self.last_round = RoundStats()
        device = anonymous_shared_device()
        shared_done: set[str] = set()
        for process in processes:
            mappings = _mappings(process.host_pid)
            yield from self._private_pages(process, private_mappings(mappings), stats)
            for object_name, mapping in shared_mappings(mappings, device).items():
                if object_name not in shared_done:
                    shared_done.add(object_name)
                    yield from self._shared_pages(object_name, process.host_pid, mapping, stats)
        yield from self._builder.flush()

    def cut_round(self) -> None:
        """Let the round under way, or the next one, end early; may be called from another thread."""
        self._cut.set()

    def learn(self, held: HeldPages) -> None:
        """The target has these pages from an earlier attempt, hashed under this move's seed."""
        hashes, at = as_hashes(held.hashes), 0
        for first, count in held.runs:
            self._table.learn(held.object_name, first, hashes[at : at + count])
            at += count

    def final(self, image_dir: Path) -> FinalImage:
        """The dump of the frozen container that CRIU is about to make, to send what of it the target does not hold."""
        return FinalImage(image_dir, self._table, self._sent, self._page_size)

    def close(self) -> None:
        """Give back the memory of pages kept; everything is sent whole from now on. Safe to repeat."""
        self._sent.close()

    def _private_pages(
        self, process: ProcessLike, mappings: Sequence[Mapping], stats: RoundStats
    ) -> Iterator[PageBatch]:
        directory = f"/proc/{process.host_pid}"
        object_name = f"pagemap-{process.ns_pid}"
        with contextlib.ExitStack() as stack:
            try:
                memory_fd = _open(stack, f"{directory}/mem")
                pages = PrivatePages(_open(stack, f"{directory}/pagemap"), self._page_size)
            except OSError:
                return
            for mapping in mappings:
                yield from self._visit(object_name, pages.windows(mapping.start, mapping.end), memory_fd, stats)

    def _shared_pages(
        self, object_name: str, host_pid: int, mapping: Mapping, stats: RoundStats
    ) -> Iterator[PageBatch]:
        with contextlib.ExitStack() as stack:
            try:
                file_fd = _open(stack, f"/proc/{host_pid}/map_files/{mapping.map_file}")
            except OSError:
                return
            yield from self._visit(object_name, file_windows(file_fd, self._page_size), file_fd, stats)

    def _visit(
        self, object_name: str, windows: Iterator[PageIndices], content_fd: int, stats: RoundStats
    ) -> Iterator[PageBatch]:
        parts = by_granule(windows, GRANULE_PAGES)
        while not self._cut.is_set():
            try:
                part = next(parts, None)
            except OSError:  # the process or the mapping went away
                return
            if part is None:
                return
            yield from self._visit_granule(object_name, part, content_fd, stats)

    def _visit_granule(
        self, object_name: str, indices: PageIndices, content_fd: int, stats: RoundStats
    ) -> Iterator[PageBatch]:
        indices = self._read(content_fd, indices)
        if not indices.size:
            return
        stats.scanned_pages += len(indices)
        number = int(indices[0]) // GRANULE_PAGES
        slots = indices - number * GRANULE_PAGES
        data = self._buffer[: len(indices) * self._page_size]
        verdict = self._table.visit(object_name, number, slots, data)
        if verdict is None:
            return
        kinds, encoded = encode(self._sent, object_name, number, slots, verdict, data)
        note_sent(self._sent, object_name, number, slots, verdict, data, keep=self.keeps_sent)
        stats.count(verdict, kinds)
        yield from self._builder.add(object_name, indices, kinds, encoded, verdict.like_object)

    def _read(self, content_fd: int, indices: PageIndices) -> PageIndices:
        """Read pages into the buffer, one after the other; returns those that could be read."""
        page_size, filled = self._page_size, 0
        unread: list[int] = []
        cuts = np.flatnonzero(np.diff(indices) != 1) + 1
        bounds = [0, *cuts.tolist(), len(indices)]
        for begin, end in pairwise(bounds):
            room = self._buffer[filled : filled + (end - begin) * page_size]
            try:
                got = os.preadv(content_fd, [room], int(indices[begin]) * page_size)
            except OSError:
                got = 0
            pages = -(-got // page_size)
            # A file may end inside a page; what is mapped beyond its end is zero
            room[got : pages * page_size] = bytes(pages * page_size - got)
            filled += pages * page_size
            if pages < end - begin:
                unread.extend(range(begin + pages, end))
        return np.delete(indices, unread) if unread else indices


def _mappings(host_pid: int) -> list[Mapping]:
    try:
        return parse_maps(Path(f"/proc/{host_pid}/maps").read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return []


def _open(stack: contextlib.ExitStack, path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor
