"""Walking below a root without ever leaving it.

Every directory is opened from its parent's descriptor with O_NOFOLLOW, one component at a time, so a symbolic link
(even one that appears between two steps) is an error and never followed. Works on any kernel, needs no openat2(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""errno of an open whose path is gone, or passes through something that is not a directory."""


_MEMORY_FILE_SYSTEMS = frozenset({0x01021994, 0x858458F6, 0x958458F6})
"""``f_type`` of tmpfs, ramfs and hugetlbfs: statfs(2)."""


def split(path: bytes) -> tuple[list[bytes], bytes]:
    """The components above a path, and its last one.

    :param path: relative and not empty.
    """
    *parents, name = path.split(b"/")
    return parents, name


class DirCursor:
    """The open directories along one path.

    Trees are visited in an order in which neighbours share most of their path, so keeping the descriptors of the
    last one open makes a step cost one or two system calls, whatever the depth.

    :param root: descriptor of the root directory; duplicated, so the caller may close its own.
    """

    def __init__(self, root: int) -> None:
        self._fds = [os.dup(root)]
        self._names: list[bytes] = []
        self._device = os.fstat(root).st_dev

    def enter(self, components: Sequence[bytes]) -> int:
        """Descriptor of a directory below the root, valid until the next call.

        Directories that are not on the way to it are closed, so none is open any more that is itself, or is below, a
        name in it: such a name may be removed and made anew.

        :raises OSError: it is missing (ENOENT), it or one above is not a directory (ENOTDIR, ELOOP), or belongs to
            another file system that is mounted there (EXDEV).
        """
        names = self._names
        common = 0
        for mine, wanted in zip(names, components, strict=False):
            if mine != wanted:
                break
            common += 1
        self._pop_to(common)
        for name in components[common:]:
            fd = os.open(name, DIRECTORY_FLAGS, dir_fd=self._fds[-1])
            if os.fstat(fd).st_dev != self._device:
                os.close(fd)
                raise OSError(errno.EXDEV, "another file system is mounted here")
            self._fds.append(fd)
            names.append(name)
        return self._fds[-1]

    def _pop_to(self, depth: int) -> None:
        while len(self._names) > depth:
            self._names.pop()
            os.close(self._fds.pop())

    def close(self) -> None:
        """Close all descriptors; the cursor is of no use afterwards."""
        self._pop_to(0)
        while self._fds:
            os.close(self._fds.pop())


def remove_below(directory: int) -> None:
    """Remove everything in a directory, which itself stays.

    :param directory: its descriptor.
    :raises OSError: something cannot be removed, EBUSY if another file system is mounted there. What was removed
        before stays removed.
    """
    device = os.fstat(directory).st_dev
    pending: list[tuple[int, list[bytes]]] = [(os.dup(directory), _names_of(directory))]
    try:
        while pending:
            fd, names = pending[-1]
            if not names:
                pending.pop()
                os.close(fd)
                if pending:
                    above, siblings = pending[-1]
                    os.rmdir(siblings.pop(), dir_fd=above)
                continue
            status = os.stat(names[-1], dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                below = _open_on(device, names[-1], fd)
                pending.append((below, _names_of(below)))
            else:
                os.unlink(names.pop(), dir_fd=fd)
    finally:
        for fd, _names in pending:
            os.close(fd)


def remove_entry(parent: int, name: bytes) -> None:
    """Remove one entry, and all below it if it is a directory.

    :raises OSError: ENOENT if there is none; others if it cannot be removed.
    """
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    directory = _open_on(os.fstat(parent).st_dev, name, parent)
    try:
        remove_below(directory)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)


def times_tell_all(directory: int) -> bool:
    """Whether a file's times change with every way to change its content, on the file system of ``directory``.

    On a tmpfs they do not: a page that a shared mapping reads first is mapped writable at once, so later stores
    through the mapping leave the times alone, and there is no writeback that would protect the page again.
    """
    buffer = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes on 64-bit Linux
    if ctypes.CDLL(None, use_errno=True).fstatfs(ctypes.c_int(directory), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return ctypes.c_long.from_buffer(buffer).value not in _MEMORY_FILE_SYSTEMS


def _open_on(device: int, name: bytes, parent: int) -> int:
    """Open a directory that is to be removed, if it is on the file system ``device``: a mount is not ours to empty."""
    fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        raise OSError(errno.EBUSY, "another file system is mounted here")
    return fd


def _names_of(directory: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(directory)]
