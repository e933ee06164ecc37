"""Which files of a tree a process could change through memory, without a system call that would tell.

Stores through a shared mapping move a file's times only when a page is first dirtied, so files mapped now are read
and compared in every scan. Sources: proc_pid_maps(5), proc_pid_map_files(5).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from .dirs import DirCursor, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .scanner import TreeScanner

_MOUNT_PREFIX = "mount:"
_DELETED = " (deleted)"
_OCTAL = re.compile(rb"\\([0-7]{3})")


def shared_mapped_files(
    pids: Iterable[int], trees: Mapping[str, TreeScanner], *, proc: Path = Path("/proc")
) -> dict[str, frozenset[tuple[int, int]]]:
    """Find files of the trees that the processes have mapped shared and may write to.

    A file is found by where the container sees it, because an overlay shows other inode numbers than its upper
    directory has, and by its inode where the tree is no overlay.

    :param pids: as this process sees them; those that are gone by now are left out.
    :param trees: by name: an overlay's is the root of the container, ``mount:<destination>`` is below it.
    :returns: for each tree that has any, device and inode numbers as :meth:`TreeScanner.scan` takes them.
    :raises PermissionError: this process may not look at those.
    """
    paths: set[bytes] = set()
    inodes: set[tuple[int, int]] = set()
    for pid in pids:
        for path, inode in _shared_files_of(proc / str(pid)):
            paths.add(path)
            if inode is not None:
                inodes.add(inode)
    if not paths:
        return {}
    found = {name: _found_in(name, scanner, paths, inodes) for name, scanner in trees.items()}
    return {name: files for name, files in found.items() if files}


def _shared_files_of(process: Path) -> Iterator[tuple[bytes, tuple[int, int] | None]]:
    try:
        text = (process / "maps").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or not fields[1].endswith(b"s") or not fields[5].startswith(b"/"):
            continue
        if fields[5].endswith(_DELETED.encode()):
            continue  # no name, so in no tree
        map_file = process / "map_files" / os.fsdecode(fields[0])
        if b"w" in fields[1] or _may_become_writable(map_file):
            yield _unescaped(fields[5]), _inode_of(map_file)


def _may_become_writable(map_file: Path) -> bool:
    """The link's mode tells how the file was opened; mprotect(2) can give back what was opened for."""
    try:
        return bool(map_file.lstat().st_mode & stat.S_IWUSR)
    except OSError:
        return True  # unmapped by now, or not ours to see: one file too many does no harm


def _inode_of(map_file: Path) -> tuple[int, int] | None:
    try:
        status = map_file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unescaped(path: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), path)


def _found_in(
    name: str, scanner: TreeScanner, paths: set[bytes], inodes: set[tuple[int, int]]
) -> frozenset[tuple[int, int]]:
    root = os.open(scanner.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    cursor = DirCursor(root)
    try:
        device = os.fstat(root).st_dev
        files = set() if scanner.overlay_upper else {inode for inode in inodes if inode[0] == device}
        base = os.fsencode(name.removeprefix(_MOUNT_PREFIX)) if name.startswith(_MOUNT_PREFIX) else b""
        for path in sorted(paths):
            if path.startswith(base + b"/"):
                files |= _files_at(cursor, path.removeprefix(base).strip(b"/"))
    finally:
        cursor.close()
        os.close(root)
    return frozenset(files)


def _files_at(cursor: DirCursor, path: bytes) -> set[tuple[int, int]]:
    parents, name = split(path)
    try:
        status = os.stat(name, dir_fd=cursor.enter(parents), follow_symlinks=False)
    except OSError:
        return set()  # not in this tree: below a mount, in the image only, or gone
    return {(status.st_dev, status.st_ino)} if stat.S_ISREG(status.st_mode) else set()
