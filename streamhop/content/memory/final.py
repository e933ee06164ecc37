"""The dump of the frozen container: what of it the target lacks, and the digest over all of it.

Both are found while CRIU is still writing, as far as it can be foreseen where the pages belong (:mod:`.expected`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from streamhop_protocol.errors import MalformedError

from .batching import BatchBuilder, PageBatch
from .criu_pagemap import PagemapEntry, entries, pages_file_id
from .encoding import encode, note_sent
from .expected import ExpectedObject, Runs, merged
from .image_digest import BLOCK_PAGES, ImageDigest, block_digest
from .presence import PageIndices, by_granule, page_windows
from .sent_pages import SentPages
from .stats import RoundStats
from .table import SentTable

_BESIDE = frozenset({"descriptors.json"})
"""What runc puts into an image directory and needs for a restore."""

_GROWTH_LOOKED_AT_S = 0.002
"""How often to look whether CRIU has written more; it writes some MB in that time."""


class FinalImage:
    """A dump made by CRIU, without a parent, in a directory of its own.

    :meth:`batches` and :meth:`digest` may begin before CRIU has, each in a thread of its own; they end when
    :meth:`dumped` was called.

    :param image_dir: the directory; best on a tmpfs.
    :param table: what the target holds.
    :param sent: content of pages that it holds, as far as it was kept.
    :param page_size: bytes of a page.
    :param expected: what the dump will hold, as far as it can be told.
    """

    def __init__(
        self,
        image_dir: Path,
        table: SentTable,
        sent: SentPages,
        page_size: int,
        expected: Sequence[ExpectedObject] = (),
    ) -> None:
        self._image_dir = image_dir
        self._table = table
        self._sent = sent
        self._page_size = page_size
        self._expected = expected
        self._ended = threading.Event()
        self._given_up = False
        self._files: list[Path] = []
        self._objects: list[_Object] = []
        self.stats = RoundStats()
        """Counts along with the batches; pages that were not where they were expected count twice."""

    def dumped(self) -> None:
        """CRIU is done.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        try:
            names = sorted(path.name for path in self._image_dir.iterdir())
            self._files = [
                self._image_dir / name
                for name in names
                if name in _BESIDE or (name.endswith(".img") and not name.startswith("pages-"))
            ]
            self._objects = [_Object(path, self._page_size) for path in self._files if path.name.startswith("pagemap-")]
        except BaseException:
            self._given_up = True
            raise
        finally:
            self._ended.set()

    def give_up(self) -> None:
        """There will be no dump. Safe to repeat, and once it was dumped nothing."""
        if not self._ended.is_set():
            self._given_up = True
            self._ended.set()

    def image_files(self) -> list[Path]:
        """All files the target needs beside the pages, pagemaps as dumped included; sorted by name. Once dumped."""
        return list(self._files)

    def batches(self) -> Iterator[PageBatch]:
        """Yield the pages that differ from what the target holds; blocks.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        builder = BatchBuilder(self._page_size)
        buffer = self._new_buffer()
        done: dict[str, ExpectedObject] = {}
        for guess in self._expected:
            for indices, data in self._follow(guess, buffer):
                yield from self._compare(guess.name, indices, data, builder)
            yield from builder.flush()
            done[guess.name] = guess
        self._wait_until_dumped()
        for found in self._objects:
            # Pages sent for what they were not count as unknown: they are sent again if they are in the dump.
            if not found.is_as(done.get(found.name)):
                for indices, data in self._blocks(found, buffer):
                    yield from self._compare(found.name, indices, data, builder)
                yield from builder.flush()

    def digest(self) -> bytes:
        """The digest of :mod:`.image_digest`; blocks. May go on in another thread than :meth:`batches`.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        buffer = self._new_buffer()
        taken = {
            guess.name: (guess, [block_digest(data) for _, data in self._follow(guess, buffer)])
            for guess in self._expected
        }
        self._wait_until_dumped()
        digest = ImageDigest()
        for found in self._objects:
            guess, blocks = taken.get(found.name, (None, []))
            if not found.is_as(guess):
                blocks = [block_digest(data) for _, data in self._blocks(found, buffer)]
            digest.begin_pages(found.pagemap.name, found.pages)
            for block in blocks:
                digest.add_block(block)
        digest.files(self._files)
        return digest.digest()

    def _new_buffer(self) -> memoryview:
        return memoryview(bytearray(BLOCK_PAGES * self._page_size))

    def _wait_until_dumped(self) -> None:
        self._ended.wait()
        if self._given_up:
            raise MalformedError("the dump was given up")

    def _follow(self, guess: ExpectedObject, buffer: memoryview) -> Iterator[tuple[PageIndices, memoryview]]:
        """Blocks of a pages file that CRIU may still be writing, at the places where they are expected."""
        path = self._image_dir / f"pages-{guess.pages_id}.img"
        while not path.exists():
            if self._ended.wait(_GROWTH_LOOKED_AT_S):
                return
        with path.open("rb", buffering=0) as file:
            yield from self._read(file.fileno(), guess.runs, buffer)

    def _blocks(self, found: _Object, buffer: memoryview) -> Iterator[tuple[PageIndices, memoryview]]:
        """Each block of an object's pages: their indices, and their bytes until the next is asked for."""
        if not found.pages:
            return
        with found.pages_file.open("rb", buffering=0) as file:
            if not (yield from self._read(file.fileno(), found.runs, buffer)):
                raise MalformedError(f"{found.pages_file.name} was cut off while it was read")

    def _read(
        self, descriptor: int, runs: Runs, buffer: memoryview
    ) -> Generator[tuple[PageIndices, memoryview], None, bool]:
        """:returns: whether the file has that many pages."""
        at = 0
        for indices in by_granule(page_windows((first, count, 0) for first, count in runs), BLOCK_PAGES):
            data = buffer[: len(indices) * self._page_size]
            while os.fstat(descriptor).st_size < at + len(data):
                # Once more after the end: what was written last may not have been seen.
                ended = self._ended.wait(_GROWTH_LOOKED_AT_S)
                if ended and os.fstat(descriptor).st_size < at + len(data):
                    return False
            if os.preadv(descriptor, [data], at) != len(data):
                return False
            at += len(data)
            yield indices, data
        return True

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


class _Object:
    """A memory object of the dump, as CRIU's pagemap describes it.

    :raises OSError: it cannot be read.
    :raises MalformedError: it is not what CRIU writes.
    """

    def __init__(self, pagemap: Path, page_size: int) -> None:
        content = pagemap.read_bytes()
        found: list[PagemapEntry] = list(entries(content, page_size))
        self.pagemap = pagemap
        self.name = pagemap.stem
        self.pages_id = pages_file_id(content)
        self.runs = merged(found)
        self.pages = sum(entry.pages for entry in found)
        self.pages_file = pagemap.with_name(f"pages-{self.pages_id}.img")
        if self.pages and self.pages_file.stat().st_size != self.pages * page_size:
            raise MalformedError(f"{self.pages_file.name} does not hold the {self.pages} pages of {pagemap.name}")

    def is_as(self, expected: ExpectedObject | None) -> bool:
        """Whether the pages are those, in that file, at those places."""
        return expected is not None and expected.pages_id == self.pages_id and expected.runs == self.runs
