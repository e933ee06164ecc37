"""Makes an image directory that CRIU restores from, around pages that stay where the store put them.

``image_dir`` has the files of the dump, with pagemaps that say "in the parent" for every page, and a link ``parent`` to
the store's first level. A level's pagemap declares the object's segment on that level as one present range, so that
CRIU finds a page by its address, and the other segments as in the parent again, the next level.
"""

from __future__ import annotations

import bisect
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from streamhop_protocol.errors import IntegrityError, LimitError
from streamhop_protocol.page_batches import check_image_file_name, check_object_name

from .criu_mm import MM_FILE_BYTES_MAX, ranges_without_parent
from .criu_pagemap import (
    IN_PARENT,
    PAGEMAP_FILE_BYTES_MAX,
    PRESENT,
    PagemapEntry,
    encode_pagemap,
    entries,
)
from .image_digest import BLOCK_PAGES, ImageDigest, block_digest
from .page_windows import PageIndices, by_granule, page_windows
from .sparse_files import Segment, SparseFiles

ANNOUNCED_FILE_BYTES_MAX = 64 * 1024
"""Of a file that was announced: it is parsed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One memory object: its number names its files, segments are by number."""

    number: int
    segments: dict[int, Segment]
    segment_pages: int

    def segment_of(self, page: int) -> Segment | None:
        """Where a page would be, if there is anything near it."""
        return self.segments.get(page // self.segment_pages)

    def cut(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Cut a range of pages at the ends of segments: segment number, first page, pages."""
        while count:
            number = first // self.segment_pages
            pages = min(count, (number + 1) * self.segment_pages - first)
            yield number, first, pages
            first, count = first + pages, count - pages


class ImageBuilder:
    """Assembles one image; use once.

    :param store_dir: where the levels are.
    :param objects: what is held, by object name.
    """

    def __init__(
        self, store_dir: Path, objects: Mapping[str, StoredObject], files: SparseFiles, page_size: int
    ) -> None:
        self._store_dir = store_dir
        self._objects = objects
        self._files = files
        self._page_size = page_size
        self._digest = ImageDigest()
        self._buffer = memoryview(bytearray(BLOCK_PAGES * page_size))

    def build(self, image_dir: Path, files_dir: Path, placed: frozenset[str]) -> bytes:
        """See :meth:`.store.PageStore.assemble`.

        :param placed: files that are in ``image_dir`` already.
        """
        image_dir.mkdir(mode=0o700, exist_ok=True)
        paths = sorted(files_dir.iterdir(), key=lambda path: path.name)
        for path in paths:
            check_image_file_name(path.name)
        if {path.name for path in paths if not path.name.startswith("pagemap-")} != placed:
            raise IntegrityError("the process images are not those that were looked at")
        self._write_levels(image_dir)
        for number, path in enumerate((path for path in paths if path.name.startswith("pagemap-")), start=1):
            self._write_object(image_dir, path, number)
        self._digest.files(paths)
        return self._digest.digest()

    # -- parents ---------------------------------------------------------------------------------------------------

    def _write_levels(self, image_dir: Path) -> None:
        levels = max((len(stored.segments) for stored in self._objects.values()), default=0)
        above = image_dir
        for level in range(levels):
            directory = self._store_dir / f"level-{level}"
            # CRIU resolves an absolute link in the container's root
            target = os.path.relpath(directory.resolve(), above.resolve())
            (above / "parent").symlink_to(target)
            above = directory
        for name, stored in self._objects.items():
            for segment in stored.segments.values():
                pagemap = encode_pagemap(stored.number, self._level_entries(stored, segment), self._page_size)
                _write_new(segment.path.parent / f"{name}.img", pagemap)

    def _level_entries(self, stored: StoredObject, own: Segment) -> list[PagemapEntry]:
        return [
            PagemapEntry(
                number * stored.segment_pages,
                stored.segment_pages,
                PRESENT if segment is own else IN_PARENT,
            )
            for number, segment in sorted(stored.segments.items())
            if segment.level >= own.level
        ]

    # -- the image itself ------------------------------------------------------------------------------------------

    def _write_object(self, image_dir: Path, path: Path, number: int) -> None:
        name = check_object_name(path.name.removesuffix(".img"))
        pagemap = _read_bounded(path, PAGEMAP_FILE_BYTES_MAX)
        stored = self._objects.get(name)
        self._check_object(path, name, pagemap, stored)
        own = _ranges_without_parent(path, name, self._page_size)
        with _create(image_dir / f"pages-{number}.img") as pages:
            result = encode_pagemap(
                number,
                (
                    self._placed(stored, piece, pages)
                    for entry in entries(pagemap, self._page_size)
                    for piece in _split(entry, own)
                ),
                self._page_size,
            )
        _write_new(image_dir / path.name, result)

    def _check_object(self, path: Path, name: str, pagemap: bytes, stored: StoredObject | None) -> None:
        """Check that all pages of the pagemap are held, and take their digest."""
        self._digest.begin_pages(path.name, sum(entry.pages for entry in entries(pagemap, self._page_size)))
        for indices in by_granule(page_windows(entries(pagemap, self._page_size)), BLOCK_PAGES):
            if stored is None:
                raise IntegrityError(f"no page of {name} arrived")
            self._digest.add_block(self._block_digest(stored, name, indices))

    def _block_digest(self, stored: StoredObject, name: str, indices: PageIndices) -> bytes:
        block = int(indices[0]) // BLOCK_PAGES
        segment = stored.segment_of(int(indices[0]))
        if segment is None:
            raise IntegrityError(f"page {indices[0]} of {name} never arrived")
        wanted = bits_of(indices - block * BLOCK_PAGES)
        if missing := wanted & ~segment.held.bits(block * BLOCK_PAGES, BLOCK_PAGES):
            page = block * BLOCK_PAGES + (missing & -missing).bit_length() - 1
            raise IntegrityError(f"page {page} of {name} never arrived")
        known = segment.digests.of(block, wanted)
        return known if known is not None else hash_block(self._files, segment, block, wanted, self._buffer)

    def _placed(self, stored: StoredObject | None, piece: PagemapEntry, pages: BinaryIO) -> PagemapEntry:
        """Copy the pages of ``piece``, all of which are held, if they cannot stay in the parent."""
        if piece.flags & IN_PARENT or stored is None:
            return piece
        for first in range(piece.first, piece.first + piece.pages, BLOCK_PAGES):
            for _, start, count in stored.cut(first, min(BLOCK_PAGES, piece.first + piece.pages - first)):
                segment = stored.segment_of(start)
                assert segment is not None
                view = self._buffer[: count * self._page_size]
                self._files.read(segment, start, view)
                pages.write(view)
        return piece


def place_process_images(files_dir: Path, image_dir: Path) -> frozenset[str]:
    """See :meth:`.store.PageStore.place_process_images`; returns the names of the files."""
    image_dir.mkdir(mode=0o700, exist_ok=True)
    placed = set()
    for path in files_dir.iterdir():
        if not path.name.startswith("pagemap-"):
            _place(path, image_dir / check_image_file_name(path.name))
            placed.add(path.name)
    return frozenset(placed)


def hash_block(files: SparseFiles, segment: Segment, block: int, pages: int, buffer: memoryview) -> bytes:
    """The digest of some pages of a block, as they are on disk.

    :param pages: which, bit 0 for the first; at least one.
    :param buffer: room for a block.
    :raises OSError: they cannot be read.
    """
    page_size = len(buffer) // BLOCK_PAGES
    filled, at = 0, 0
    while pages >> at:
        skipped = (pages >> at & -(pages >> at)).bit_length() - 1
        at += skipped
        run = pages >> at
        count = (~run & run + 1).bit_length() - 1
        end = filled + count * page_size
        files.read(segment, block * BLOCK_PAGES + at, buffer[filled:end])
        filled, at = end, at + count
    return block_digest(buffer[:filled])


def _ranges_without_parent(path: Path, name: str, page_size: int) -> list[tuple[int, int]]:
    """Page indices (from, to) of ``name`` that CRIU does not look for in a parent."""
    mm_path = path.with_name(f"mm-{name.removeprefix('pagemap-')}.img")
    if name.startswith("pagemap-shmem-") or not mm_path.exists():
        return []
    ranges = ranges_without_parent(_read_bounded(mm_path, MM_FILE_BYTES_MAX))
    # Rounded outwards, as a page that is in such a mapping has to be in the image.
    return [(start // page_size, -(-end // page_size)) for start, end in ranges]


def _split(entry: PagemapEntry, own: list[tuple[int, int]]) -> Iterator[PagemapEntry]:
    """Cut an entry where ``own`` ranges begin and end; pages outside of them go to the parent.

    :param own: ascending. Found by bisection: a peer can send millions of ranges, and of entries.
    """
    first, end = entry.first, entry.first + entry.pages
    in_parent = entry.flags & ~PRESENT | IN_PARENT
    for number in range(bisect.bisect_right(own, first, key=lambda piece: piece[1]), len(own)):
        start, stop = own[number]
        if start >= end:
            break
        if stop <= first:
            continue
        if first < start:
            yield PagemapEntry(first, start - first, in_parent)
            first = start
        yield PagemapEntry(first, min(stop, end) - first, entry.flags)
        first = min(stop, end)
    if first < end:
        yield PagemapEntry(first, end - first, in_parent)


def bits_of(slots: PageIndices) -> int:
    """Positions inside a block as one integer, bit 0 for the first."""
    marks = np.zeros(BLOCK_PAGES, dtype=np.bool_)
    marks[slots] = True
    return int.from_bytes(np.packbits(marks, bitorder="little").tobytes(), "little")


def _read_bounded(path: Path, bytes_max: int) -> bytes:
    if path.stat().st_size > bytes_max:
        raise LimitError(f"{path.name} has more than {bytes_max} bytes")
    return path.read_bytes()


def _create(path: Path) -> BinaryIO:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _write_new(path: Path, content: bytes) -> None:
    with _create(path) as file:
        file.write(content)


def _place(source: Path, target: Path) -> None:
    """Copy a file into the image; one that is there already, JSON, was announced, and has to say what has come.

    A copy, and not a link: what is admitted there must not change by what is done to what came.

    :raises IntegrityError: it is not what was announced.
    """
    if not target.exists():
        shutil.copyfile(source, target)
        target.chmod(0o600)
        return
    if source.stat().st_size > ANNOUNCED_FILE_BYTES_MAX:
        raise IntegrityError(f"{target.name} is not what was announced")
    try:
        same = json.loads(source.read_bytes()) == json.loads(target.read_bytes())
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise IntegrityError(f"{target.name} is not what was announced")
