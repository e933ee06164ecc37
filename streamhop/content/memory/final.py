"""The dump of the frozen container: what of it the target lacks, and the digest over all of it.

CRIU sends its pages here instead of writing them to files (:mod:`.criu_page_stream`). They are compared and hashed as
they come, a block at a time, and not kept: what they are worth is at the target already, or is sent.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np

from streamhop_protocol.errors import MalformedError

from .batching import BatchBuilder, PageBatch
from .criu_page_stream import CriuPageStream
from .criu_pagemap import PagemapEntry, encode_pagemap
from .encoding import encode, note_sent
from .image_digest import BLOCK_PAGES, ImageDigest, block_digest
from .page_windows import PageIndices
from .sent_pages import SentPages
from .stats import RoundStats
from .table import SentTable

_BESIDE = frozenset({"descriptors.json"})
"""What runc puts into an image directory and needs for a restore."""


class FinalImage:
    """A dump made by CRIU, without a parent; its files, all but those of pages, are in a directory of its own.

    :meth:`take` comes first, while CRIU dumps; the others come once both have ended.

    :param image_dir: the directory; best on a tmpfs.
    :param table: what the target holds.
    :param sent: content of pages that it holds, as far as it was kept.
    :param page_size: bytes of a page.
    """

    def __init__(self, image_dir: Path, table: SentTable, sent: SentPages, page_size: int) -> None:
        self._image_dir = image_dir
        self._table = table
        self._sent = sent
        self._page_size = page_size
        self._objects: dict[str, _Object] = {}
        self._given_up = threading.Event()
        self._complete = False
        self.stats = RoundStats()
        """Counts along with the batches."""

    def take(self, connection: socket.socket) -> Generator[PageBatch, None, None]:
        """Yield the pages that differ from what the target holds, as CRIU dumps them; blocks. Once.

        Ends when CRIU has no more, or has failed. It is heard out in any case, also if this generator is closed.

        :param connection: where CRIU sends its pages; closed in the end.
        :raises OSError: the pagemaps cannot be written.
        :raises MalformedError: it is not what CRIU sends.
        """
        stream = CriuPageStream(connection, self._page_size)
        try:
            yield from self._take(stream)
            self._complete = stream.complete and not self._given_up.is_set()
        finally:
            stream.drain()
            connection.close()

    def give_up(self) -> None:
        """What :meth:`take` still yields is of no use to anybody; it ends as soon as CRIU does. From any thread."""
        self._given_up.set()

    def image_files(self) -> list[Path]:
        """All files the target needs beside the pages, pagemaps included; sorted by name.

        :raises OSError: they cannot be listed.
        :raises MalformedError: CRIU has not sent all of its pages.
        """
        if not self._complete:
            raise MalformedError("CRIU has not sent all of its pages")
        return [
            self._image_dir / name
            for name in sorted(path.name for path in self._image_dir.iterdir())
            if name in _BESIDE or (name.endswith(".img") and not name.startswith("pages-"))
        ]

    def digest(self) -> bytes:
        """The digest of :mod:`.image_digest`; blocks.

        :raises OSError: a file cannot be read.
        :raises MalformedError: CRIU has not sent all of its pages.
        """
        files = self.image_files()
        digest = ImageDigest()
        for name, found in sorted(self._objects.items(), key=lambda item: _pagemap_file(item[0])):
            digest.begin_pages(_pagemap_file(name), found.pages)
            for each in found.digests:
                digest.add_block(each)
        digest.files(files)
        return digest.digest()

    def _take(self, stream: CriuPageStream) -> Iterator[PageBatch]:
        builder = BatchBuilder(self._page_size)
        buffer = memoryview(bytearray(BLOCK_PAGES * self._page_size))
        name, block = "", _Block()
        for found in stream:
            if self._given_up.is_set():
                return
            if isinstance(found, str):
                yield from self._end_of_block(name, block, buffer, builder)
                self._end_of_object(name)
                name, block = found, _Block()
                self._begin_object(name)
                continue
            self._objects[name].add(found)
            for number, first, count in _cut(found):
                if number != block.number:
                    yield from self._end_of_block(name, block, buffer, builder)
                    block = _Block(number)
                begin, end = (pages * self._page_size for pages in (block.pages, block.pages + count))
                if not stream.read_into(buffer[begin:end]):
                    return
                block.add(first, count)
        yield from self._end_of_block(name, block, buffer, builder)
        self._end_of_object(name)
        yield from builder.flush()

    def _begin_object(self, name: str) -> None:
        if name in self._objects:
            raise MalformedError(f"CRIU sends {name} twice")
        self._objects[name] = _Object()

    def _end_of_object(self, name: str) -> None:
        if not name:
            return
        path = self._image_dir / _pagemap_file(name)
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(encode_pagemap(len(self._objects), self._objects[name].entries, self._page_size))

    def _end_of_block(self, name: str, block: _Block, buffer: memoryview, builder: BatchBuilder) -> Iterator[PageBatch]:
        """Judge the pages of a block that is complete."""
        if not block.pages:
            return
        data, indices = buffer[: block.pages * self._page_size], block.indices()
        digest = block_digest(data)
        self._objects[name].digests.append(digest)
        self.stats.scanned_pages += block.pages
        slots = indices - block.number * BLOCK_PAGES
        verdict = self._table.compare(name, block.number, slots, data, digest)
        if verdict is not None:
            kinds, encoded = encode(self._sent, name, block.number, slots, verdict, data)
            note_sent(self._sent, name, block.number, slots, verdict, data, keep=False)
            self.stats.count(verdict, kinds)
            yield from builder.add(name, indices, kinds, encoded, verdict.like_object)


class _Object:
    """A memory object, as far as CRIU has sent it."""

    def __init__(self) -> None:
        self.entries: list[PagemapEntry] = []
        self.digests: list[bytes] = []
        self.pages = 0

    def add(self, entry: PagemapEntry) -> None:
        """The pages that come next.

        :raises MalformedError: they do not come in ascending order.
        """
        if self.entries and entry.first < self.entries[-1].first + self.entries[-1].pages:
            raise MalformedError(f"CRIU sends page {entry.first} out of order")
        self.entries.append(entry)
        self.pages += entry.pages


class _Block:
    """Pages of one block, as far as they have come."""

    def __init__(self, number: int = -1) -> None:
        self.number = number
        self.pages = 0
        self._runs: list[tuple[int, int]] = []

    def add(self, first: int, count: int) -> None:
        self._runs.append((first, count))
        self.pages += count

    def indices(self) -> PageIndices:
        return np.concatenate([np.arange(first, first + count, dtype=np.int64) for first, count in self._runs])


def _cut(entry: PagemapEntry) -> Iterator[tuple[int, int, int]]:
    """An entry in pieces that are each inside one block: block, first page, pages."""
    first, left = entry.first, entry.pages
    while left:
        number = first // BLOCK_PAGES
        count = min(left, (number + 1) * BLOCK_PAGES - first)
        yield number, first, count
        first, left = first + count, left - count


def _pagemap_file(name: str) -> str:
    return f"{name}.img"
