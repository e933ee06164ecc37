"""What was seen in one process, and how it is told when it was seen in many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamhop.findings import Finding, found, shown

from .views import Process

NAMED_MAX = 3
"""Processes, and places in them, that are named; of the others it is told how many there are."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One thing seen in one process."""

    kind: str
    """Of finding."""

    process: Process
    what: str
    """The same words, seen in another process, are the same finding."""

    fix: str
    where: str = ""
    """What differs from process to process, such as which descriptor it is."""


def tell(sightings: Iterable[Sighting]) -> Iterator[Finding]:
    """One finding for each thing, whichever number of processes have it, in the order of first sight."""
    together: dict[tuple[str, str, str], list[Sighting]] = {}
    for sighting in sightings:
        together.setdefault((sighting.kind, sighting.what, sighting.fix), []).append(sighting)
    for (kind, what, fix), seen in together.items():
        processes = list(dict.fromkeys(f"{one.process.pid} ({shown(one.process.name)})" for one in seen))
        places = list(dict.fromkeys(one.where for one in seen if one.where))
        in_which = f"process{'es' if len(processes) > 1 else ''} {_first(processes)}"
        yield found(kind, f"{what}, in {in_which}{f': {_first(places)}' if places else ''}", fix)


def _first(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return f"{', '.join(names[:NAMED_MAX])} and {more} more" if more > 0 else ", ".join(names)
