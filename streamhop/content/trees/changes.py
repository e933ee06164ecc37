"""Turns a plan into the bytes of one round, reading files as they are sent."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blake3 import blake3

from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.tree_entries import EntryRecord, EntryType
from streamhop_protocol.tree_records import (
    encode_content_head,
    encode_entry,
    encode_hole,
    encode_link,
    encode_reference,
    encode_remove,
)

from .blocks import blocks_of, changed_pieces, hash_of, hashes_bytes
from .dirs import NOT_THERE, DirCursor, split
from .errors import UnsupportedTree
from .metadata import EntryXattrs, entry_reference, read_xattrs
from .nodes import PLACEHOLDER_SIGNATURE, Node, Recheck, same_inode, signature
from .plan import Plan, PlannedDirectory, PlannedEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

CHUNK_BYTES_MAX = 256 * 1024
"""Of one item of :meth:`TreeChanges.chunks`."""

HASHES_BYTES_MAX = 64 * 1024 * 1024
"""Of the block hashes one scanner keeps: enough for 32 GiB of files. A file beyond is sent whole when it changes."""

_PIN_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOATIME | os.O_CLOEXEC
_GONE = NOT_THERE | {errno.EXDEV}
"""errno where what the scan saw is no longer reached; EXDEV: something was mounted above it."""

_SECTOR_BYTES = 512
_TIME_NS_MAX = (1 << 63) - 1

_TYPES = {
    stat.S_IFREG: EntryType.REGULAR,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFIFO: EntryType.FIFO,
    stat.S_IFSOCK: EntryType.SOCKET,
    stat.S_IFCHR: EntryType.CHAR_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
}


class TreeChanges:
    """What one scan found. Read the chunks to the end once; else the next scan finds all of it again."""

    def __init__(
        self,
        root: Path,
        plan: Plan,
        *,
        overlay_upper: bool,
        recheck: Callable[[os.stat_result], Recheck],
        hash_bytes: int,
        held_blocks: AbstractSet[bytes],
        commit: Callable[[], None],
    ) -> None:
        self.empty = plan.empty
        """True: there is nothing to send. False: there may be; files that only *may* have changed are read later."""
        self._root = root
        self._plan = plan
        self._overlay_upper = overlay_upper
        self._recheck = recheck
        self._hash_bytes = hash_bytes
        self._held_blocks = held_blocks
        self._commit = commit
        self._hasher = blake3()
        self._started = False
        self._cursor: DirCursor | None = None

    @property
    def digest(self) -> bytes:
        """BLAKE3 over all chunks; valid once :meth:`chunks` is exhausted."""
        return self._hasher.digest()

    def chunks(self) -> Iterator[bytes]:
        """The round's bytes, in pieces of at most :data:`CHUNK_BYTES_MAX`. Blocks while it reads files.

        :raises UnsupportedTree: an entry cannot be carried.
        :raises OSError: an entry cannot be read.
        """
        if self._started:
            raise RuntimeError("the chunks of these changes were read before")
        self._started = True
        buffer = bytearray()
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._cursor = DirCursor(root)
        os.close(root)
        try:
            for piece in self._pieces():
                buffer += piece
                while len(buffer) >= CHUNK_BYTES_MAX:
                    with memoryview(buffer) as view:
                        chunk = bytes(view[:CHUNK_BYTES_MAX])
                    del buffer[:CHUNK_BYTES_MAX]
                    self._hasher.update(chunk)
                    yield chunk
            if buffer:
                self._hasher.update(buffer)
                yield bytes(buffer)
        finally:
            self._cursor.close()
        self._commit()

    def _pieces(self) -> Iterator[bytes | memoryview]:
        for meanwhile, path in self._plan.moved:
            yield encode_link(meanwhile, path)
        for path in self._plan.removals:
            yield encode_remove(path)
        for item in self._plan.entries:
            match item:
                case PlannedDirectory():
                    yield self._directory(item)
                case PlannedEntry():
                    yield from self._names([item])
                case path:
                    yield encode_remove(path)
        for names in self._plan.linked:
            yield from self._names(names)
        for meanwhile, _ in self._plan.moved:
            yield encode_remove(meanwhile)
        for directory in self._plan.directories:
            yield self._directory(directory)

    # -- entries ---------------------------------------------------------------------------------------------------

    def _directory(self, planned: PlannedDirectory) -> bytes:
        """The record of a directory; one that is gone by now is sent as the scan saw it, so that others fit below."""
        status, xattrs = planned.status, EntryXattrs()
        with _reading(planned.path):
            try:
                fd = self._enter(planned.path.split(b"/") if planned.path else [])
                status, xattrs = os.fstat(fd), read_xattrs(fd, overlay_upper=self._overlay_upper)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
        return _entry(planned.path, status, xattrs, fresh=planned.fresh)

    def _names(self, names: Sequence[PlannedEntry]) -> Iterator[bytes | memoryview]:
        """One file with all its names; the first may be at the target already."""
        first = names[0]
        if first.moved_from is not None:
            yield encode_link(first.path, first.moved_from)
        if first.is_regular:
            node = yield from self._regular(first)
        else:
            node = yield from self._special(first)
        replaced = first.updatable is None
        for name in names:
            name.siblings[name.name] = node
            if name is not first and (replaced or name.before is not first.before):
                yield encode_link(name.path, first.path)

    def _special(self, planned: PlannedEntry) -> Generator[bytes, None, Node]:
        parents, name = split(planned.path)
        target = b""
        with _reading(planned.path):
            try:
                parent = self._enter(parents)
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                xattrs = read_xattrs(entry_reference(parent, name), overlay_upper=self._overlay_upper)
                if stat.S_ISLNK(planned.status.st_mode):
                    target = os.readlink(name, dir_fd=parent)
            except OSError as error:
                if error.errno not in {*_GONE, errno.EINVAL}:
                    raise
                status = None
        now = signature(status) if status is not None else b""
        if status is None or not same_inode(now, planned.signature):
            yield _placeholder(planned.path)
            return Node(PLACEHOLDER_SIGNATURE)
        yield _entry(planned.path, status, xattrs, fresh=True, link_target=target)
        return Node(now, self._recheck(status))

    def _regular(self, planned: PlannedEntry) -> Generator[bytes | memoryview, None, Node]:
        before = planned.updatable
        with _reading(planned.path):
            fd = self._open_planned(planned)
        if fd is not None:
            try:
                return (yield from self._open_regular(fd, planned, before))
            finally:
                os.close(fd)
        if before is not None:
            return before  # the target keeps what it has; the next scan tells what is there now
        yield _placeholder(planned.path)
        return Node(PLACEHOLDER_SIGNATURE)

    def _open_planned(self, planned: PlannedEntry) -> int | None:
        """Open a regular file; None if it is gone, or something else has taken its name."""
        parents, name = split(planned.path)
        try:
            pinned = os.open(name, _PIN_FLAGS, dir_fd=self._enter(parents))
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return None
        try:
            # Looked at before it is opened for reading: opening a device can do something.
            if not same_inode(signature(os.fstat(pinned)), planned.signature):
                return None
            return os.open(b"/proc/self/fd/%d" % pinned, _FILE_FLAGS)
        finally:
            os.close(pinned)

    def _open_regular(
        self, fd: int, planned: PlannedEntry, before: Node | None
    ) -> Generator[bytes | memoryview, None, Node]:
        """The records of an open file: its metadata only if that or some content has changed, or may have."""
        with _reading(planned.path):
            status = os.fstat(fd)
            now = signature(status)
            xattrs = read_xattrs(fd, overlay_upper=self._overlay_upper)
        head = _entry(planned.path, status, xattrs, fresh=before is None)
        if before is None or before.signature != now or before.recheck is Recheck.ALL:
            yield head
            head = b""
        size = status.st_size
        hashes = self._hashes_for(size)
        known = before.hashes if before is not None else b""
        sparse = status.st_blocks * _SECTOR_BYTES < size
        pieces = changed_pieces(fd, size, known, hashes, maybe_sparse=sparse)
        while True:
            with _reading(planned.path):
                piece = next(pieces, None)
            if piece is None:
                break
            if head:
                yield head
                head = b""
            offset, length, data = piece
            if data is None:
                yield encode_hole(offset, length)
            else:
                yield from self._content(offset, data)
        return Node(now, self._recheck(status), bytes(hashes) if hashes is not None else None)

    def _content(self, offset: int, data: memoryview) -> Iterator[bytes | memoryview]:
        """The records for bytes of a file: what the target has is only named."""
        sent = 0
        if self._held_blocks:
            for start, block in blocks_of(offset, data):
                name = hash_of(block)
                if name in self._held_blocks:
                    yield from _content_records(offset + sent, data[sent:start])
                    yield encode_reference(offset + start, len(block), name)
                    sent = start + len(block)
        yield from _content_records(offset + sent, data[sent:])

    def _hashes_for(self, size: int) -> bytearray | None:
        length = hashes_bytes(size)
        if self._hash_bytes + length > HASHES_BYTES_MAX:
            return None
        self._hash_bytes += length
        return bytearray(length)

    def _enter(self, components: Sequence[bytes]) -> int:
        if self._cursor is None:
            raise RuntimeError("not reading")
        return self._cursor.enter(components)


def _content_records(offset: int, data: memoryview) -> Iterator[bytes | memoryview]:
    if data:
        yield encode_content_head(offset, len(data))
        yield data


@contextmanager
def _reading(path: bytes) -> Iterator[None]:
    """Name the entry in an error of the file system."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error


def _entry(path: bytes, status: os.stat_result, xattrs: EntryXattrs, *, fresh: bool, link_target: bytes = b"") -> bytes:
    if xattrs.obstacle:
        raise UnsupportedTree(path, xattrs.obstacle)
    kind = _TYPES[stat.S_IFMT(status.st_mode)]
    is_device = kind in {EntryType.CHAR_DEVICE, EntryType.BLOCK_DEVICE}
    entry = EntryRecord(
        path=path,
        type=kind,
        fresh=fresh,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=min(status.st_mtime_ns, _TIME_NS_MAX),
        size=status.st_size if kind is EntryType.REGULAR else 0,
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
        link_target=link_target,
        xattrs=xattrs.travelling,
    )
    try:
        return encode_entry(entry)
    except ProtocolError as error:
        raise UnsupportedTree(path, str(error)) from error


def _placeholder(path: bytes) -> bytes:
    """Stands for an entry that is gone, so that links to it find something; the next scan removes or replaces it."""
    return encode_entry(
        EntryRecord(path=path, type=EntryType.REGULAR, fresh=True, mode=0o600, uid=0, gid=0, mtime_ns=0)
    )
