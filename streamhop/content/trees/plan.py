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

    @property
    def is_regular(self) -> bool:
        """Whether the scan saw a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def updatable(self) -> Node | None:
        """The node of the same regular file at the target, which can be brought up to date in place."""
        if self.is_regular and self.before is not None and same_inode(self.before.signature, self.signature):
            return self.before
        return None

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

    removals: list[bytes] = field(default_factory=list)
    """Names that are no more. First, so that the target has room for what comes."""
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
