"""What a user wants done with what is around a container: volumes, directories of the host, ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

REFUSE, COPY, EXPECT = "refuse", "copy", "expect"
BIND_CHOICES = (REFUSE, COPY, EXPECT)

MOVE = "move"
VOLUME_CHOICES = (MOVE, COPY)

MOVE_LABEL = "streamhop.move"
"""Label of a volume or network that was made for a move, with the move's ID: what a failed move may remove again."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The wishes of one move. The defaults touch nothing that is not the container's own."""

    volumes: str = MOVE
    """``move``: its volumes are removed here once it runs at the target and they are on disk there. ``copy``: they
    stay; then they may also be shared with containers that only read them."""

    bind: str = REFUSE
    """``copy``: directories of this host that it has mounted are copied. ``expect``: they are at the target already."""

    bind_map: tuple[tuple[str, str], ...] = ()
    """Directories of this host, and which they are at the target."""

    publish: Mapping[str, str] = field(default_factory=dict)
    """Ports of the target's host by ports of the container, such as ``80/tcp``."""


DEFAULT = Surroundings()
