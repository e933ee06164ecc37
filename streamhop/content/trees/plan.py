"""What a scan found: the work list from which a round's records are made while they are sent."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .nodes import Node, Recheck, same_inode

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class PlannedDirectory:
    """A directory that is new or has changed, or in which the target makes a name anew."""

    path: bytes
    status: os.stat_result
    fresh: bool = False
    """The target is to remove what it has at this path first."""
    touched: bool = False
    """The target changes names in it, hence its times, where the source may not have."""


@dataclass(slots=True)
class PlannedEntry:
    """A name of anything but a directory that is new or may have changed."""

    path: bytes
    name: str
    status: os.stat_result
    signature: bytes
    before: Node | None
    """What the target has at this path."""
    siblings: dict[str, Node]
    """Where the entry's node goes, in the baseline being built."""
    parent: PlannedDirectory
    reuses: bool = False
    """``before`` is of another file at the target, which nothing else needs: see :mod:`.reuse`."""
    moved_from: bytes | None = None
    """The name, of :attr:`Plan.moved`, under which the target keeps that file until then; None: it is at ``path``."""

    @property
    def is_regular(self) -> bool:
        """Whether the scan saw a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def updatable(self) -> Node | None:
        """The node of a regular file at the target that can be brought up to date in place."""
        if not self.is_regular or self.before is None:
            return None
        return self.before if self.reuses or same_inode(self.before.signature, self.signature) else None

    @property
    def unchanged(self) -> bool:
        """Whether nothing hints at a change since the entry was sent."""
        return (
            self.before is not None
            and self.before.signature == self.signature
            and self.before.recheck is Recheck.NOTHING
        )


@dataclass(slots=True)
class Plan:
    """Everything one round sends, in this order."""

    moved: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Files to be kept, each the name that it gets meanwhile and the one that it has. First, before names go."""
    removals: list[bytes] = field(default_factory=list)
    """Names that are no more. Early, so that the target has room for what comes."""
    entries: list[PlannedDirectory | PlannedEntry | bytes] = field(default_factory=list)
    """New directories before what is in them, files with one name, paths that became whiteouts."""
    linked: list[Sequence[PlannedEntry]] = field(default_factory=list)
    """The names of each file that has several. After the entries, so that all directories are there."""
    directories: list[PlannedDirectory] = field(default_factory=list)
    """Directories the target has already. Last, because only their metadata is of interest."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.removals or self.entries or self.linked or self.directories)
