"""Applies the rounds of a tree below a directory, whoever sent them and whatever they say.

Nothing is ever reached by a path: directories are opened one component at a time, never through a symbolic link,
and everything else is named relative to an open directory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Self

from blake3 import blake3

from streamhop_protocol.errors import IntegrityError
from streamhop_protocol.tree_entries import (
    DEVICE_TYPES,
    ContentRecord,
    EntryRecord,
    EntryType,
    HoleRecord,
    LinkRecord,
    ReferenceRecord,
    RemoveRecord,
)
from streamhop_protocol.tree_records import RecordReader

from .dirs import NOT_THERE, DirCursor, remove_below, remove_entry, split
from .errors import TreeApplyError, TreeDivergedError, TreeQuotaError, TreeRefusedError
from .metadata import set_metadata, set_metadata_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .held_blocks import HeldBlocks

ENTRIES_MAX = 1 << 20
"""Entries and links of one round."""

DIRECTORY_PATHS_BYTES_MAX = 64 * 1024 * 1024
"""Paths of the directories of one round, which are kept to its end."""

DEVICE_MAJOR_MAX, DEVICE_MINOR_MAX = (1 << 12) - 1, (1 << 20) - 1
"""What a dev_t of the kernel holds: include/linux/kdev_t.h."""

_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_ZEROS = bytes(256 * 1024)

_MOUNT_ERRORS = frozenset({errno.EBUSY, errno.EXDEV})
_RUNTIME_FILES = frozenset({b".dockerenv", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"})
_RUNTIME_DIRECTORIES = frozenset({b"dev", b"proc", b"sys"})

_NODE_TYPES = {
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.SOCKET: stat.S_IFSOCK,
    EntryType.CHAR_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}


class TreeApplier:
    """Applies one round; further rounds on the same root get an applier each.

    Blocks. Meant to run as root: owners, modes and attributes are taken over as they are. Nobody else may change
    the tree meanwhile.

    :param root: an existing directory; for an overlay the mounted one, not its upper directory.
    :param allow_devices: make device nodes, else refuse them.
    :param quota_bytes: most bytes of content, attributes and link texts that this round may write.
    :param held_blocks: what the source may refer to.
    :raises OSError: ``root`` cannot be opened.
    """

    def __init__(
        self, root: Path, *, allow_devices: bool, quota_bytes: int, held_blocks: HeldBlocks | None = None
    ) -> None:
        self._held_blocks = held_blocks
        self._allow_devices = allow_devices
        self._quota_bytes = quota_bytes
        self._entries = 0
        self._reader = RecordReader()
        self._hasher = blake3()
        self._directory_times: dict[bytes, int] = {}
        self._directory_paths_bytes = 0
        self._file: tuple[int, EntryRecord] | None = None
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._cursor: DirCursor | None = DirCursor(fd)
        finally:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def digest(self) -> bytes:
        """BLAKE3 over everything fed."""
        return self._hasher.digest()

    def feed(self, data: bytes | memoryview) -> None:
        """Apply what ``data``, the next slice of the round, completes.

        After an error the applier is closed and the tree is in between two rounds: use neither.

        :raises ProtocolError: the bytes are not a valid round.
        :raises TreeApplyError: it cannot be applied here.
        """
        self._hasher.update(data)
        with self._closing_on_error():
            for record in self._reader.feed(data):
                if isinstance(record, ContentRecord | HoleRecord | ReferenceRecord):
                    with self._applying_file():
                        self._content(record)
                else:
                    with self._applying_file():
                        self._finish_file()
                    with _applying(record.path):
                        self._apply(record)

    def finish(self) -> None:
        """Complete the round: the last file, the times of directories.

        :raises TruncatedError: the round ends inside a record.
        :raises TreeApplyError: it cannot be applied here.
        """
        with self._closing_on_error():
            self._reader.finish()
            with self._applying_file():
                self._finish_file()
            for path, mtime_ns in self._directory_times.items():
                with _applying(path):
                    self._set_directory_time(path, mtime_ns)
        self.close()

    def close(self) -> None:
        """Give up what is open; called by :meth:`finish` and after every error, harmless when repeated."""
        if self._file is not None:
            os.close(self._file[0])
            self._file = None
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    # -- records ---------------------------------------------------------------------------------------------------

    def _apply(self, record: EntryRecord | LinkRecord | RemoveRecord) -> None:
        try:
            match record:
                case EntryRecord():
                    self._charge_entry(record)
                    self._entry(record)
                case LinkRecord():
                    self._count_entry(record.path)
                    self._link(record)
                case RemoveRecord():
                    self._remove(record.path)
        except OSError as error:
            if error.errno not in _MOUNT_ERRORS or not _belongs_to_runtime(record.path):
                raise
            # The runtime puts its own there in every container; content that follows finds no file and is dropped.

    def _entry(self, entry: EntryRecord) -> None:
        match entry.type:
            case EntryType.DIRECTORY:
                self._directory(entry)
            case EntryType.REGULAR if entry.fresh:
                self._new_file(entry)
            case EntryType.REGULAR:
                self._known_file(entry)
            case _:
                self._special(entry)

    def _directory(self, entry: EntryRecord) -> None:
        components = entry.path.split(b"/") if entry.path else []
        if not entry.path:
            if entry.fresh:
                remove_below(self._open_cursor().enter([]))
        else:
            parent, name = self._parent_of(entry.path)
            status = _status_of(parent, name)
            if status is not None and (entry.fresh or not stat.S_ISDIR(status.st_mode)):
                self._clear(entry.path)
                status = None
            if status is None:
                os.mkdir(name, 0o700, dir_fd=self._parent_of(entry.path)[0])
        set_metadata(self._open_cursor().enter(components), entry, with_time=False)
        if entry.path not in self._directory_times:
            self._directory_paths_bytes += len(entry.path)
            if self._directory_paths_bytes > DIRECTORY_PATHS_BYTES_MAX:
                raise TreeQuotaError(entry.path, f"the directories' paths take over {DIRECTORY_PATHS_BYTES_MAX} bytes")
        self._directory_times[entry.path] = entry.mtime_ns

    def _new_file(self, entry: EntryRecord) -> None:
        parent, name = self._clear(entry.path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(name, flags, 0o600, dir_fd=parent), entry
        os.ftruncate(self._file[0], entry.size)

    def _known_file(self, entry: EntryRecord) -> None:
        parent, name = self._parent_of(entry.path)
        # Looked at first: opening a device or fifo can do something.
        status = _status_of(parent, name)
        if status is None or not stat.S_ISREG(status.st_mode):
            raise TreeDivergedError(entry.path, "the file to bring up to date is not there")
        self._file = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent), entry
        if status.st_size != entry.size:
            os.ftruncate(self._file[0], entry.size)

    def _special(self, entry: EntryRecord) -> None:
        if entry.type in DEVICE_TYPES and not self._allow_devices:
            raise TreeRefusedError(entry.path, "is a device, which is not permitted here")
        major, minor = entry.device
        if major > DEVICE_MAJOR_MAX or minor > DEVICE_MINOR_MAX:
            raise TreeRefusedError(entry.path, f"is a device of number {major}:{minor}, which Linux does not have")
        parent, name = self._clear(entry.path)
        if entry.type is EntryType.SYMLINK:
            os.symlink(entry.link_target, name, dir_fd=parent)
        else:
            os.mknod(name, _NODE_TYPES[entry.type] | 0o600, os.makedev(major, minor), dir_fd=parent)
        set_metadata_at(parent, name, entry, symlink=entry.type is EntryType.SYMLINK)

    def _link(self, link: LinkRecord) -> None:
        parent, name = self._parent_of(link.target)
        pinned = os.dup(parent)
        try:
            target = _status_of(pinned, name)
            if target is None:
                raise TreeDivergedError(link.path, "the file to link to is not there")
            mode = target.st_mode
            if stat.S_ISDIR(mode):
                raise TreeRefusedError(link.path, "would be a hard link to a directory")
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not self._allow_devices:
                raise TreeRefusedError(link.path, "would be a hard link to a device, which is not permitted here")
            parent, new_name = self._parent_of(link.path)
            present = _status_of(parent, new_name)
            if present is not None and (present.st_dev, present.st_ino) == (target.st_dev, target.st_ino):
                return
            parent, new_name = self._clear(link.path)
            os.link(name, new_name, src_dir_fd=pinned, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(pinned)

    def _remove(self, path: bytes) -> None:
        with suppress(TreeDivergedError):  # a directory above is gone too
            self._clear(path)

    def _content(self, record: ContentRecord | HoleRecord | ReferenceRecord) -> None:
        if self._file is None:
            return  # of a file that the runtime provides
        fd, entry = self._file
        if isinstance(record, HoleRecord):
            self._punch(fd, entry, record)
            return
        data = self._referred(record) if isinstance(record, ReferenceRecord) else record.data
        self._charge(entry.path, len(data))
        _write(fd, data, record.offset)

    def _referred(self, record: ReferenceRecord) -> memoryview:
        if self._held_blocks is None:
            raise IntegrityError("a reference to a block, and none was kept here")
        return self._held_blocks.read(record.block, record.length)

    def _punch(self, fd: int, entry: EntryRecord, hole: HoleRecord) -> None:
        if _punch_hole(fd, hole.offset, hole.length):
            return
        self._charge(entry.path, hole.length)
        for offset in range(hole.offset, hole.offset + hole.length, len(_ZEROS)):
            _write(fd, memoryview(_ZEROS)[: hole.offset + hole.length - offset], offset)

    def _finish_file(self) -> None:
        """The last file has all its content, so its owner, mode and time stay what they are set to now."""
        if self._file is None:
            return
        fd, entry = self._file
        self._file = None
        try:
            set_metadata(fd, entry, with_time=True)
        finally:
            os.close(fd)

    def _set_directory_time(self, path: bytes, mtime_ns: int) -> None:
        try:
            fd = self._open_cursor().enter(path.split(b"/") if path else [])
        except OSError as error:
            if error.errno in NOT_THERE or (error.errno in _MOUNT_ERRORS and _belongs_to_runtime(path)):
                return  # removed, or replaced, later in the round
            raise
        os.utime(fd, ns=(mtime_ns, mtime_ns))

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _open_cursor(self) -> DirCursor:
        if self._cursor is None:
            raise ValueError("the applier is closed")
        return self._cursor

    def _parent_of(self, path: bytes) -> tuple[int, bytes]:
        """The open directory that holds ``path``, and its name there."""
        parents, name = split(path)
        try:
            return self._open_cursor().enter(parents), name
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise TreeDivergedError(path, "the directory it belongs in is not there") from error
            if error.errno in NOT_THERE:
                raise TreeRefusedError(path, "leads through something that is not a directory") from error
            raise

    def _clear(self, path: bytes) -> tuple[int, bytes]:
        """Remove what is at ``path``, if anything; returns as :meth:`_parent_of`."""
        parent, name = self._parent_of(path)
        with suppress(FileNotFoundError):
            remove_entry(parent, name)
        return parent, name

    def _charge_entry(self, entry: EntryRecord) -> None:
        self._count_entry(entry.path)
        self._charge(entry.path, len(entry.link_target) + sum(len(name) + len(value) for name, value in entry.xattrs))

    def _count_entry(self, path: bytes) -> None:
        self._entries += 1
        if self._entries > ENTRIES_MAX:
            raise TreeQuotaError(path, f"more than {ENTRIES_MAX} entries in one round")

    def _charge(self, path: bytes, length: int) -> None:
        self._quota_bytes -= length
        if self._quota_bytes < 0:
            raise TreeQuotaError(path, "the tree takes more room than is granted to it")

    def _applying_file(self) -> AbstractContextManager[None]:
        return _applying(self._file[1].path if self._file is not None else b"")

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        self._open_cursor()
        complete = False
        try:
            yield
            complete = True
        finally:
            if not complete:
                self.close()


@contextmanager
def _applying(path: bytes) -> Iterator[None]:
    """Turn an error of the file system into one that names the entry."""
    try:
        yield
    except OSError as error:
        raise TreeApplyError(path, error.strerror or str(error)) from error


def _belongs_to_runtime(path: bytes) -> bool:
    """Whether an OCI runtime mounts something of its own at this path of a root file system, or below it."""
    return path in _RUNTIME_FILES or path.split(b"/", 1)[0] in _RUNTIME_DIRECTORIES


def _status_of(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _punch_hole(fd: int, offset: int, length: int) -> bool:
    """Free a range, which then reads as zeros; False if the file system cannot. fallocate(2)."""
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length)) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EOPNOTSUPP:
        return False
    raise OSError(number, os.strerror(number))
