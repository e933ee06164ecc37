"""The target's page store: takes batches of pages in any round, in place, and turns them into an image directory.

On disk a page has one place, given by its object and address (:mod:`.sparse_files`), so a later round overwrites an
earlier one, the store never outgrows the container, and a restore takes the same time after any number of rounds.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xxhash

from streamhop_protocol.errors import LimitError, MalformedError, UnexpectedError
from streamhop_protocol.held_pages import PAGES_PER_CHUNK_MAX, encode_held
from streamhop_protocol.page_batches import (
    LIKE,
    PAGE_SIZES,
    WITH_DATA,
    XOR,
    ZERO,
    PageRun,
    check_image_file_name,
    decode_meta,
)

from .assemble import ImageBuilder, StoredObject, hash_block, place_process_images
from .image_digest import BLOCK_PAGES
from .layout import Layout
from .sparse_files import SEGMENT_BYTES, Segment, SparseFiles

OBJECTS_MAX = 65536

SEGMENTS_PER_OBJECT_MAX = 32
"""A 48-bit address space. Each is a parent directory more for CRIU to look through."""

INDEX_BYTES_MAX = 64 * 1024 * 1024
"""Memory for knowing what is held: enough for 256 GiB, or for 131,072 places 2 MiB apart. Digests taken ahead take 2.5
times as much besides."""

HASHED_AHEAD_BLOCKS = 16
"""In one go: 8 MiB, some 5 ms during which nothing else is stored."""

_SEGMENT_INDEX_BYTES = 1024


class PageStore:
    """Memory of one move, as it arrives.

    :param directory: made here, unless ``reopen``; on the file system where the image directory will be, with room for
        the container's memory.
    :param page_size: bytes of a page.
    :param quota_bytes: most bytes on disk.
    :param index_bytes_max: most memory for knowing what is held.
    :param reopen: go on with what an earlier store has left in ``directory``. What is on disk counts, not what that one
        knew of it: :meth:`held` says what the pages are.
    :raises MalformedError: no page size that Linux has, or ``directory`` is not one of a store.
    :raises LimitError: the earlier store holds more than this one may.
    :raises OSError: the directory cannot be made or read.
    """

    def __init__(
        self,
        directory: Path,
        page_size: int,
        *,
        quota_bytes: int,
        index_bytes_max: int = INDEX_BYTES_MAX,
        reopen: bool = False,
    ) -> None:
        if page_size not in PAGE_SIZES:
            raise MalformedError(f"page size {page_size} is none of {PAGE_SIZES}")
        self._directory = directory
        self._page_size = page_size
        self._pages_max = quota_bytes // page_size
        self._index_bytes_max = index_bytes_max
        self._index_bytes = 0
        self._stored_pages = 0
        self._objects: dict[str, StoredObject] = {}
        self._files = SparseFiles(page_size)
        self._layout = Layout(directory / "layout")
        self._block_buffer: memoryview | None = None
        self._placed: frozenset[str] | None = None
        """Process images that are where CRIU reads them."""
        self._lock = threading.Lock()
        self._final = False
        self._closed = False
        if reopen:
            self._reopen()
        else:
            directory.mkdir(mode=0o700)

    def _reopen(self) -> None:
        self._layout.read(self._adopt)
        for path in self._directory.glob("level-*/*"):
            # Made for an image that was assembled.
            if not path.name.startswith("pages-"):
                path.unlink()

    @property
    def stored_bytes(self) -> int:
        """Bytes of pages on disk; pages of zeros take none."""
        return self._stored_pages * self._page_size

    def apply(self, meta: object, data: bytes | memoryview) -> None:
        """Take one batch; pages that are held already are overwritten.

        :param meta: the batch's description as the peer sent it.
        :param data: its raw pages.
        :raises MalformedError: the description is none, or does not fit the data.
        :raises LimitError: more than the store may hold, on disk or in memory.
        :raises UnexpectedError: the image is being assembled or was; a difference to what is not held, or a page
            like one that is not.
        :raises OSError: it cannot be written or read.
        """
        batch = decode_meta(meta, len(data), self._page_size)
        rest = memoryview(data)
        with self._lock:
            self._check_open()
            stored = self._object(batch.object_name)
            for run in batch.runs:
                size = run.pages * self._page_size if run.kind in WITH_DATA else 0
                content, rest = rest[:size], rest[size:]
                if run.kind == ZERO:
                    self._clear(stored, run)
                elif run.kind == XOR:
                    self._write(stored, run, self._changed(stored, run, content))
                elif run.kind == LIKE:
                    self._write(stored, run, self._held(self._objects.get(batch.like_object or ""), run))
                else:
                    self._write(stored, run, content)

    def begin_final(self) -> None:
        """What comes from now on is the difference between the rounds and the dump of the frozen container.

        :raises UnexpectedError: it began before.
        """
        with self._lock:
            self._check_open()
            if self._final:
                raise UnexpectedError("the final pages came twice")
            self._final = True

    def check_file_name(self, name: object) -> str:
        """Return ``name`` if a file of the image may be called so.

        :raises MalformedError: anything else.
        """
        return check_image_file_name(name)

    def place_process_images(self, image_dir: Path, files_dir: Path) -> None:
        """Put all that is not about pages into ``image_dir``, ahead of :meth:`assemble`; blocks.

        :raises IntegrityError: a file that is there already, because it was announced, says something else.
        :raises MalformedError: a file that CRIU would not write.
        :raises OSError: it cannot be written.
        """
        self._placed = place_process_images(files_dir, image_dir)

    def assemble(self, image_dir: Path, files_dir: Path) -> bytes:
        """Make ``image_dir``, from which CRIU restores, out of the pages and the other files; blocks.

        No page is copied: the directory's ``parent`` is in this store, which has to stay until the restore is done.

        :param image_dir: made here if it is not there, on the store's file system.
        :param files_dir: files of the dump, pagemaps as dumped included.
        :returns: the digest (:mod:`.image_digest`) of what is on disk; compare it before the restore.
        :raises IntegrityError: a page of the dump is not held.
        :raises MalformedError: a file that CRIU would not write.
        :raises LimitError: a file larger than any that is accepted.
        :raises UnexpectedError: called twice.
        :raises OSError: something cannot be read or written.
        """
        with self._lock:
            self._check_open()
            self._closed = True
            builder = ImageBuilder(self._directory, self._objects, self._files, self._page_size)
            try:
                if self._placed is None:
                    self._placed = place_process_images(files_dir, image_dir)
                return builder.build(image_dir, files_dir, self._placed)
            finally:
                self._files.close()

    def hash_ahead(self) -> bool:
        """Take the digests of some blocks that changed, so that :meth:`assemble` need not; blocks for milliseconds.

        :returns: whether there is more to do.
        :raises OSError: they cannot be read.
        """
        with self._lock:
            if self._closed:
                return False
            left = HASHED_AHEAD_BLOCKS
            for stored in self._objects.values():
                for segment in stored.segments.values():
                    while left and (block := segment.digests.next_fresh()) is not None:
                        self._hash_block(segment, block)
                        left -= 1
            return not left

    def _hash_block(self, segment: Segment, block: int) -> None:
        pages = segment.held.bits(block * BLOCK_PAGES, BLOCK_PAGES)
        if self._block_buffer is None:
            self._block_buffer = memoryview(bytearray(BLOCK_PAGES * self._page_size))
        segment.digests.take(block, pages, hash_block(self._files, segment, block, pages, self._block_buffer))

    def held(self, seed: int) -> Iterator[tuple[dict[str, object], bytes]]:
        """What a store that was reopened holds, as chunks of a ``held`` stream: map and hashes; blocks.

        :param seed: of the hashes.
        :raises OSError: it cannot be read.
        """
        with self._lock:
            objects = list(self._objects.items())
        for name, stored in objects:
            for segment in sorted(stored.segments.values(), key=lambda segment: segment.number):
                for first, count in self._files.data_ranges(segment):
                    for at in range(first, first + count, PAGES_PER_CHUNK_MAX):
                        pages = min(PAGES_PER_CHUNK_MAX, first + count - at)
                        yield encode_held(name, [(at, pages)]), self._hashes(segment, at, pages, seed)

    def _hashes(self, segment: Segment, first: int, count: int, seed: int) -> bytes:
        size, digest = self._page_size, xxhash.xxh3_128_digest
        with memoryview(bytearray(count * size)) as data:
            with self._lock:
                self._check_open()
                self._files.read(segment, first, data)
            return b"".join([digest(data[at : at + size], seed) for at in range(0, len(data), size)])

    def close(self) -> None:
        """Take nothing more; what is held stays on disk. May be called at any time and more than once."""
        with self._lock:
            self._closed = True
            self._files.close()

    def discard(self) -> None:
        """Remove everything held. May be called at any time and more than once."""
        with self._lock:
            self._closed = True
            self._files.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _check_open(self) -> None:
        if self._closed:
            raise UnexpectedError("pages came after their image was assembled")

    def _write(self, stored: StoredObject, run: PageRun, data: memoryview) -> None:
        for segment, first, count in self._pieces(stored, run):
            before = segment.index_bytes
            self._stored_pages += segment.stored.add(first, count)
            segment.held.add(first, count)
            segment.digests.changed(first, count)
            self._charge(segment.index_bytes - before)
            if self._stored_pages > self._pages_max:
                raise LimitError(f"more than {self._pages_max * self._page_size} bytes of memory")
            size = count * self._page_size
            self._files.write(segment, first, data[:size])
            data = data[size:]

    def _changed(self, stored: StoredObject, run: PageRun, difference: memoryview) -> memoryview:
        """What pages become by a difference to what is held of them."""
        before = self._held(stored, run)
        pages = np.frombuffer(before, dtype=np.uint64)
        np.bitwise_xor(pages, np.frombuffer(difference, dtype=np.uint64), out=pages)
        return before

    def _held(self, stored: StoredObject | None, run: PageRun) -> memoryview:
        """What is held of an object at the places of a run."""
        content = memoryview(bytearray(run.pages * self._page_size))
        filled = 0
        for number, first, count in stored.cut(run.first, run.pages) if stored is not None else [(0, 0, 0)]:
            segment = stored.segments.get(number) if stored is not None else None
            if segment is None or segment.held.first_missing(first, count) is not None:
                raise UnexpectedError("a difference to, or a reference to, a page that never arrived")
            size = count * self._page_size
            self._files.read(segment, first, content[filled : filled + size])
            filled += size
        return content

    def _clear(self, stored: StoredObject, run: PageRun) -> None:
        for segment, first, count in self._pieces(stored, run):
            before = segment.index_bytes
            segment.held.add(first, count)
            freed = segment.stored.remove(first, count)
            segment.digests.changed(first, count)
            self._charge(segment.index_bytes - before)
            if freed:
                self._stored_pages -= freed
                self._files.clear(segment, first, count)

    def _charge(self, index_bytes: int) -> None:
        self._index_bytes += index_bytes
        if self._index_bytes > self._index_bytes_max:
            raise LimitError(f"memory too scattered: its index takes more than {self._index_bytes_max} bytes")

    def _pieces(self, stored: StoredObject, run: PageRun) -> Iterator[tuple[Segment, int, int]]:
        for number, first, count in stored.cut(run.first, run.pages):
            yield stored.segments.get(number) or self._new_segment(stored, number), first, count

    def _object(self, name: str) -> StoredObject:
        stored = self._objects.get(name)
        if stored is None:
            if len(self._objects) >= OBJECTS_MAX:
                raise LimitError(f"more than {OBJECTS_MAX} memory objects")
            self._charge(_SEGMENT_INDEX_BYTES)
            stored = StoredObject(len(self._objects) + 1, {}, SEGMENT_BYTES // self._page_size)
            self._objects[name] = stored
            self._layout.add_object(name)
        return stored

    def _new_segment(self, stored: StoredObject, number: int) -> Segment:
        segment = self._segment(stored, number)
        segment.path.parent.mkdir(mode=0o700, exist_ok=True)
        self._layout.add_segment(stored.number, number)
        self._files.create(segment)
        stored.segments[number] = segment
        return segment

    def _segment(self, stored: StoredObject, number: int) -> Segment:
        level = len(stored.segments)
        if level >= SEGMENTS_PER_OBJECT_MAX:
            raise LimitError(
                f"memory too scattered: more than {SEGMENTS_PER_OBJECT_MAX} ranges of {SEGMENT_BYTES} bytes"
            )
        self._charge(_SEGMENT_INDEX_BYTES)
        return Segment(number, level, self._directory / f"level-{level}" / f"pages-{stored.number}.img")

    def _adopt(self, object_name: str, segment_numbers: Sequence[int]) -> None:
        """Take an object from an earlier store, with the pages that are on disk."""
        stored = StoredObject(len(self._objects) + 1, {}, SEGMENT_BYTES // self._page_size)
        self._objects[object_name] = stored
        self._charge(_SEGMENT_INDEX_BYTES)
        for number in segment_numbers:
            segment = self._segment(stored, number)
            if not segment.path.exists():
                # The store ended between noting the segment and making its file.
                self._files.create(segment)
            for first, count in self._files.data_ranges(segment):
                self._stored_pages += segment.stored.add(first, count)
                segment.held.add(first, count)
                segment.digests.changed(first, count)
            self._charge(segment.index_bytes)
            stored.segments[number] = segment
        if self._stored_pages > self._pages_max:
            raise LimitError(f"more than {self._pages_max * self._page_size} bytes of memory")
