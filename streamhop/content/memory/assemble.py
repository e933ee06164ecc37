"""Makes an image directory that CRIU restores from, around pages that stay where the store put them.

``image_dir`` has the files of the dump, with pagemaps that say "in the parent" for every page, and a link ``parent`` to
the store's first level. A level's pagemap declares the object's segment on that level as one present range, so that
CRIU finds a page by its address, and the other segments as in the parent again, the next level.
"""

from __future__ import annotations

import bisect
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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
from .image_digest import ImageDigest
from .sparse_files import Segment, SparseFiles

_BUFFER_BYTES = 64 * 1024
"""Stays in the cache between being read and being hashed, which doubles the speed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One memory object: its number names its files, segments are by number."""

    number: int
    segments: dict[int, Segment]
    segment_pages: int

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
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._filled = 0

    def build(self, image_dir: Path, files_dir: Path) -> bytes:
        """See :meth:`.store.PageStore.assemble`."""
        image_dir.mkdir(mode=0o700)
        paths = sorted(files_dir.iterdir(), key=lambda path: path.name)
        for path in paths:
            check_image_file_name(path.name)
        self._write_levels(image_dir)
        for number, path in enumerate((path for path in paths if path.name.startswith("pagemap-")), start=1):
            self._write_object(image_dir, path, number)
        for path in paths:
            if not path.name.startswith("pagemap-"):
                _link_or_copy(path, image_dir / path.name)
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
        self._digest.begin_pages(path.name, sum(entry.pages for entry in entries(pagemap, self._page_size)))
        own = _ranges_without_parent(path, name, self._page_size)
        stored = self._objects.get(name)
        with _create(image_dir / f"pages-{number}.img") as pages:
            result = encode_pagemap(
                number,
                (
                    self._take(stored, name, piece, pages)
                    for entry in entries(pagemap, self._page_size)
                    for piece in _split(entry, own)
                ),
                self._page_size,
            )
        self._flush()
        _write_new(image_dir / path.name, result)

    def _take(self, stored: StoredObject | None, name: str, piece: PagemapEntry, pages: BinaryIO) -> PagemapEntry:
        """Check that the pages are held, take their digest, copy them if they cannot stay in the parent."""
        if stored is None:
            raise IntegrityError(f"no page of {name} arrived")
        for number, first, count in stored.cut(piece.first, piece.pages):
            segment = stored.segments.get(number)
            missing = first if segment is None else segment.held.first_missing(first, count)
            if segment is None or missing is not None:
                raise IntegrityError(f"page {missing} of {name} never arrived")
            self._read(segment, first, count, None if piece.flags & IN_PARENT else pages)
        return piece

    def _read(self, segment: Segment, first: int, count: int, copy: BinaryIO | None) -> None:
        while count:
            room = (len(self._buffer) - self._filled) // self._page_size
            taken = min(count, room)
            view = self._buffer[self._filled : self._filled + taken * self._page_size]
            self._files.read(segment, first, view)
            if copy is not None:
                copy.write(view)
            self._filled += len(view)
            first, count = first + taken, count - taken
            if taken == room:
                self._flush()

    def _flush(self) -> None:
        self._digest.update(self._buffer[: self._filled])
        self._filled = 0


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


def _read_bounded(path: Path, bytes_max: int) -> bytes:
    if path.stat().st_size > bytes_max:
        raise LimitError(f"{path.name} has more than {bytes_max} bytes")
    return path.read_bytes()


def _create(path: Path) -> BinaryIO:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _write_new(path: Path, content: bytes) -> None:
    with _create(path) as file:
        file.write(content)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copyfile(source, target)
