"""File trees of a container (writable layer, tmpfs mounts): scanned and sent in rounds, applied at the target.

The source's :class:`TreeScanner` finds what changed since the last round; the records it makes of that are those of
:mod:`streamhop_protocol.tree_records`; the target's :class:`TreeApplier` applies one round of them.

Everything here blocks and belongs into threads.
"""

from .applier import TreeApplier
from .changes import TreeChanges
from .dirs import remove_below, remove_entry
from .errors import (
    TreeApplyError,
    TreeDivergedError,
    TreeError,
    TreeQuotaError,
    TreeRefusedError,
    UnsupportedTree,
)
from .held_blocks import HeldBlocks
from .mapped import shared_mapped_files
from .scanner import TreeScanner

__all__ = [
    "HeldBlocks",
    "TreeApplier",
    "TreeApplyError",
    "TreeChanges",
    "TreeDivergedError",
    "TreeError",
    "TreeQuotaError",
    "TreeRefusedError",
    "TreeScanner",
    "UnsupportedTree",
    "remove_below",
    "remove_entry",
    "shared_mapped_files",
]
