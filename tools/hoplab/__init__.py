"""Real Docker hosts on one machine, with shaped links and faults, for people who test container migration.

::

    with Lab.up("demo", hosts=["edge-a", "edge-b"], rate="20mbit", rtt="50ms") as lab:
        lab.host("edge-a").docker("info")

The names below are imported when first used, so that the small programs that live inside hosts start fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import LabError
    from .host import Host
    from .lab import Lab, Link
    from .preparation import Prepared, prepare
    from .remains import residue
    from .state import Measured

__all__ = ["Host", "Lab", "LabError", "Link", "Measured", "Prepared", "prepare", "residue"]

_HOME = {
    "Host": "host",
    "Lab": "lab",
    "LabError": "errors",
    "Link": "lab",
    "Measured": "state",
    "Prepared": "preparation",
    "prepare": "preparation",
    "residue": "remains",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
