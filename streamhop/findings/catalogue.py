"""Every kind of finding there is: how bad it is, why it matters, where to read about it.

What was found in one case and how to mend it is for whoever finds it to say. ``docs/preflight.md`` lists all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .container_kinds import CONTAINER_KINDS, POLICY_KINDS
from .finding import Finding
from .host_kinds import HOST_KINDS
from .kind import Kind
from .workload_kinds import WORKLOAD_KINDS

__all__ = ["CATALOGUE", "Kind", "found"]

CATALOGUE: Final[Mapping[str, Kind]] = {**CONTAINER_KINDS, **HOST_KINDS, **POLICY_KINDS, **WORKLOAD_KINDS}
"""By ID. Closed: a finding of this host has one of these, or that of an entry of :mod:`streamhop.engine.known_bad`."""


def found(kind: str, reason: str, fix: str = "") -> Finding:
    """A finding of the kind that has this ID in :data:`CATALOGUE`."""
    known = CATALOGUE[kind]
    return Finding(kind, reason, fix, known.why, known.reference, known.severity)
