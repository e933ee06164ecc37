"""What a scanner remembers of every entry it has sent: as little as tells whether the entry changed since."""

from __future__ import annotations

import enum
import stat
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

_SIGNATURE = struct.Struct("<QHHQQQ")
_IDENTITY = slice(0, 10)
_MASK = (1 << 64) - 1


class Recheck(enum.IntEnum):
    """What a later scan must not conclude from an unchanged signature."""

    NOTHING = 0
    CONTENT = 1
    """Content may have changed: the file was mapped shared and writable."""
    ALL = 2
    """Anything may have changed: the entry's last change was too close to the scan."""


def signature(status: os.stat_result) -> bytes:
    """Packed so that 50,000 entries take a few megabytes. Owner and attributes change the ctime."""
    return _SIGNATURE.pack(
        status.st_ino,
        stat.S_IFMT(status.st_mode),
        stat.S_IMODE(status.st_mode),
        status.st_size,
        status.st_mtime_ns & _MASK,
        status.st_ctime_ns & _MASK,
    )


def same_inode(one: bytes, other: bytes) -> bool:
    """Whether two signatures are of the same inode (or of one that took its number) and of the same type."""
    return one[_IDENTITY] == other[_IDENTITY]


def inode_of(signature: bytes) -> int:
    """The inode number in a signature."""
    return int(_SIGNATURE.unpack(signature)[0])


class Node:
    """One entry as the target holds it.

    Names that are hard links to one another *at the target* share one node object. That two nodes have the same
    inode number does not make them so: a live scan may see one name of a file before it gets another.
    """

    __slots__ = ("children", "hashes", "opaque", "recheck", "signature")

    def __init__(
        self,
        signature: bytes,
        recheck: Recheck = Recheck.NOTHING,
        hashes: bytes | None = None,
        children: dict[str, Node] | None = None,
        *,
        opaque: bool = False,
    ) -> None:
        self.signature = signature
        self.recheck = recheck
        self.hashes = hashes
        self.children = children
        self.opaque = opaque


WHITEOUT = Node(b"")
"""An overlay's mark for a removed name. One object for all: overlays hard-link their whiteouts."""

PLACEHOLDER_SIGNATURE = b""
"""Of a node that stands for an entry which went away while it was sent; it equals no entry's."""
