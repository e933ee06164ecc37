"""A container's CPU quota, lowered for the time of pre-copy, and given back however that ends.

The quota that was there before is in the journal before anything is changed. There is a debt from then on, which the
move itself pays, or whoever settles what it left: the daemon, its guard, the next daemon. Each may pay it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamhop.engine.cpu_quota import QUOTA_US_MIN, CpuCgroup, CpuQuotas

from .converging import steps


def owe(quotas: CpuQuotas, cgroup: CpuCgroup, used_cpus: float) -> dict[str, Any]:
    """What has to be known to give the quota of a container back, for the journal.

    :param used_cpus: how much CPU the container uses. What is taken from it is a share of that, or of its own quota if
        that is less: a share of what it does not use would change nothing.
    :raises OSError: the quota cannot be read.
    """
    before = quotas.read(cgroup.directory)
    base_us = max(QUOTA_US_MIN, round(used_cpus * before.period_us))
    if before.quota_us is not None:
        base_us = min(base_us, before.quota_us)
    return {"directory": str(cgroup.directory), "quota_us": before.quota_us, "base_us": base_us}


def lower(quotas: CpuQuotas, debt: Mapping[str, Any], percent: int) -> None:
    """Take ``percent``, one of :func:`.converging.steps`, of its CPU from a container. The debt must be on disk.

    :raises OSError: the quota cannot be written; it is as it was.
    """
    quotas.write(Path(debt["directory"]), _lowered_us(debt["base_us"], percent))


def give_back(quotas: CpuQuotas, debt: Mapping[str, Any]) -> None:
    """Give a container the quota back that it had.

    A quota that no step would have set is somebody else's: the container was started anew, or its owner has changed it
    since. It stays.

    :raises OSError: the quota cannot be read or written; repeat it.
    """
    directory = Path(debt["directory"])
    ours = {_lowered_us(debt["base_us"], percent) for percent in steps()}
    try:
        if quotas.read(directory).quota_us in ours:
            quotas.write(directory, debt["quota_us"])
    except FileNotFoundError:
        # The container has ended, and its cgroup with it.
        return


def _lowered_us(base_us: int, percent: int) -> int:
    return max(QUOTA_US_MIN, base_us * (100 - percent) // 100)
