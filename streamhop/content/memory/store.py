"""The target's page store: takes batches of pages in any round, in place, and turns them into an image directory.

On disk a page has one place, given by its object and address (:mod:`.sparse_files`), so a later round overwrites an
earlier one, the store never outgrows the container, and a restore takes the same time after any number of rounds.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from streamhop_protocol.errors import LimitError, MalformedError, UnexpectedError
from streamhop_protocol.page_batches import PAGE_SIZES, RAW, PageRun, check_image_file_name, decode_meta

from .assemble import ImageBuilder, StoredObject
from .sparse_files import SEGMENT_BYTES, Segment, SparseFiles

OBJECTS_MAX = 65536

SEGMENTS_PER_OBJECT_MAX = 32
"""A 48-bit address space. Each is a parent directory more for CRIU to look through."""

INDEX_BYTES_MAX = 64 * 1024 * 1024
"""Memory for knowing what is held: enough for 256 GiB, or for 131,072 places 2 MiB apart."""

_SEGMENT_INDEX_BYTES = 1024


class PageStore:
    """Memory of one move, as it arrives.

    :param directory: made here; on the file system where the image directory will be, with room for the container's
        memory.
    :param page_size: bytes of a page.
    :param quota_bytes: most bytes on disk.
    :param index_bytes_max: most memory for knowing what is held.
    :raises MalformedError: no page size that Linux has.
    :raises OSError: the directory cannot be made.
    """

    def __init__(
        self, directory: Path, page_size: int, *, quota_bytes: int, index_bytes_max: int = INDEX_BYTES_MAX
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
        self._lock = threading.Lock()
        self._final = False
        self._closed = False
        directory.mkdir(mode=0o700)

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
        :raises UnexpectedError: the image is being assembled or was.
        :raises OSError: it cannot be written.
        """
        batch = decode_meta(meta, len(data), self._page_size)
        rest = memoryview(data)
        with self._lock:
            self._check_open()
            stored = self._object(batch.object_name)
            for run in batch.runs:
                if run.kind == RAW:
                    size = run.pages * self._page_size
                    self._write(stored, run, rest[:size])
                    rest = rest[size:]
                else:
                    self._clear(stored, run)

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

    def assemble(self, image_dir: Path, files_dir: Path) -> bytes:
        """Make ``image_dir``, from which CRIU restores, out of the pages and the other files; blocks.

        No page is copied: the directory's ``parent`` is in this store, which has to stay until the restore is done.

        :param image_dir: made here, on the store's file system.
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
                return builder.build(image_dir, files_dir)
            finally:
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
            self._charge(segment.index_bytes - before)
            if self._stored_pages > self._pages_max:
                raise LimitError(f"more than {self._pages_max * self._page_size} bytes of memory")
            size = count * self._page_size
            self._files.write(segment, first, data[:size])
            data = data[size:]

    def _clear(self, stored: StoredObject, run: PageRun) -> None:
        for segment, first, count in self._pieces(stored, run):
            before = segment.index_bytes
            segment.held.add(first, count)
            freed = segment.stored.remove(first, count)
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
        return stored

    def _new_segment(self, stored: StoredObject, number: int) -> Segment:
        level = len(stored.segments)
        if level >= SEGMENTS_PER_OBJECT_MAX:
            raise LimitError(
                f"memory too scattered: more than {SEGMENTS_PER_OBJECT_MAX} ranges of {SEGMENT_BYTES} bytes"
            )
        self._charge(_SEGMENT_INDEX_BYTES)
        directory = self._directory / f"level-{level}"
        directory.mkdir(mode=0o700, exist_ok=True)
        segment = Segment(number, level, directory / f"pages-{stored.number}.img")
        self._files.create(segment)
        stored.segments[number] = segment
        return segment
