"""The dump of the frozen container: what of it the target lacks, and the digest over all of it.

Pages are hashed while CRIU is still writing them; for the digest that takes a guess at where they belong
(:mod:`.expected`), in whose blocks they are hashed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from streamhop_protocol.errors import MalformedError

from .batching import BatchBuilder, PageBatch
from .criu_pagemap import PagemapEntry, entries, pages_file_id
from .encoding import encode, note_sent
from .expected import ExpectedObject, Runs, merged
from .image_digest import BLOCK_PAGES, ImageDigest, block_digest
from .presence import PageIndices, by_granule, page_windows
from .sent_pages import SentPages
from .stats import RoundStats
from .table import NO_HASHES, Hashes, SentTable

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
    :param expected: what the pages files will hold, in the order in which CRIU makes them, as far as it can be told.
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
        """Counts along with the batches."""

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
        buffer = self._new_buffer()
        # What is in a page decides whether it is sent, and is known before it is known where the page belongs.
        hashes = {path: [self._table.hashes(data) for data in self._grow(path, buffer)] for path in self._follow()}
        self._wait_until_dumped()
        builder = BatchBuilder(self._page_size)
        for found in self._objects:
            known = hashes.pop(found.pages_file, [])
            known += [self._table.hashes(data) for data in self._grow(found.pages_file, buffer, skip=len(known))]
            yield from self._compare(found, np.concatenate(known) if known else NO_HASHES, buffer, builder)
        yield from builder.flush()

    def digest(self) -> bytes:
        """The digest of :mod:`.image_digest`; blocks. May go on in another thread than :meth:`batches`.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        buffer = self._new_buffer()
        taken: dict[Path, list[tuple[PageIndices, bytes]]] = {}
        expected = iter(self._expected)
        for path in self._follow():
            guess = next(expected, None)
            if guess is not None:
                taken[path] = [(each, block_digest(data)) for each, data in self._blocks(path, guess.runs, buffer)]
        self._wait_until_dumped()
        digest = ImageDigest()
        for found in self._objects:
            digest.begin_pages(found.pagemap.name, found.pages)
            self._add_blocks(digest, found, taken.get(found.pages_file, []), buffer)
        digest.files(self._files)
        return digest.digest()

    def _new_buffer(self) -> memoryview:
        return memoryview(bytearray(BLOCK_PAGES * self._page_size))

    def _wait_until_dumped(self) -> None:
        self._ended.wait()
        if self._given_up:
            raise MalformedError("the dump was given up")

    # -- reading what CRIU writes ----------------------------------------------------------------------------------

    def _follow(self) -> Iterator[Path]:
        """The pages files as CRIU makes them, one after the other, as long as it does."""
        seen: set[str] = set()
        while True:
            for path in sorted(self._image_dir.glob("pages-*.img"), key=_number_of):
                if path.name not in seen:
                    seen.add(path.name)
                    yield path
            if self._ended.wait(_GROWTH_LOOKED_AT_S):
                return

    def _grow(self, path: Path, buffer: memoryview, skip: int = 0) -> Iterator[memoryview]:
        """A pages file in pieces of ``buffer``, until CRIU is done with it; valid until the next is asked for.

        :param skip: pieces to leave out.
        """
        with path.open("rb", buffering=0) as file:
            at = skip * len(buffer)
            while True:
                data = buffer[: self._grown(file.fileno(), path, at, len(buffer))]
                if not data:
                    return
                _read(file.fileno(), path, data, at)
                yield data
                at += len(data)

    def _grown(self, descriptor: int, path: Path, at: int, wanted: int) -> int:
        """How many bytes there are at an offset: those wanted, or what is left once CRIU is done with the file."""
        while True:
            # Asked for before the size: what is written last must not be missed.
            done = self._ended.is_set() or self._is_followed(path)
            there = os.fstat(descriptor).st_size - at
            if there >= wanted or done:
                return max(0, min(there, wanted))
            self._ended.wait(_GROWTH_LOOKED_AT_S)

    def _is_followed(self, path: Path) -> bool:
        """Whether CRIU has gone on to the next pages file."""
        return path.with_name(f"pages-{_number_of(path) + 1}.img").exists()

    def _blocks(self, path: Path, runs: Runs, buffer: memoryview) -> Iterator[tuple[PageIndices, memoryview]]:
        """The blocks of a pages file whose pages are these, as far as it has them; CRIU may still be writing it."""
        with path.open("rb", buffering=0) as file:
            at = 0
            for indices in _cut(runs):
                data = buffer[: len(indices) * self._page_size]
                if self._grown(file.fileno(), path, at, len(data)) != len(data):
                    return
                _read(file.fileno(), path, data, at)
                yield indices, data
                at += len(data)

    # -- what comes of it ------------------------------------------------------------------------------------------

    def _add_blocks(
        self, digest: ImageDigest, found: _Object, taken: list[tuple[PageIndices, bytes]], buffer: memoryview
    ) -> None:
        """The blocks of an object; those that were taken are good as long as they are where they were expected."""
        at, good = 0, True
        with ExitStack() as stack:
            descriptor = -1
            for number, indices in enumerate(_cut(found.runs)):
                good = good and number < len(taken) and np.array_equal(taken[number][0], indices)
                size = len(indices) * self._page_size
                if good:
                    digest.add_block(taken[number][1])
                else:
                    if descriptor < 0:
                        descriptor = stack.enter_context(found.pages_file.open("rb", buffering=0)).fileno()
                    _read(descriptor, found.pages_file, buffer[:size], at)
                    digest.add_block(block_digest(buffer[:size]))
                at += size

    def _compare(
        self, found: _Object, hashes: Hashes, buffer: memoryview, builder: BatchBuilder
    ) -> Iterator[PageBatch]:
        if len(hashes) != found.pages:
            raise MalformedError(
                f"{found.pages_file.name} does not hold the {found.pages} pages of {found.pagemap.name}"
            )
        self.stats.scanned_pages += found.pages
        at = 0
        with ExitStack() as stack:
            descriptor = -1
            for indices in _cut(found.runs):
                number = int(indices[0]) // BLOCK_PAGES
                slots = indices - number * BLOCK_PAGES
                verdict = self._table.compare(found.name, number, slots, hashes[at : at + len(indices)])
                if verdict is not None:
                    if descriptor < 0:
                        descriptor = stack.enter_context(found.pages_file.open("rb", buffering=0)).fileno()
                    data = buffer[: len(indices) * self._page_size]
                    _read(descriptor, found.pages_file, data, at * self._page_size)
                    kinds, encoded = encode(self._sent, found.name, number, slots, verdict, data)
                    note_sent(self._sent, found.name, number, slots, verdict, data, keep=False)
                    self.stats.count(verdict, kinds)
                    yield from builder.add(found.name, indices, kinds, encoded)
                at += len(indices)


def _cut(runs: Runs) -> Iterator[PageIndices]:
    """The page indices of runs, a block at a time."""
    return by_granule(page_windows((first, count, 0) for first, count in runs), BLOCK_PAGES)


def _read(descriptor: int, path: Path, buffer: memoryview, at: int) -> None:
    if os.preadv(descriptor, [buffer], at) != len(buffer):
        raise MalformedError(f"{path.name} was cut off while it was read")


def _number_of(path: Path) -> int:
    digits = path.stem.removeprefix("pages-")
    return int(digits) if digits.isdigit() else 0


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
        self.runs = merged(found)
        self.pages = sum(entry.pages for entry in found)
        self.pages_file = pagemap.with_name(f"pages-{pages_file_id(content)}.img")
        if self.pages and self.pages_file.stat().st_size != self.pages * page_size:
            raise MalformedError(f"{self.pages_file.name} does not hold the {self.pages} pages of {pagemap.name}")
