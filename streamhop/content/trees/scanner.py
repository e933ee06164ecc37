"""Finds what changed in a tree since the last time, by walking it and comparing with what was sent."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from streamhop_protocol.limits import PATH_BYTES_MAX
from streamhop_protocol.tree_entries import TREE_DEPTH_MAX

from .changes import TreeChanges
from .dirs import DIRECTORY_FLAGS, NOT_THERE, times_tell_all
from .errors import UnsupportedTree
from .metadata import EntryXattrs, entry_reference, read_xattrs
from .nodes import WHITEOUT, Node, Recheck, same_inode, signature
from .plan import Plan, PlannedDirectory, PlannedEntry
from .reuse import reuse_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

CLOCK_MARGIN_NS = 50_000_000
"""How far behind the clock a file system's times may be: one tick is 10 ms at most; the rest is caution."""

COARSE_MARGIN_NS = 2_000_000_000
"""The same for a file system that only keeps whole seconds (FAT: two)."""

_SECOND_NS = 1_000_000_000


class TreeScanner:
    """Remembers what was sent of a tree and finds what changed since.

    :param root: the directory; an overlay's upper directory, or the root of any other file system.
    :param overlay_upper: whether it is the former. Its whiteouts and opaque directories are then sent as what they
        mean, so that the target can apply them through a mounted overlay.
    :param wall_clock_ns: the clock that the file system's times come from, in ns since 1970. It is only used to tell
        which changes are so recent that another could follow under the same time.
    :param held_blocks: hashes of blocks that the target has; it may be filled until the first scan.
    """

    def __init__(
        self,
        root: Path,
        *,
        overlay_upper: bool,
        wall_clock_ns: Callable[[], int] = time.time_ns,
        held_blocks: AbstractSet[bytes] = frozenset(),
    ) -> None:
        self.root = root
        self._held_blocks = held_blocks
        self.overlay_upper = overlay_upper
        self._wall_clock_ns = wall_clock_ns
        self._baseline: Node | None = None

    def scan(self, must_check: frozenset[tuple[int, int]] = frozenset()) -> TreeChanges:
        """Find what changed since the last scan whose changes were read to the end; at first, everything.

        Blocks. The tree may change meanwhile: whatever is missed or torn is found by the next scan.

        :param must_check: device and inode numbers of files whose content may change without their times.
        :raises UnsupportedTree: the tree holds what cannot be carried.
        :raises OSError: it cannot be read.
        """
        root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            walk = _Walk(root, must_check, self._wall_clock_ns(), overlay_upper=self.overlay_upper)
            baseline = walk.run(root, self._baseline)
        finally:
            os.close(root)
        if walk.plan.empty:
            self._baseline = baseline
        return TreeChanges(
            self.root,
            walk.plan,
            overlay_upper=self.overlay_upper,
            recheck=walk.recheck,
            hash_bytes=walk.hash_bytes,
            held_blocks=self._held_blocks,
            commit=lambda: self._commit(baseline),
        )

    def _commit(self, baseline: Node) -> None:
        self._baseline = baseline


class _Walk:
    """One pass over a tree: builds the new baseline and the plan."""

    def __init__(self, root: int, must_check: frozenset[tuple[int, int]], now_ns: int, *, overlay_upper: bool) -> None:
        self.plan = Plan()
        self.hash_bytes = 0
        """What the hashes in the new baseline take so far."""
        self._must_check = must_check
        self._now_ns = now_ns
        self._overlay_upper = overlay_upper
        self._times_tell_all = times_tell_all(root)
        self._device = os.fstat(root).st_dev
        self._linked: dict[int, list[PlannedEntry]] = {}
        self._known_directories: list[tuple[PlannedDirectory, bool]] = []

    def recheck(self, status: os.stat_result) -> Recheck:
        """What later scans must look at again although an entry's times are as in ``status``."""
        coarse = status.st_ctime_ns % _SECOND_NS == 0
        if status.st_ctime_ns >= self._now_ns - (COARSE_MARGIN_NS if coarse else CLOCK_MARGIN_NS):
            return Recheck.ALL
        if stat.S_ISREG(status.st_mode) and self._is_suspect(status):
            return Recheck.CONTENT
        return Recheck.NOTHING

    def _is_suspect(self, status: os.stat_result) -> bool:
        return not self._times_tell_all or (status.st_dev, status.st_ino) in self._must_check

    def run(self, root: int, before: Node | None) -> Node:
        """Walk everything; returns the new baseline, which holds once the plan has been sent."""
        node = self._directory(root, b"", 0, before, parent=None)
        for entries in self._linked.values():
            self._plan_linked(entries)
        if before is not None and reuse_files(self.plan, before, node):
            self._known_directories[0][0].touched = True  # the names meanwhile are in the root
        self.plan.directories = [planned for planned, changed in self._known_directories if changed or planned.touched]
        return node

    # -- directories -----------------------------------------------------------------------------------------------

    def _directory(
        self, fd: int, path: bytes, depth: int, before: Node | None, parent: PlannedDirectory | None
    ) -> Node:
        if depth > TREE_DEPTH_MAX or len(path) > PATH_BYTES_MAX:
            raise UnsupportedTree(path[:256], "lies too deep to be carried")
        status = os.fstat(fd)
        now = signature(status)
        old = (
            before if before is not None and before.children is not None and same_inode(before.signature, now) else None
        )
        changed = old is None or old.signature != now or old.recheck is not Recheck.NOTHING
        xattrs = self._xattrs_of(fd, path) if changed and self._overlay_upper else None
        opaque = xattrs.opaque if xattrs is not None else old is not None and old.opaque
        planned = PlannedDirectory(path, status)
        planned.fresh = self._is_fresh(parent, before, old, opaque=opaque)
        if planned.fresh or old is None:
            old = None
            self.plan.entries.append(planned)
        else:
            self._known_directories.append((planned, changed))
        node = Node(now, self.recheck(status), children={}, opaque=opaque)
        if status.st_dev == self._device:  # else something is mounted there, which is not part of this tree
            self._names(fd, planned, depth, old, node)
        return node

    def _is_fresh(
        self, parent: PlannedDirectory | None, before: Node | None, old: Node | None, *, opaque: bool
    ) -> bool:
        if not self._overlay_upper:
            return old is None
        if parent is None:
            return False  # below the root of an overlay there is always the image
        return (opaque and (old is None or not old.opaque)) or (old is None and before is not None)

    def _names(self, fd: int, planned: PlannedDirectory, depth: int, old: Node | None, node: Node) -> None:
        prefix = planned.path + b"/" if planned.path else b""
        known = old.children or {} if old is not None else {}
        children = node.children if node.children is not None else {}
        with os.scandir(fd) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            name = entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                below = _open_directory(name, fd)
                if below is None:
                    continue
                try:
                    path = prefix + os.fsencode(name)
                    children[name] = self._directory(below, path, depth + 1, known.get(name), planned)
                finally:
                    os.close(below)
            else:
                self._file(fd, prefix, name, status, known.get(name), children, planned)
        for name in known.keys() - children.keys():
            self.plan.removals.append(prefix + os.fsencode(name))

    # -- everything else -------------------------------------------------------------------------------------------

    def _file(
        self,
        fd: int,
        prefix: bytes,
        name: str,
        status: os.stat_result,
        before: Node | None,
        siblings: dict[str, Node],
        parent: PlannedDirectory,
    ) -> None:
        now = signature(status)
        if (
            before is not None
            and before.signature == now
            and before.recheck is Recheck.NOTHING
            and status.st_nlink == 1
            and not self._is_suspect(status)
        ):
            self._keep(siblings, name, before)
            return
        if status.st_dev != self._device:
            return  # another file is mounted on this one
        path = prefix + os.fsencode(name)
        if len(path) > PATH_BYTES_MAX:
            raise UnsupportedTree(path[:256], "has a path too long to be carried")
        if self._is_whiteout(fd, path, status):
            siblings[name] = WHITEOUT
            if before is not WHITEOUT and not parent.fresh:
                self.plan.entries.append(path)
            return
        planned = PlannedEntry(path, name, status, now, before, siblings, parent)
        siblings[name] = Node(now, Recheck.ALL)
        if status.st_nlink > 1:
            self._linked.setdefault(status.st_ino, []).append(planned)
            return
        if planned.updatable is None:
            parent.touched = True  # perhaps only at the target: a changed symbolic link is made anew there
        self.plan.entries.append(planned)

    def _keep(self, siblings: dict[str, Node], name: str, node: Node) -> None:
        siblings[name] = node
        if node.hashes is not None:
            self.hash_bytes += len(node.hashes)

    def _plan_linked(self, entries: list[PlannedEntry]) -> None:
        first = entries[0]
        together = all(entry.before is first.before for entry in entries)
        if together and all(entry.unchanged for entry in entries) and not self._is_suspect(first.status):
            for entry in entries:
                self._keep(entry.siblings, entry.name, first.before or entry.siblings[entry.name])
            return
        # The name whose file is at the target already goes first: the others become links to it.
        entries.sort(key=lambda entry: entry.updatable is None)
        for entry in entries:
            if entries[0].updatable is None or entry.before is not entries[0].before:
                entry.parent.touched = True
        self.plan.linked.append(entries)

    def _is_whiteout(self, fd: int, path: bytes, status: os.stat_result) -> bool:
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return True
        if not (self._overlay_upper and stat.S_ISREG(status.st_mode) and status.st_size == 0):
            return False
        try:
            return self._xattrs_of(entry_reference(fd, path.rpartition(b"/")[2]), path).whiteout
        except FileNotFoundError:
            return False

    def _xattrs_of(self, where: int | bytes, path: bytes) -> EntryXattrs:
        xattrs = read_xattrs(where, overlay_upper=self._overlay_upper)
        if xattrs.obstacle:
            raise UnsupportedTree(path, xattrs.obstacle)
        return xattrs


def _open_directory(name: str, parent: int) -> int | None:
    try:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    except OSError as error:
        if error.errno in NOT_THERE:  # removed or replaced since it was listed: the next scan will see
            return None
        raise
