"""What a lab left behind, found by names and by namespaces rather than by what was written down."""

from __future__ import annotations

import os
from pathlib import Path

from .cgroups import cgroup_processes, kill_cgroups, lab_cgroups, remove_cgroups
from .errors import LabError
from .namespaces import mount_points, network_identity
from .processes import ProcessId, all_pids
from .settings import NETNS_DIR, Settings, netns_prefix, settings
from .state import Store


def lab_networks(lab: str) -> list[Path]:
    """Network namespaces of a lab."""
    return sorted(NETNS_DIR.glob(netns_prefix(lab) + "*"))


def _cgroup_prefix(lab: str) -> str:
    return f"hoplab.{lab}."


def _cgroup_names(lab: str) -> set[str]:
    """One name a host, however many hierarchies it is in."""
    return {path.name for path in lab_cgroups(_cgroup_prefix(lab))}


def lab_processes(where: Settings, lab: str) -> list[ProcessId]:
    """Processes of a lab: whoever is in its network namespaces or its cgroups, and whoever its state names."""
    identities = {identity for path in lab_networks(lab) if (identity := network_identity(path)) is not None}
    confined = {pid for cgroup in lab_cgroups(_cgroup_prefix(lab)) for pid in cgroup_processes(cgroup)}
    found = set()
    for pid in all_pids():
        if pid == os.getpid():
            continue  # this program may have been started from inside a host
        try:
            process = ProcessId.of(pid)
        except ProcessLookupError:
            continue
        inside = pid in confined or network_identity(Path(f"/proc/{pid}/ns/net")) in identities
        if inside and process.alive():
            found.add(process)
    try:
        state = Store(where).load(lab)
    except LabError:
        return sorted(found, key=lambda process: process.pid)
    written = [*(host.init for host in state.hosts), *(link.relay for link in state.links)]
    found |= {process for process in written if process is not None and process.alive()}
    return sorted(found, key=lambda process: process.pid)


def kill_strays(where: Settings, lab: str) -> None:
    """Kill every process of a lab and remove its cgroups.

    :raises WaitError: something does not die.
    """
    # The init of each host takes the rest with it, and is the oldest of them. Killing may reveal nothing new,
    # but a program that was being started meanwhile does appear: look again until there is none.
    for _ in range(10):
        processes = lab_processes(where, lab)
        if not processes:
            break
        for process in processes:
            process.kill(wait=False)
        # What is frozen dies only when it is let go, and an init is not gone before all its processes are.
        for name in _cgroup_names(lab):
            kill_cgroups(name)
        for process in processes:
            process.kill()
    for name in _cgroup_names(lab):
        remove_cgroups(name)


def residue(lab: str) -> list[str]:
    """What is left of a lab that should be gone, one line each; empty if nothing is."""
    where = settings()
    left = [f"process {process.pid}" for process in lab_processes(where, lab)]
    left += [f"network namespace {path.name}" for path in lab_networks(lab)]
    left += [f"cgroup {path}" for path in lab_cgroups(_cgroup_prefix(lab))]
    places = [where.run / lab, where.data / lab]
    left += [f"directory {path}" for path in places if path.exists()]
    for point in mount_points():
        if netns_prefix(lab) in str(point) or any(point.is_relative_to(place.resolve()) for place in places):
            left.append(f"mount {point}")
    return left


def labs_with_residue() -> list[str]:
    """Names of labs of which anything is left, up or not."""
    where = settings()
    names = set(Store(where).names())
    names |= {path.name.split(".")[1] for path in NETNS_DIR.glob("hoplab.*.*")}
    names |= {path.name.split(".")[1] for path in lab_cgroups("hoplab.") if path.name.count(".") > 1}
    if where.data.is_dir():
        names |= {entry.name for entry in where.data.iterdir() if entry.is_dir()}
    return sorted(names)
