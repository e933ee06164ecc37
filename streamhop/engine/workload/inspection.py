"""From a container's first process to findings about all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from streamhop.findings import Finding, found, shown

from .files import file_sightings, sockets_to_outside
from .reading import read_workload
from .sightings import NAMED_MAX, tell
from .surroundings import surrounding_sightings
from .views import Workload


def inspect_workload(init_pid: int, known_mounts: Collection[str]) -> list[Finding]:
    """What the processes of a container do that a dump cannot take along. Takes milliseconds a hundred descriptors.

    :param init_pid: number of its first process on this host.
    :param known_mounts: mount points of the container that Docker made from files of the host.
    :returns: findings; none if there is nothing, or if the container is gone.
    """
    workload = read_workload(init_pid, known_mounts)
    outside = sockets_to_outside(workload)
    if outside:
        # What was connected or accepted meanwhile is not there any more, or is held by somebody now.
        outside &= sockets_to_outside(read_workload(init_pid, known_mounts))
    return list(findings_of(workload, outside))


def findings_of(workload: Workload, outside: Collection[int]) -> Iterator[Finding]:
    """The same of what was read; pure.

    :param outside: sockets that are connected to somebody outside.
    """
    yield from tell(file_sightings(workload, outside))
    yield from tell(surrounding_sightings(workload))
    if workload.beside:
        first, more = workload.beside[:NAMED_MAX], len(workload.beside) - NAMED_MAX
        names = ", ".join(f"{process.pid} ({shown(process.name)})" for process in first)
        names += f" and {more} more" if more > 0 else ""
        yield found(
            "workload.exec",
            f"started beside the container's first process (docker exec), not moved with it: process {names}",
            "wait for its end if that matters; a health check is made anew at the target",
        )
    if workload.unseen:
        yield found(
            "workload.unseen",
            f"not everything could be looked at: {'; '.join(map(shown, workload.unseen[:NAMED_MAX]))}",
            "the daemon must be root with all capabilities, see capabilities(7): CAP_SYS_PTRACE, CAP_SYS_ADMIN",
        )
