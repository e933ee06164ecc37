"""What may grow by how much between two inventories of a host. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MB = 1_000_000

JOURNAL_BYTES_MAX = 4 * MB
"""The journal keeps the newest 1,000 ended moves, of up to 4 kB each, and those with debts."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much more of something there may be later than earlier.

    :param by: in all, in the unit of the gauge: a number of things, or bytes.
    :param a_move: for each move between the two, beside that.
    :param at_most: in all, however much there was earlier.
    """

    by: int
    a_move: int = 0
    at_most: int | None = None

    def permits(self, early: int, late: int, moves: int) -> bool:
        """Whether ``late`` is fine after ``early``, ``moves`` moves before."""
        grown = late - early <= self.by + self.a_move * moves
        return grown and (self.at_most is None or late <= self.at_most)


NOTHING = Tolerance(0)

TOLERANCES: Mapping[str, Tolerance] = {
    # Python's allocator and uvloop's buffers settle in the first hundred moves; 100 operations are remembered.
    "daemon.rss_bytes": Tolerance(24 * MB),
    # Connections to Docker and threads of the pool are kept for a while, and are bounded.
    "daemon.descriptors": Tolerance(4),
    "daemon.threads": Tolerance(4),
    # Not ours: Go gives memory back when it sees fit, and never its threads.
    "dockerd.rss_bytes": Tolerance(40 * MB),
    "dockerd.descriptors": Tolerance(8),
    "dockerd.threads": Tolerance(12),
    "containerd.rss_bytes": Tolerance(40 * MB),
    "containerd.descriptors": Tolerance(8),
    "containerd.threads": Tolerance(12),
    "journal.bytes": Tolerance(0, a_move=4096, at_most=JOURNAL_BYTES_MAX),
    # About five lines a move; whoever runs a daemon turns its log over.
    "logs.bytes": Tolerance(65536, a_move=4096),
    # Databases of Docker and containerd, whose files grow by pages that are used again.
    "bytes /var/lib/docker": Tolerance(1 * MB),
    "bytes /var/lib/containerd": Tolerance(1 * MB),
    "bytes /run/docker": Tolerance(65536),
    "bytes /run/containerd": Tolerance(65536),
}
"""What may grow, and by how much. Whatever is not named here may not grow at all."""


@dataclass(frozen=True, slots=True)
class Growth:
    """One gauge that grew more than it may."""

    gauge: str
    early: int
    late: int

    def __str__(self) -> str:
        return f"{self.gauge}: {self.early:,} earlier, {self.late:,} now"


def growths(early: Mapping[str, int], late: Mapping[str, int], moves: int) -> Iterator[Growth]:
    """Yield what grew more than it may.

    :param early: gauges of a host, see :func:`hoplab.inventory.take`.
    :param late: the same, ``moves`` moves later. A gauge that is in one of them only counts as 0 in the other.
    """
    for gauge in sorted(early.keys() | late.keys()):
        before, now = early.get(gauge, 0), late.get(gauge, 0)
        if not TOLERANCES.get(gauge, NOTHING).permits(before, now, moves):
            yield Growth(gauge, before, now)
