"""The dump of the frozen container: what of it the target lacks, and the digest over all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from streamhop_protocol.errors import MalformedError

from .batching import BatchBuilder, PageBatch
from .criu_pagemap import entries, pages_file_id
from .image_digest import ImageDigest
from .presence import PageIndices, by_granule, page_windows
from .stats import RoundStats
from .table import GRANULE_PAGES, SentTable

_BESIDE = frozenset({"descriptors.json"})
"""What runc puts into an image directory and needs for a restore."""


class FinalImage:
    """A dump made by CRIU, without a parent, in a directory of its own.

    :param image_dir: the directory; best on a tmpfs.
    :param table: what the target holds.
    :param page_size: bytes of a page.
    :raises OSError: the directory cannot be read.
    """

    def __init__(self, image_dir: Path, table: SentTable, page_size: int) -> None:
        self._table = table
        self._page_size = page_size
        self._digest: bytes | None = None
        self._buffer = memoryview(bytearray(GRANULE_PAGES * page_size))
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
        """Yield the pages that differ from what the target holds; blocks. Takes the digest on the way.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        builder = BatchBuilder(self._page_size)
        digest = ImageDigest()
        for path in self._pagemaps:
            yield from self._object(path, digest, builder)
        yield from builder.flush()
        self._finish(digest)

    def digest(self) -> bytes:
        """The digest of :mod:`.image_digest`. Cheap once all batches were taken; else reads the whole dump.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        if self._digest is None:
            digest = ImageDigest()
            for path in self._pagemaps:
                for _ in self._object(path, digest, None):
                    pass
            self._finish(digest)
        assert self._digest is not None
        return self._digest

    def _finish(self, digest: ImageDigest) -> None:
        digest.files(self._files)
        self._digest = digest.digest()

    def _object(self, path: Path, digest: ImageDigest, builder: BatchBuilder | None) -> Iterator[PageBatch]:
        pagemap = path.read_bytes()
        runs = list(entries(pagemap, self._page_size))
        pages = sum(run.pages for run in runs)
        digest.begin_pages(path.name, pages)
        pages_path = path.with_name(f"pages-{pages_file_id(pagemap)}.img")
        if not pages:
            return
        descriptor = os.open(pages_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != pages * self._page_size:
                raise MalformedError(f"{pages_path.name} does not hold the {pages} pages of {path.name}")
            at = 0
            for indices in by_granule(page_windows(runs), GRANULE_PAGES):
                data = self._buffer[: len(indices) * self._page_size]
                if os.preadv(descriptor, [data], at) != len(data):
                    raise MalformedError(f"{pages_path.name} was cut off while it was read")
                at += len(data)
                digest.update(data)
                if builder is not None:
                    yield from self._compare(path.stem, indices, data, builder)
        finally:
            os.close(descriptor)

    def _compare(
        self, object_name: str, indices: PageIndices, data: memoryview, builder: BatchBuilder
    ) -> Iterator[PageBatch]:
        self.stats.scanned_pages += len(indices)
        number = int(indices[0]) // GRANULE_PAGES
        verdict = self._table.compare(object_name, number, indices - number * GRANULE_PAGES, data)
        if verdict is not None:
            self.stats.count(verdict)
            yield from builder.add_chosen(object_name, indices, verdict.send, verdict.zero, data)
