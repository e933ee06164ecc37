"""From what was seen of a run to the judgement on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .cells import End, Fault, Step, allowed_ends
from .inventory import Inventory, residue
from .reports import Report, complaints, reported_between

QUIET_S = 0.5
"""How long nobody may have reported when a user is told that nobody runs."""


@dataclass(frozen=True, slots=True)
class Said:
    """What ``streamhop migrate`` told the user.

    :param exit_code: negative if a signal ended it.
    :param runs_at: ``source``, ``target``, ``nowhere``...; empty if it could not say.
    :param at: when it ended.
    """

    exit_code: int
    runs_at: str
    at: float


@dataclass(frozen=True, slots=True)
class Observed:
    """All that was seen of one run."""

    fault: Fault
    step: Step | None
    """Where the fault hit; ``None``: the move was not under way then."""

    source: str
    target: str
    policy: str
    image: str
    reports: Sequence[Report]
    first_life: str
    said: Said
    before: Mapping[str, Inventory]
    after: Mapping[str, Inventory]
    ended_at: float
    """When the last inventories were taken; the counters were heard for :data:`QUIET_S` before."""

    unsettled: Sequence[str] = field(default_factory=tuple)
    """Moves that a journal still has something to do about."""

    lost: bool = False
    """The target went down as the container started and waits for an operator's word, and so does the source."""


def end_of(seen: Observed) -> End:
    """Who runs in the end, by Docker and by the sink."""
    states = {host: inventory.counter() for host, inventory in seen.after.items()}
    heard = reported_between(seen.reports, seen.ended_at - QUIET_S, seen.ended_at)
    holders = [host for host, state in states.items() if state is not None]
    running = {stretch.host for stretch in heard}
    if len(running) > 1 or sum(state == "running" for state in states.values()) > 1:
        return End.TWO
    for host in running:
        cold = all(stretch.life != seen.first_life for stretch in heard)
        if host == seen.source:
            return End.COLD_SOURCE if cold else End.SOURCE
        return End.COLD_TARGET if cold else End.TARGET
    if states[seen.source] == "paused":
        return End.FROZEN_SOURCE
    if not holders:
        return End.GONE
    return End.ENDED_SOURCE if seen.source in holders else End.ENDED_TARGET


_AT_SOURCE = frozenset({End.SOURCE, End.COLD_SOURCE, End.ENDED_SOURCE})
_AT_TARGET = frozenset({End.TARGET, End.COLD_TARGET, End.ENDED_TARGET})


def holder_of(seen: Observed, end: End) -> str | None:
    """The host that should have the container."""
    if end in _AT_TARGET:
        return seen.target
    return None if end in (End.GONE, End.TWO) else seen.source


def judge(seen: Observed) -> tuple[End, list[str], list[str]]:
    """How it ended, what was left behind, and everything that breaks a promise."""
    end = end_of(seen)
    # In doubt all is kept, on purpose, for an operator to decide; whether that may be so is the matrix's matter.
    left = (
        []
        if end is End.FROZEN_SOURCE
        else residue(seen.before, seen.after, holder_of(seen, end), seen.policy, seen.image)
    )
    broken = complaints(seen.reports, seen.source)
    if seen.step is not None and end not in allowed_ends(seen.fault, seen.step):
        broken.append(f"it is {end.value}, which is not where {seen.fault.value}:{int(seen.step)} may end")
    if end.value.startswith("ended") and seen.policy != "no" and seen.step is not None:
        broken += _stays_down(seen, end)
    broken += _words(seen, end)
    broken += [f"not settled: {move}" for move in seen.unsettled if not (end is End.FROZEN_SOURCE and seen.lost)]
    return end, left, broken


def _stays_down(seen: Observed, end: End) -> list[str]:
    """A container that its owner wants up has to come up again after a crash."""
    if seen.policy == "unless-stopped" and seen.fault in (Fault.SOURCE_DOCKERD, Fault.TARGET_DOCKERD):
        # A dockerd without live-restore takes what it kills when it starts for stopped by its owner, moved or not.
        return []
    return [f"it is {end.value} although its restart policy is {seen.policy}"]


def _words(seen: Observed, end: End) -> list[str]:
    """Whether the exit code told the truth."""
    said = seen.said
    daemon_died = seen.fault in (Fault.SOURCE_DAEMON, Fault.SOURCE_HOST)
    if not said.runs_at:
        return [] if daemon_died else [f"exit code {said.exit_code} says nothing about where it runs"]
    if said.runs_at == "target" and end not in _AT_TARGET:
        return [f"the user was told that it moved, and it is {end.value}"]
    if said.runs_at in ("source", "frozen", "paused", "ended") and end not in _AT_SOURCE:
        return [f"the user was told that it is at the source, and it is {end.value}"]
    if said.runs_at == "nowhere":
        heard = reported_between(seen.reports, said.at - QUIET_S, said.at)
        at_source = {stretch for stretch in heard if stretch.host == seen.source}
        return [f"the user was told that nobody runs while {seen.source} reported"] if at_source else []
    return []
