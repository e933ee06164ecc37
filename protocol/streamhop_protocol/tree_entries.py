"""What a record of a tree may say: its classes, their bounds and the checks.

How records look on the wire is in :mod:`streamhop_protocol.tree_records`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .errors import LimitError, MalformedError
from .limits import KIB, NAME_BYTES_MAX, PATH_BYTES_MAX

TREE_DEPTH_MAX = 256
"""Components of one path. Both sides hold one open directory a level while they walk."""

FILE_BYTES_MAX = 1 << 44
"""Size of one file, holes included: what the largest common file systems hold (16 TiB)."""

LINK_TARGET_BYTES_MAX = PATH_BYTES_MAX - 1
"""Text of a symbolic link: Linux's PATH_MAX without its NUL."""

XATTRS_MAX = 256
"""Extended attributes of one entry."""

XATTR_VALUE_BYTES_MAX = 64 * KIB
"""One value: Linux's XATTR_SIZE_MAX."""

XATTRS_BYTES_MAX = 192 * KIB
"""All names and values of one entry, so that an ENTRY is never larger than the largest CONTENT."""

MODE_MAX = 0o7777
ID_MAX = (1 << 32) - 2
"""Largest owner or group: the last value means "leave it as it is" to chown(2)."""

DEVICE_NUMBER_MAX = (1 << 32) - 1

_MTIME_NS_MIN, _MTIME_NS_MAX = -(1 << 63), (1 << 63) - 1


class EntryType(enum.IntEnum):
    """What an ENTRY is. A further name of a file is a LINK record instead."""

    REGULAR = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHAR_DEVICE = 6
    BLOCK_DEVICE = 7


_UPDATABLE = frozenset({EntryType.REGULAR, EntryType.DIRECTORY})
DEVICE_TYPES = frozenset({EntryType.CHAR_DEVICE, EntryType.BLOCK_DEVICE})


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """One entry with all its metadata.

    For a regular file the CONTENT and HOLE records that follow, up to the next record of another kind, change
    its bytes; what they do not mention is zero in a fresh file and stays as it is in one that is not.
    """

    path: bytes
    """Relative to the tree's root, components joined by ``/``; empty for the root itself."""
    type: EntryType
    fresh: bool
    """True: whatever is at the path goes first, with all below it (of the root only what is below).
    False, for regular files: it is there from an earlier round and is brought up to date. False, for directories:
    what is below stays; made if missing, and anything that is no directory makes way. Others are always fresh."""
    mode: int
    """Permission bits with setuid, setgid and sticky."""
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    """Bytes of a regular file, holes included; 0 for all others."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device; zeros for all others."""
    link_target: bytes = b""
    """Text of a symbolic link; empty for all others."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Names and values, names in rising order. All others that travel are to be removed from the entry."""


@dataclass(frozen=True, slots=True)
class ContentRecord:
    """Bytes of the file that the last ENTRY opened. ``data`` is a view into the chunk."""

    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class HoleRecord:
    """A range of the open file that reads as zeros from now on."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """A range of the open file that holds a block which the receiver has said that it has."""

    offset: int
    length: int
    block: bytes
    """BLAKE3 of the block's content, the first :data:`BLOCK_HASH_BYTES`."""


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A further name (hard link) of an entry that is there already."""

    path: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class RemoveRecord:
    """A path that is no more, with all below it. It need not have been there."""

    path: bytes


TreeRecord = EntryRecord | ContentRecord | HoleRecord | ReferenceRecord | LinkRecord | RemoveRecord

BLOCK_BYTES_MAX = 64 * 1024
BLOCK_HASH_BYTES = 16


def xattr_travels(name: bytes) -> bool:
    """Whether an extended attribute of this name belongs to the container and is sent.

    Labels and measurements of the host (SELinux, Smack, IMA, EVM, ...) are the host's own; the attributes of
    overlay file systems describe a layer, not its content, and would let a peer redirect lookups.
    """
    if name.startswith((b"trusted.overlay.", b"user.overlay.")):
        return False
    if name.startswith((b"user.", b"trusted.")):
        return not name.endswith(b".")
    return name in {b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"}


def check_path(path: bytes, *, root_allowed: bool = False) -> None:
    """Refuse any path that is not plainly below the root.

    :raises LimitError: too long, a component too long, or too deep.
    :raises MalformedError: empty (unless ``root_allowed``), absolute, with NUL or a component that is empty,
        ``.`` or ``..``.
    """
    if not path:
        if root_allowed:
            return
        raise MalformedError("a tree record has an empty path")
    if len(path) > PATH_BYTES_MAX:
        raise LimitError(f"path of {len(path)} bytes, at most {PATH_BYTES_MAX} allowed")
    if b"\0" in path:
        raise MalformedError(f"path {path[:64]!r} contains NUL")
    components = path.split(b"/")
    if len(components) > TREE_DEPTH_MAX:
        raise LimitError(f"path of {len(components)} components, at most {TREE_DEPTH_MAX} allowed")
    for component in components:
        if component in {b"", b".", b".."}:
            raise MalformedError(f"path {path[:64]!r} has the component {component!r}")
        if len(component) > NAME_BYTES_MAX:
            raise LimitError(f"name of {len(component)} bytes, at most {NAME_BYTES_MAX} allowed")


def check_link(link: LinkRecord) -> None:
    """Refuse a hard link whose paths are bad, or that would have to remove what it links to.

    :raises LimitError, MalformedError: as :func:`check_path`.
    """
    check_path(link.path)
    check_path(link.target)
    if link.path == link.target or link.target.startswith(link.path + b"/"):
        raise MalformedError(f"hard link {link.path[:64]!r} would replace its own target")


def _check_xattrs(xattrs: tuple[tuple[bytes, bytes], ...]) -> None:
    if len(xattrs) > XATTRS_MAX:
        raise LimitError(f"{len(xattrs)} extended attributes, at most {XATTRS_MAX} allowed")
    total = 0
    previous = b""
    for name, value in xattrs:
        if len(name) > NAME_BYTES_MAX or len(value) > XATTR_VALUE_BYTES_MAX:
            raise LimitError(f"extended attribute {name[:64]!r} of {len(value)} bytes is too long")
        if b"\0" in name or not xattr_travels(name):
            raise MalformedError(f"extended attribute {name[:64]!r} does not travel")
        if name <= previous:
            raise MalformedError(f"extended attribute {name[:64]!r} is out of order or occurs twice")
        previous = name
        total += len(name) + len(value)
    if total > XATTRS_BYTES_MAX:
        raise LimitError(f"{total} bytes of extended attributes, at most {XATTRS_BYTES_MAX} allowed")


def _check_numbers(entry: EntryRecord) -> None:
    if not 0 <= entry.mode <= MODE_MAX:
        raise MalformedError(f"mode {entry.mode:o} has more than permission bits")
    if not (0 <= entry.uid <= ID_MAX and 0 <= entry.gid <= ID_MAX):
        raise MalformedError(f"owner {entry.uid}:{entry.gid} is out of range")
    if not 0 <= entry.size <= FILE_BYTES_MAX:
        raise LimitError(f"file of {entry.size} bytes, at most {FILE_BYTES_MAX} allowed")
    if not _MTIME_NS_MIN <= entry.mtime_ns <= _MTIME_NS_MAX:
        raise LimitError(f"time {entry.mtime_ns} ns is out of range")
    if not all(0 <= number <= DEVICE_NUMBER_MAX for number in entry.device):
        raise MalformedError(f"device {entry.device} is out of range")


def check_entry(entry: EntryRecord) -> None:
    """Refuse an entry whose fields are out of bounds or do not belong to its type.

    :raises LimitError: something is too large.
    :raises MalformedError: something makes no sense.
    """
    check_path(entry.path, root_allowed=entry.type is EntryType.DIRECTORY)
    _check_numbers(entry)
    if not entry.fresh and entry.type not in _UPDATABLE:
        raise MalformedError(f"a {entry.type.name} that is not fresh")
    if entry.size and entry.type is not EntryType.REGULAR:
        raise MalformedError(f"a {entry.type.name} has no size")
    if (entry.type in DEVICE_TYPES) != (entry.device != (0, 0)):
        # The character device 0:0 is how an overlay marks a removed name: that is a REMOVE here.
        raise MalformedError(f"a {entry.type.name} with device number {entry.device}")
    if (entry.type is EntryType.SYMLINK) != bool(entry.link_target):
        raise MalformedError(f"a {entry.type.name} with link target {entry.link_target[:64]!r}")
    if len(entry.link_target) > LINK_TARGET_BYTES_MAX:
        raise LimitError(f"link target of {len(entry.link_target)} bytes")
    if b"\0" in entry.link_target:
        raise MalformedError("a link target contains NUL")
    _check_xattrs(entry.xattrs)


def check_range(offset: int, length: int) -> None:
    """Refuse a range of a file (both in bytes) that is empty or out of bounds."""
    if length < 1 or offset < 0:
        raise MalformedError(f"range of {length} bytes at {offset}")
    if offset + length > FILE_BYTES_MAX:
        raise LimitError(f"range ends at {offset + length}, a file has at most {FILE_BYTES_MAX} bytes")
