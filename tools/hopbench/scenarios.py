"""What is measured: a table of scenarios, the links they run on, and the peers they are compared with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

MBIT = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """How the link between the two hosts is shaped; ``None``: as fast as the machine, no delay."""

    mbit_per_s: float | None = None
    rtt_ms: float | None = None

    @property
    def bit_per_s(self) -> int | None:
        """The rate."""
        return None if self.mbit_per_s is None else round(self.mbit_per_s * MBIT)

    @property
    def rtt_s(self) -> float | None:
        """The round trip."""
        return None if self.rtt_ms is None else self.rtt_ms / 1000

    def __str__(self) -> str:
        if self.mbit_per_s is None:
            return "unshaped"
        return f"{self.mbit_per_s:g} Mbit/s" + ("" if self.rtt_ms is None else f", {self.rtt_ms:g} ms")


UNSHAPED = Link()
PAPER_LINKS = (*(Link(mbit, 50) for mbit in (5, 10, 15, 20, 45)), *(Link(mbit, 6) for mbit in (100, 500)))
"""Rates and round trips of Ma et al., IEEE TMC 18(9), 2018, tables of OpenFace and Busybox."""


class Family(Enum):
    """What a scenario's figures are judged as."""

    BUSYBOX = "busybox"
    VISION = "vision"
    VISION_QUIET = "vision-quiet"
    REDIS_WRITE = "redis-write"
    POSTGRES = "postgres"
    IDLE = "idle"
    WIRE = "wire"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One workload and the links it is measured on."""

    name: str
    family: Family
    links: tuple[Link, ...]
    size_mb: int = 0
    """Data in memory (redis-write, idle), or bytes sent (wire)."""

    touched_mb_per_s: float = 0.0
    """What the client rewrites (redis-write)."""

    peers: tuple[str, ...] = ()
    """Rivals that are worth their time here, if they are asked for."""

    staged: bool = False
    """Whether layers and memory may be sent before the request, as in the paper."""

    floor: bool = False
    """Whether the pages that changed are taken down, to know the least that had to cross."""


PODMAN, RSYNC, SAVE_LOAD = "podman", "checkpoint-rsync", "save-load"
PEERS = (PODMAN, RSYNC, SAVE_LOAD)
STREAMHOP = "streamhop"

_SLOW = (Link(20, 50), Link(100, 50))

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("busybox", Family.BUSYBOX, PAPER_LINKS, peers=PEERS),
    Scenario("vision", Family.VISION, PAPER_LINKS, staged=True, floor=True, peers=(PODMAN,)),
    Scenario("vision-quiet", Family.VISION_QUIET, PAPER_LINKS, staged=True),
    *(
        Scenario(
            f"redis-write-{rate}",
            Family.REDIS_WRITE,
            _SLOW,
            size_mb=300,
            touched_mb_per_s=rate,
            floor=True,
            peers=PEERS if rate == 4 else (),
        )
        for rate in (1, 4, 16)
    ),
    Scenario("postgres", Family.POSTGRES, _SLOW, peers=(PODMAN, SAVE_LOAD)),
    *(
        Scenario(f"idle-{name}", Family.IDLE, (UNSHAPED,), size_mb=size_mb)
        for name, size_mb in (("64m", 64), ("256m", 256), ("1g", 1024), ("4g", 4096))
    ),
    Scenario("wire", Family.WIRE, (UNSHAPED,), size_mb=1000),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@dataclass(frozen=True, slots=True)
class Run:
    """One thing to measure: a scenario on a link, by one mover, once more."""

    scenario: Scenario
    link: Link
    who: str
    repeat: int = 0

    def __str__(self) -> str:
        return f"{self.scenario.name} at {self.link} by {self.who}"


QUICK: tuple[tuple[str, Link, tuple[str, ...]], ...] = (
    ("busybox", Link(5, 50), ()),
    ("busybox", Link(100, 6), ()),
    ("vision", Link(45, 50), ()),
    ("vision", Link(500, 6), ()),
    ("vision-quiet", Link(100, 6), ()),
    ("redis-write-4", Link(20, 50), (PODMAN, RSYNC)),
    ("idle-64m", UNSHAPED, ()),
    ("idle-1g", UNSHAPED, ()),
    ("wire", UNSHAPED, ()),
)
"""A telling quarter, in about ten minutes: each promise is touched."""


class ChoiceError(Exception):
    """There is no such scenario or peer."""


def plan(names: Sequence[str], peers: Iterable[str], repeat: int, *, quick: bool = False) -> list[Run]:
    """What to run, rivals right after streamhop on the same link, repeats of a link together.

    :param names: scenarios, or beginnings of their names before a ``-``; none: all.
    :param peers: rivals that are asked for.
    :param repeat: how often each.
    :raises ChoiceError: one of them does not exist.
    """
    wanted_peers = tuple(peers)
    for peer in wanted_peers:
        if peer not in PEERS:
            raise ChoiceError(f"there is no peer {peer!r}: {', '.join(PEERS)}")
    chosen = _choose(names)
    if quick:
        cells = [(BY_NAME[name], link, rivals) for name, link, rivals in QUICK if BY_NAME[name] in chosen]
    else:
        cells = [(scenario, link, scenario.peers) for scenario in chosen for link in scenario.links]
    return [
        Run(scenario, link, who, turn)
        for scenario, link, rivals in cells
        for turn in range(repeat)
        for who in (STREAMHOP, *(peer for peer in rivals if peer in wanted_peers))
    ]


def _choose(names: Sequence[str]) -> list[Scenario]:
    if not names:
        return list(SCENARIOS)
    for name in names:
        if not any(_named(scenario, name) for scenario in SCENARIOS):
            raise ChoiceError(f"there is no scenario {name!r}: {', '.join(BY_NAME)}")
    return [scenario for scenario in SCENARIOS if any(_named(scenario, name) for name in names)]


def _named(scenario: Scenario, name: str) -> bool:
    return scenario.name == name or (name not in BY_NAME and scenario.family.value == name)
