"""How carrying a tree can fail. Each error names the path, as a person would type it.

A source that cannot read its own tree raises :class:`OSError` with the path in ``filename``.
"""

from __future__ import annotations

import os
from typing import ClassVar


def shown(path: bytes) -> str:
    """A path below a tree's root for messages: printable, never empty."""
    return ascii("/" + os.fsdecode(path))[1:-1]


class TreeError(Exception):
    """A tree could not be carried.

    :param path: where in the tree, relative to its root.
    :param reason: what is wrong, for a person.
    """

    code: ClassVar[str] = "tree"

    def __init__(self, path: bytes, reason: str) -> None:
        super().__init__(f"{shown(path)}: {reason}")
        self.path = path
        self.reason = reason


class UnsupportedTree(TreeError):  # noqa: N818 - not a failure: an answer about the tree
    """The source's tree holds something that cannot be carried; nothing is wrong with either host."""

    code: ClassVar[str] = "tree_unsupported"


class TreeApplyError(TreeError):
    """The target could not write its tree: disk full, read-only, no support for an attribute, ..."""

    code: ClassVar[str] = "tree_apply"


class TreeQuotaError(TreeApplyError):
    """The tree takes more room, or more entries, than the target's policy grants it."""

    code: ClassVar[str] = "tree_quota"


class TreeRefusedError(TreeApplyError):
    """The peer asked for what the target does not do: a device, a path through a symbolic link, ..."""

    code: ClassVar[str] = "tree_refused"


class TreeDivergedError(TreeApplyError):
    """The target's tree is not what earlier rounds left there; the tree must be sent anew."""

    code: ClassVar[str] = "tree_diverged"
