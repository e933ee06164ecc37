"""The dump of the frozen container: what of it the target lacks, and the digest over all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from streamhop_protocol.errors import MalformedError

from .batching import BatchBuilder, PageBatch
from .criu_pagemap import PagemapEntry, entries, pages_file_id
from .encoding import encode, note_sent
from .image_digest import BLOCK_PAGES, ImageDigest, block_digest
from .presence import PageIndices, by_granule, page_windows
from .sent_pages import SentPages
from .stats import RoundStats
from .table import SentTable

_BESIDE = frozenset({"descriptors.json"})
"""What runc puts into an image directory and needs for a restore."""


class FinalImage:
    """A dump made by CRIU, without a parent, in a directory of its own.

    :param image_dir: the directory; best on a tmpfs.
    :param table: what the target holds.
    :param sent: content of pages that it holds, as far as it was kept.
    :param page_size: bytes of a page.
    :raises OSError: the directory cannot be read.
    """

    def __init__(self, image_dir: Path, table: SentTable, sent: SentPages, page_size: int) -> None:
        self._table = table
        self._sent = sent
        self._page_size = page_size
        names = sorted(path.name for path in image_dir.iterdir())
        self._files = [
            image_dir / name
            for name in names
            if name in _BESIDE or (name.endswith(".img") and not name.startswith("pages-"))
        ]
        self._pagemaps = [path for path in self._files if path.name.startswith("pagemap-")]
        self.stats = RoundStats()
        """Counts along with the batches."""

    def image_files(self) -> list[Path]:
        """All files the target needs beside the pages, pagemaps as dumped included; sorted by name."""
        return list(self._files)

    def batches(self) -> Iterator[PageBatch]:
        """Yield the pages that differ from what the target holds; blocks.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        builder = BatchBuilder(self._page_size)
        buffer = self._new_buffer()
        for path in self._pagemaps:
            for indices, data in self._blocks(path, self._runs(path), buffer):
                yield from self._compare(path.stem, indices, data, builder)
        yield from builder.flush()

    def digest(self) -> bytes:
        """The digest of :mod:`.image_digest`; reads the whole dump. May go on in another thread than :meth:`batches`.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        digest = ImageDigest()
        buffer = self._new_buffer()
        for path in self._pagemaps:
            runs = self._runs(path)
            digest.begin_pages(path.name, sum(run.pages for run in runs))
            for _, data in self._blocks(path, runs, buffer):
                digest.add_block(block_digest(data))
        digest.files(self._files)
        return digest.digest()

    def _new_buffer(self) -> memoryview:
        return memoryview(bytearray(BLOCK_PAGES * self._page_size))

    def _runs(self, pagemap: Path) -> list[PagemapEntry]:
        return list(entries(pagemap.read_bytes(), self._page_size))

    def _blocks(
        self, path: Path, runs: list[PagemapEntry], buffer: memoryview
    ) -> Iterator[tuple[PageIndices, memoryview]]:
        """Each block of an object's pages: their indices, and their bytes until the next is asked for."""
        pages = sum(run.pages for run in runs)
        if not pages:
            return
        pages_path = path.with_name(f"pages-{pages_file_id(path.read_bytes())}.img")
        descriptor = os.open(pages_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != pages * self._page_size:
                raise MalformedError(f"{pages_path.name} does not hold the {pages} pages of {path.name}")
            at = 0
            for indices in by_granule(page_windows(runs), BLOCK_PAGES):
                data = buffer[: len(indices) * self._page_size]
                if os.preadv(descriptor, [data], at) != len(data):
                    raise MalformedError(f"{pages_path.name} was cut off while it was read")
                at += len(data)
                yield indices, data
        finally:
            os.close(descriptor)

    def _compare(
        self, object_name: str, indices: PageIndices, data: memoryview, builder: BatchBuilder
    ) -> Iterator[PageBatch]:
        self.stats.scanned_pages += len(indices)
        number = int(indices[0]) // BLOCK_PAGES
        slots = indices - number * BLOCK_PAGES
        verdict = self._table.compare(object_name, number, slots, data)
        if verdict is None:
            return
        kinds, encoded = encode(self._sent, object_name, number, slots, verdict, data)
        note_sent(self._sent, object_name, number, slots, verdict, data, keep=False)
        self.stats.count(verdict, kinds)
        yield from builder.add(object_name, indices, kinds, encoded)
