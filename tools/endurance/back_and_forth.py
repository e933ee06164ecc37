"""Moves a counter back and forth, takes inventories meanwhile, compares."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hoplab import Host, LabError
from hoplab.edge import EdgeDaemon, ProbeClient
from hoplab.inventory import take
from hoplab.processes import wait_for

from .growth import TOLERANCES, growths

CONTAINER = "counter"
PORT = 8080
EARLY_SHARE = 0.2
"""Share of the moves after which growth counts: what is made once has been made by then."""

INVENTORIES = 10
"""How many inventories there are on the way, for a look at the course of things."""

OPTIONS = ("--env", "COUNTER_WRITERS=0", "--env", "COUNTER_BALLAST_MIB=8", "--restart", "unless-stopped")
PROBE_PAUSE_S = "0.05"
QUIET_S_MAX = 30.0


@dataclass
class Endurance:
    """What the moves showed."""

    moves: int
    early_at: int
    seconds: list[float] = field(default_factory=list)
    downtimes_s: list[float] = field(default_factory=list)
    course: dict[int, dict[str, dict[str, int]]] = field(default_factory=dict)
    """Gauges by number of moves made and name of the host."""
    client: dict[str, Any] = field(default_factory=dict)

    @property
    def grown(self) -> list[str]:
        """What grew more than it may, one line each."""
        early, late = self.course[self.early_at], self.course[self.moves]
        return [
            f"{host}: {growth}"
            for host in early
            for growth in growths(early[host], late[host], self.moves - self.early_at)
        ]

    @property
    def holds(self) -> bool:
        """Whether nothing grew and nothing was lost."""
        return not self.grown and self.client["lost"] == 0

    def as_json(self) -> dict[str, Any]:
        """What ``endurance.json`` holds."""
        return {
            "moves": self.moves,
            "holds": self.holds,
            "grown": self.grown,
            "compared": f"after {self.early_at} moves with after {self.moves}",
            "tolerances": {
                name: {"by": tolerance.by, "a_move": tolerance.a_move, "at_most": tolerance.at_most}
                for name, tolerance in TOLERANCES.items()
            },
            "seconds_a_move": spread(self.seconds),
            "downtime_s": spread(self.downtimes_s),
            "client": {name: self.client[name] for name in ("acknowledged", "lost", "longest_gap_s")},
            "course": self.course,
        }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    figures = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, 3) for name, value in figures.items()}


def quiet(hosts: Mapping[str, Host]) -> dict[str, dict[str, int]]:
    """Gauges of every host once no move is under way any more.

    :raises WaitError: something of a move stays.
    """
    gauges: dict[str, dict[str, int]] = {}

    def at_rest() -> bool:
        for name, host in hosts.items():
            found = take(host)
            if found["things"]["files"] or found["things"]["processes"]:
                return False
            gauges[name] = found["gauges"]
        return True

    wait_for(at_rest, "the hosts are at rest", QUIET_S_MAX)
    return gauges


def endure(
    home: EdgeDaemon, away: EdgeDaemon, client: Host, moves: int, say: Callable[[str], None] = lambda _: None
) -> Endurance:
    """Move a new counter from ``home`` to ``away`` and back until it has moved ``moves`` times.

    :param moves: even, so that inventories find the container where the first one found it.
    :raises LabError: a move failed; the text holds the ends of both logs.
    """
    early_at = round(moves * EARLY_SHARE / 2) * 2
    if moves % 2 or not 0 < early_at < moves:
        raise LabError(f"{moves} moves: it must be an even number of at least 6")
    every = max(2, round(moves / INVENTORIES / 2) * 2)
    result = Endurance(moves, early_at)
    hosts = {edge.host.name: edge.host for edge in (home, away)}
    home.host.service("python", name=CONTAINER, options=OPTIONS)
    addresses = [f"{name}:{PORT}" for name in hosts]
    with ProbeClient(client, "counter", addresses, "--pause", PROBE_PAUSE_S) as probe:
        source, target = home, away
        for number in range(1, moves + 1):
            began = time.monotonic()
            moved = source.migrate(CONTAINER, target.host.name)
            if moved.exit_code != 0:
                logs = "\n".join(edge.host.name + ": " + edge.log()[-2000:] for edge in (source, target))
                raise LabError(f"move {number} ended with {moved.exit_code}: {moved.remarks}\n{logs}")
            result.seconds.append(time.monotonic() - began)
            result.downtimes_s.append(float(moved.report["downtime_s"]))
            source, target = target, source
            if number in (early_at, moves) or number % every == 0:
                result.course[number] = quiet(hosts)
                say(f"{number} moves, {statistics.median(result.seconds):.2f} s each; {brief(result.course[number])}")
        result.client = probe.stop()
    home.host.docker("rm", "--force", CONTAINER)
    return result


def brief(gauges: Mapping[str, Mapping[str, int]]) -> str:
    """The daemons' memory, descriptors and threads in a line."""
    return "; ".join(
        f"{name} {found['daemon.rss_bytes'] / 1e6:.1f} MB, {found['daemon.descriptors']} descriptors, "
        f"{found['daemon.threads']} threads"
        for name, found in gauges.items()
    )
