"""What runs in a scenario's container and how its client asks it. Data and small rules; nothing is started here."""

from __future__ import annotations

from dataclasses import dataclass

from hoplab.services import Service

from . import images
from .scenarios import Family, Scenario

PAGE_BYTES = 4096
RECORD_BYTES = 1000
"""A record of :mod:`hopbench.inside.client` in redis, with what redis keeps about it."""

PGBENCH_SCALE = 5
"""About 75 MB of tables."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A container and its client.

    :param client: kind of :mod:`hopbench.inside.client`.
    :param asked: further arguments of that.
    :param records: how many records to fill in before (redis).
    :param pgbench: whether pgbench runs against it.
    """

    service: Service
    client: str
    asked: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    records: int = 0
    pgbench: bool = False

    @property
    def port(self) -> int:
        """Where it serves."""
        return self.service.port


def workload_of(scenario: Scenario) -> Workload:
    """The workload of a scenario that moves a container."""
    if scenario.family is Family.BUSYBOX:
        return Workload(images.BUSYBOX, "http", ("--pause", "0.005"))
    if scenario.family is Family.VISION:
        return Workload(images.VISION, "http", ("--path", "/", "--pause", "0.1"))
    if scenario.family is Family.VISION_QUIET:
        return Workload(images.VISION, "http", ("--path", "/alive", "--pause", "0.005"))
    if scenario.family is Family.REDIS_WRITE:
        records = scenario.size_mb * 1_000_000 // RECORD_BYTES
        per_s = scenario.touched_mb_per_s * 1e6 / PAGE_BYTES
        return Workload(
            images.REDIS, "redis-write", ("--records", str(records), "--per-s", f"{per_s:.3f}"), records=records
        )
    if scenario.family is Family.POSTGRES:
        return Workload(images.POSTGRES, "postgres", pgbench=True)
    if scenario.family is Family.IDLE:
        environment = (("COUNTER_WRITERS", "0"), ("COUNTER_BALLAST_MIB", str(scenario.size_mb)))
        return Workload(images.COUNTER, "counter", environment=environment)
    raise ValueError(f"{scenario.name} moves no container")
