"""What the sink heard: reports (host, life, n) in the order in which they came, and what is wrong with them. Pure.

A *life* is one start of the counter from its first instruction; a moved container goes on with the life it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Report:
    """One report; ``host`` is told by the address that it came from."""

    at: float
    host: str
    life: str
    n: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Reports of one life at one host with none of another in between."""

    host: str
    life: str


def stretches(reports: Iterable[Report]) -> list[Stretch]:
    """Who reported, in order."""
    found: list[Stretch] = []
    for report in reports:
        stretch = Stretch(report.host, report.life)
        if not found or found[-1] != stretch:
            found.append(stretch)
    return found


def complaints(reports: Sequence[Report], source: str) -> list[str]:
    """What shows that more than one copy ran, or that one ran from an image that was spent.

    Nothing of a life comes after something of a later life; once another host than ``source`` reported, ``source``
    never does again; n only grows.
    """
    found: list[str] = []
    newest: dict[str, int] = {}
    for report in reports:
        if report.n <= newest.get(report.life, 0):
            found.append(f"{report.host} reported {report.n} of life {report.life} after {newest[report.life]}")
            break
        newest[report.life] = report.n
    order = stretches(reports)
    replaced: set[str] = set()
    left_source = False
    for before, after in pairwise(order):
        left_source = left_source or before.host != source
        if after.life != before.life:
            replaced.add(before.life)
        if after.life in replaced:
            found.append(f"life {after.life} reported from {after.host} after a later life had from {before.host}")
        if left_source and after.host == source:
            found.append(f"{source} reported after {before.host} had")
    return found


def reported_between(reports: Iterable[Report], begin: float, end: float) -> set[Stretch]:
    """Who reported in a span of time."""
    return {Stretch(report.host, report.life) for report in reports if begin <= report.at <= end}
