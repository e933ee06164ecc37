"""The dump of the frozen container: what of it the target lacks, and the digest over all of it.

Pages are hashed while CRIU is still writing them. The digest has to wait until it has said where they belong.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamhop_protocol.errors import MalformedError

from .batching import BatchBuilder, PageBatch
from .criu_pagemap import PagemapEntry, Runs, entries, merged, pages_file_id
from .encoding import encode, note_sent
from .image_digest import BLOCK_PAGES, ImageDigest, block_digest
from .page_windows import PageIndices, by_granule, page_windows
from .sent_pages import SentPages
from .stats import RoundStats
from .table import NO_HASHES, Hashes, SentTable

_BESIDE = frozenset({"descriptors.json"})
"""What runc puts into an image directory and needs for a restore."""

DIGEST_THREADS = 2
"""More gain nothing on a host of two cores, where they have the container's processors while it is frozen."""

_STRETCH_BLOCKS = 16
"""Of 512 KiB: a few milliseconds of work, and a container of a few megabytes is done in one."""

_GROWTH_LOOKED_AT_S = 0.002
"""How often to look whether CRIU has written more; it writes some MB in that time."""


class FinalImage:
    """A dump made by CRIU, without a parent, in a directory of its own.

    :meth:`take_hashes` and :meth:`digest` may begin before CRIU has, each in a thread of its own; they end after
    :meth:`dumped` was called. :meth:`batches` comes after the first.

    :param image_dir: the directory; best on a tmpfs.
    :param table: what the target holds.
    :param sent: content of pages that it holds, as far as it was kept.
    :param page_size: bytes of a page.
    """

    def __init__(
        self,
        image_dir: Path,
        table: SentTable,
        sent: SentPages,
        page_size: int,
    ) -> None:
        self._image_dir = image_dir
        self._table = table
        self._sent = sent
        self._page_size = page_size
        self._ended = threading.Event()
        self._given_up = False
        self._files: list[Path] = []
        self._objects: list[_Object] = []
        self._hashes: dict[str, Hashes] = {}
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

    def take_hashes(self) -> None:
        """Hash the pages as CRIU writes them; blocks until it is done.

        What is in a page decides whether it is sent, and is known before it is known where the page belongs.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes, or was given up.
        """
        buffer = self._new_buffer()
        hashes = {path: [self._table.hashes(data) for data in self._grow(path, buffer)] for path in self._follow()}
        self._wait_until_dumped()
        for found in self._objects:
            known = hashes.pop(found.pages_file, [])
            known += [self._table.hashes(data) for data in self._grow(found.pages_file, buffer, skip=len(known))]
            self._hashes[found.name] = np.concatenate(known) if known else NO_HASHES

    def batches(self) -> Iterator[PageBatch]:
        """Yield the pages that differ from what the target holds; blocks. Once, after :meth:`take_hashes`.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        buffer, builder = self._new_buffer(), BatchBuilder(self._page_size)
        for found in self._objects:
            yield from self._compare(found, self._hashes.pop(found.name), buffer, builder)
        yield from builder.flush()

    def digest(self) -> bytes:
        """The digest of :mod:`.image_digest`; blocks. May go on in another thread than :meth:`batches`.

        :raises OSError: the dump cannot be read.
        :raises MalformedError: it is not what CRIU writes.
        """
        self._wait_until_dumped()
        digest = ImageDigest()
        with ThreadPoolExecutor(DIGEST_THREADS) as threads:
            for found in self._objects:
                digest.begin_pages(found.pagemap.name, found.pages)
                for digests in threads.map(functools.partial(self._block_digests, found), found.stretches()):
                    for each in digests:
                        digest.add_block(each)
        digest.files(self._files)
        return digest.digest()

    def _block_digests(self, found: _Object, stretch: Stretch) -> list[bytes]:
        """Digests of blocks that follow one another in a pages file."""
        buffer = self._new_buffer()
        at, digests = stretch.at, []
        with found.pages_file.open("rb", buffering=0) as file:
            for pages in stretch.blocks:
                data = buffer[: pages * self._page_size]
                _read(file.fileno(), found.pages_file, data, at)
                digests.append(block_digest(data))
                at += len(data)
        return digests

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

    # -- what comes of it ------------------------------------------------------------------------------------------

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


class Stretch(NamedTuple):
    """Part of a pages file: where it begins, and how many pages each of its blocks has."""

    at: int
    blocks: list[int]


class _Object:
    """A memory object of the dump, as CRIU's pagemap describes it.

    :raises OSError: it cannot be read.
    :raises MalformedError: it is not what CRIU writes.
    """

    def __init__(self, pagemap: Path, page_size: int) -> None:
        content = pagemap.read_bytes()
        found: list[PagemapEntry] = list(entries(content, page_size))
        self._page_size = page_size
        self.pagemap = pagemap
        self.name = pagemap.stem
        self.runs = merged(found)
        self.pages = sum(entry.pages for entry in found)
        self.pages_file = pagemap.with_name(f"pages-{pages_file_id(content)}.img")
        if self.pages and self.pages_file.stat().st_size != self.pages * page_size:
            raise MalformedError(f"{self.pages_file.name} does not hold the {self.pages} pages of {pagemap.name}")

    def stretches(self) -> Iterator[Stretch]:
        """All of the pages file, for several threads to read."""
        at = 0
        blocks: list[int] = []
        for indices in _cut(self.runs):
            blocks.append(len(indices))
            if len(blocks) == _STRETCH_BLOCKS:
                yield Stretch(at, blocks)
                at, blocks = at + sum(blocks) * self._page_size, []
        if blocks:
            yield Stretch(at, blocks)
