"""Extended attributes, owners, modes and times of entries, read and set in an order that loses none of them."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamhop_protocol.tree_entries import xattr_travels

if TYPE_CHECKING:
    from streamhop_protocol.tree_entries import EntryRecord

Xattrs = tuple[tuple[bytes, bytes], ...]

OVERLAY_PREFIX = b"trusted.overlay."
"""Where an overlay mounted without ``userxattr`` keeps its notes in the upper directory."""

_LAYER_DEPENDENT = frozenset({b"redirect", b"metacopy", b"nlink"})
"""Notes that make an upper entry unreadable by itself: its name, content or links are partly those of a lower one."""


@dataclass(frozen=True, slots=True)
class EntryXattrs:
    """What the extended attributes of one entry say."""

    travelling: Xattrs = ()
    opaque: bool = False
    """An overlay's directory that hides the one below it."""
    whiteout: bool = False
    """An overlay's empty file that stands for a removed name."""
    obstacle: str = ""
    """Why the tree cannot be carried; empty if it can."""


_NONE = EntryXattrs()


def entry_reference(parent: int, name: bytes) -> bytes:
    """A path that means exactly this entry of an open directory, for calls that take no ``dir_fd``.

    The kernel jumps to the open directory, whatever its path is now; ``name`` is the only component resolved.
    """
    return b"/proc/self/fd/%d/%s" % (parent, name)


def read_xattrs(where: int | bytes, *, overlay_upper: bool) -> EntryXattrs:
    """Read and sort out the extended attributes of an entry.

    :param where: descriptor of a file or directory, or an :func:`entry_reference` (never followed).
    :param overlay_upper: the tree is the upper directory of an overlay, else it has no business with overlays.
    :raises OSError: the entry is gone, or cannot be read.
    """
    try:
        names = os.listxattr(where) if isinstance(where, int) else os.listxattr(where, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return _NONE
        raise
    if not names:
        return _NONE
    travelling: list[tuple[bytes, bytes]] = []
    notes: dict[bytes, bytes] = {}
    for name in sorted(os.fsencode(text) for text in names):
        is_note = name.startswith(OVERLAY_PREFIX)
        if not is_note and not xattr_travels(name):
            continue
        value = _value_of(where, name)
        if value is None:
            continue
        if is_note:
            notes[name.removeprefix(OVERLAY_PREFIX)] = value
        else:
            travelling.append((name, value))
    return _sorted_out(tuple(travelling), notes, overlay_upper=overlay_upper)


def _value_of(where: int | bytes, name: bytes) -> bytes | None:
    try:
        if isinstance(where, int):
            return os.getxattr(where, name)
        return os.getxattr(where, name, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENODATA:  # removed since it was listed
            return None
        raise


def _sorted_out(travelling: Xattrs, notes: dict[bytes, bytes], *, overlay_upper: bool) -> EntryXattrs:
    if not notes:
        return EntryXattrs(travelling)
    if not overlay_upper:
        return EntryXattrs(travelling, obstacle="belongs to an overlay file system's own directory")
    blocking = sorted(name for name in notes if name in _LAYER_DEPENDENT or name.startswith(b"overlay."))
    if blocking:
        kind = os.fsdecode(OVERLAY_PREFIX + blocking[0])
        return EntryXattrs(travelling, obstacle=f"has {kind}: its content is not in the upper directory alone")
    return EntryXattrs(
        travelling,
        opaque=notes.get(b"opaque") == b"y",
        whiteout=b"whiteout" in notes,
    )


def set_metadata(fd: int, entry: EntryRecord, *, with_time: bool) -> None:
    """Give an open file or directory the owner, attributes, mode and (with ``with_time``) time of ``entry``.

    chown(2) clears setuid bits and file capabilities, and setting an access ACL changes the group's permission bits,
    so the owner comes first, then the attributes, then the mode, then the time.
    """
    os.fchown(fd, entry.uid, entry.gid)
    _set_xattrs(fd, entry.xattrs)
    os.fchmod(fd, entry.mode)
    if with_time:
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def set_metadata_at(parent: int, name: bytes, entry: EntryRecord, *, symlink: bool) -> None:
    """The same for an entry that must not be opened (symbolic link, fifo, socket, device)."""
    where = entry_reference(parent, name)
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    _set_xattrs(where, entry.xattrs)
    if not symlink:
        # chmod(2) cannot be told not to follow a link before Linux 6.6: pin the inode, then name it by its descriptor.
        pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            Path(f"/proc/self/fd/{pinned}").chmod(entry.mode)
        finally:
            os.close(pinned)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def _set_xattrs(where: int | bytes, wanted: Xattrs) -> None:
    follow = isinstance(where, int)
    try:
        present = {os.fsencode(name) for name in os.listxattr(where, follow_symlinks=follow)}
    except OSError as error:
        if error.errno != errno.ENOTSUP or wanted:
            raise
        return
    names = {name for name, _value in wanted}
    for name in present - names:
        if xattr_travels(name):  # an ACL inherited from the directory, or one removed at the source
            os.removexattr(where, name, follow_symlinks=follow)
    for name, value in wanted:
        os.setxattr(where, name, value, follow_symlinks=follow)
