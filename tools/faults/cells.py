"""The failure matrix: what is broken, at which step of a move, and how that may end. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, IntEnum


class Step(IntEnum):
    """Where a move stands, from what both journals say."""

    PRECOPY = 0
    FROZEN = 1
    PREPARED = 2
    RELEASED = 3
    OWNED = 4
    DONE = 5


class Fault(Enum):
    """What breaks."""

    SOURCE_DAEMON = "source-daemon"
    TARGET_DAEMON = "target-daemon"
    SOURCE_DOCKERD = "source-dockerd"
    TARGET_DOCKERD = "target-dockerd"
    SOURCE_HOST = "source-host"
    TARGET_HOST = "target-host"
    LINK_THERE = "link-there"
    LINK_BACK = "link-back"
    LINK_BOTH = "link-both"
    SOURCE_DISK = "source-disk"
    TARGET_DISK = "target-disk"

    @property
    def of_link(self) -> bool:
        """Whether the hosts stay as they are."""
        return self in (Fault.LINK_THERE, Fault.LINK_BACK, Fault.LINK_BOTH)

    @property
    def of_disk(self) -> bool:
        """Whether it takes hosts whose disks can be filled up."""
        return self in (Fault.SOURCE_DISK, Fault.TARGET_DISK)


class End(Enum):
    """Who runs when everything is settled."""

    SOURCE = "source"
    TARGET = "target"
    COLD_SOURCE = "cold at source"
    COLD_TARGET = "cold at target"
    ENDED_SOURCE = "ended at source"
    ENDED_TARGET = "ended at target"
    FROZEN_SOURCE = "frozen at source"
    GONE = "gone"
    TWO = "two copies"

    @property
    def lost(self) -> bool:
        """Whether what the container had in memory is gone."""
        return self not in (End.SOURCE, End.TARGET, End.FROZEN_SOURCE)


@dataclass(frozen=True, slots=True)
class Hold:
    """A record of one side's journal at which its daemon can be made to stop.

    :param side: ``source`` or ``target``.
    :param moment: ``before`` the record is written or ``after`` it is on disk.
    """

    side: str
    moment: str
    state: str

    def __str__(self) -> str:
        return f"{self.side} {self.moment} {self.state}"


HOLDS: dict[Step, tuple[Hold, ...]] = {
    Step.PRECOPY: (Hold("source", "after", "precopy"), Hold("target", "after", "receiving")),
    Step.FROZEN: (Hold("source", "after", "freezing"), Hold("target", "before", "prepared")),
    Step.PREPARED: (Hold("target", "after", "prepared"), Hold("source", "before", "released")),
    Step.RELEASED: (Hold("source", "after", "released"), Hold("target", "before", "owned")),
    Step.OWNED: (
        Hold("target", "after", "owned"),
        Hold("target", "before", "open"),
        Hold("target", "after", "open"),
        Hold("source", "before", "done"),
    ),
    Step.DONE: (Hold("source", "after", "done"), Hold("target", "before", "done"), Hold("target", "after", "done")),
}

LOOSE_S_MAX = {Step.PRECOPY: 0.8, Step.FROZEN: 0.25}
"""Steps long enough for the fault to come while both daemons go on: how long after the record that begins the step."""

HELD_S_MAX = 0.3
"""Elsewhere one daemon stands still at its record while the other goes on; how long before the fault comes."""

LONG_OUTAGE_S = 48.0
"""Longer than a user waits before being told that a move is in doubt."""

_OUTAGE_S = {
    Fault.SOURCE_DAEMON: (0.1, 2.5),
    Fault.TARGET_DAEMON: (0.1, 2.5),
    Fault.SOURCE_DOCKERD: (0.1, 3.0),
    Fault.TARGET_DOCKERD: (0.1, 3.0),
    Fault.SOURCE_HOST: (0.2, 2.0),
    Fault.TARGET_HOST: (0.2, 2.0),
    Fault.LINK_THERE: (0.2, 5.0),
    Fault.LINK_BACK: (0.2, 5.0),
    Fault.LINK_BOTH: (0.2, 5.0),
    Fault.SOURCE_DISK: (0.5, 4.0),
    Fault.TARGET_DISK: (0.5, 4.0),
}

_LONG_EVERY = 5
_LONG = frozenset(
    (fault, step)
    for step in (Step.RELEASED, Step.OWNED)
    for fault in (Fault.LINK_THERE, Fault.LINK_BACK, Fault.LINK_BOTH, Fault.TARGET_HOST)
)
"""Cells of which some runs last until the user is told of the doubt."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One field of the matrix; its name is ``fault:step``."""

    fault: Fault
    step: Step

    def __str__(self) -> str:
        return f"{self.fault.value}:{int(self.step)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, all of it decided by its seed."""

    cell: Cell
    seed: int
    hold: Hold
    delay_s: float
    """From the hold to the fault."""

    loose: bool
    """Whether the daemon that was held goes on before the fault."""

    outage_s: float
    policy: str
    """The container's restart policy."""

    image_there: bool
    """Whether the target has the image already."""


def all_cells() -> list[Cell]:
    """Every fault at every step."""
    return [Cell(fault, step) for fault in Fault for step in Step]


def choose_cells(text: str) -> list[Cell]:
    """The cells that ``text`` names: faults, ``fault:step`` or ``:step``, comma between them; all if it is empty.

    :raises ValueError: there is no such fault or step.
    """
    chosen: list[Cell] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        fault_name, _, step_number = word.partition(":")
        faults = [Fault(fault_name)] if fault_name else list(Fault)
        steps = [Step(int(step_number))] if step_number else list(Step)
        chosen += [Cell(fault, step) for fault in faults for step in steps]
    return list(dict.fromkeys(chosen)) or all_cells()


def plan_run(cell: Cell, seed: int, index: int) -> Plan:
    """The run number ``index`` of a cell; equal for equal arguments."""
    run_seed = seed * 1_000_000 + list(Fault).index(cell.fault) * 10_000 + int(cell.step) * 1000 + index
    rng = random.Random(run_seed)  # noqa: S311 - has to be repeatable, not secret
    holds = HOLDS[cell.step]
    # Each hold has its turn before any is used again; where the turns begin is the seed's.
    hold = holds[(index + seed) % len(holds)]
    loose = cell.step in LOOSE_S_MAX and hold.moment == "after" and rng.random() < 0.7
    long_outage = (cell.fault, cell.step) in _LONG and index % _LONG_EVERY == _LONG_EVERY - 1
    return Plan(
        cell=cell,
        seed=run_seed,
        hold=hold,
        delay_s=round(rng.uniform(0.0, LOOSE_S_MAX[cell.step] if loose else HELD_S_MAX), 3),
        loose=loose,
        outage_s=LONG_OUTAGE_S if long_outage else round(rng.uniform(*_OUTAGE_S[cell.fault]), 2),
        policy=rng.choice(("no", "always", "unless-stopped")),
        image_there=rng.random() < 0.75,
    )


def step_of(source: str | None, target: str | None) -> Step | None:
    """At which step two journals' newest states are; ``None`` if the move has not begun or has been given up."""
    if source == "precopy" or (source is None and target == "receiving"):
        return Step.PRECOPY
    if source == "freezing":
        return Step.PREPARED if target == "prepared" else Step.FROZEN if target in (None, "receiving") else None
    if source == "released":
        if target in ("owned", "open", "done"):
            return Step.OWNED
        return Step.RELEASED if target == "prepared" else None
    return Step.DONE if source == "done" else None


_SOURCE_CRASH = frozenset({End.COLD_SOURCE, End.ENDED_SOURCE})
_TARGET_CRASH = frozenset({End.COLD_TARGET, End.ENDED_TARGET})
_EITHER = frozenset({End.SOURCE, End.TARGET})


def allowed_ends(fault: Fault, step: Step) -> frozenset[End]:
    """How a run may end whose fault hit at ``step``.

    A fault that heals before it is noticed lets the move go on, so more than one end is right for most; that the
    exit code tells the truth about it is another check. What ran on a host, or under a dockerd without live-restore,
    is lost when that dies, as in any crash.
    """
    match fault:
        case Fault.SOURCE_DAEMON:
            return frozenset({End.SOURCE}) if step <= Step.PREPARED else _after(step)
        case Fault.SOURCE_HOST:
            return _SOURCE_CRASH if step <= Step.PREPARED else frozenset({End.TARGET})
        case Fault.SOURCE_DOCKERD:
            if step is Step.PRECOPY:
                return _SOURCE_CRASH
            # The frozen copy dies with dockerd's restart: a target that does not start it has nothing to go back to.
            return _SOURCE_CRASH | {End.TARGET} if step < Step.OWNED else frozenset({End.TARGET})
        case Fault.TARGET_HOST:
            if step < Step.OWNED:
                return frozenset({End.SOURCE})
            # Whether it ran there is not known to anybody where the host's memory is gone: then it stays in doubt.
            return _TARGET_CRASH | ({End.SOURCE, End.FROZEN_SOURCE} if step is Step.OWNED else set())
        case Fault.TARGET_DOCKERD:
            if step < Step.RELEASED:
                return _EITHER
            return _TARGET_CRASH | ({End.SOURCE} if step < Step.DONE else set())
        case _:
            return _after(step)


def _after(step: Step) -> frozenset[End]:
    """Both hosts stay, so what was in memory does too."""
    return _EITHER if step is not Step.DONE else frozenset({End.TARGET})
