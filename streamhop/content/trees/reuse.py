"""Which new files can be made out of files that the target has: one that was renamed, one that was replaced as a whole.

A log that is rotated, a database that saves itself under another name and renames that: most of the content is at the
target already, in a file that nothing there needs any more. Such a file is kept, under a name in the tree's root while
others are removed and made, and is then brought up to date like any file that has changed. What differs is found by
hashes, so a file that only took the inode number of another does no harm.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .nodes import Node, inode_of
from .plan import PlannedEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .plan import Plan

REUSE_BYTES_MIN = 64 * 1024
"""A smaller file goes as fast as what tells how to make it out of another."""

REUSED_MAX = 4096
"""Files of one round that are kept under other names."""

_UNSEEN = frozenset({b"dev", b"proc", b"sys"})
"""In the root: where a container runtime may have mounted its own at the target, so that files cannot be linked to."""


def reuse_files(plan: Plan, before: Node, after: Node) -> bool:
    """Find new files of the plan that can be made out of others, and plan so.

    :param before: the root as the target has it.
    :param after: the root as it will be.
    :returns: whether names in the root are needed meanwhile.
    """
    wanting = [first for first in _firsts(plan) if _wants(first)]
    if not wanting:
        return False
    needed = {id(node) for _, node in _files(after)}
    needed.update(id(first.before) for first in _firsts(plan) if first.updatable is not None)
    free = {id(node): (path, node) for path, node in _files(before) if node.hashes and id(node) not in needed}
    by_inode = {inode_of(node.signature): (path, node) for path, node in free.values()}
    for first in wanting:
        found = by_inode.get(first.status.st_ino)
        if found is None or len(plan.moved) >= REUSED_MAX:
            continue
        path, node = found
        if path.split(b"/", 1)[0] not in _UNSEEN and free.pop(id(node), None) is not None:
            first.before, first.reuses = node, True
            if path != first.path:
                first.moved_from = _name_meanwhile(len(plan.moved), before, after)
                plan.moved.append((first.moved_from, path))
    for first in wanting:
        if not first.reuses and free.pop(id(first.before), None) is not None:
            first.reuses = True
    return bool(plan.moved)


def _firsts(plan: Plan) -> Iterator[PlannedEntry]:
    """The names under which files are sent, others of the same file left out."""
    yield from (entry for entry in plan.entries if isinstance(entry, PlannedEntry))
    yield from (names[0] for names in plan.linked)


def _wants(entry: PlannedEntry) -> bool:
    return entry.is_regular and entry.updatable is None and entry.status.st_size >= REUSE_BYTES_MIN


def _files(directory: Node, prefix: bytes = b"") -> Iterator[tuple[bytes, Node]]:
    """Everything below a directory that is none."""
    for name, node in (directory.children or {}).items():
        path = prefix + os.fsencode(name)
        if node.children is None:
            yield path, node
        else:
            yield from _files(node, path + b"/")


def _name_meanwhile(number: int, before: Node, after: Node) -> bytes:
    """A name that the root neither has nor will have."""
    taken = (before.children or {}).keys() | (after.children or {}).keys()
    name = f".streamhop-moved-{number}"
    while name in taken:
        name += "-"
    return os.fsencode(name)
