"""From a container's first process to findings about all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from streamhop.findings import Finding, found, shown

from .files import file_sightings
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
    return list(findings_of(read_workload(init_pid, known_mounts)))


def findings_of(workload: Workload) -> Iterator[Finding]:
    """The same of what was read; pure."""
    yield from tell(file_sightings(workload))
    yield from tell(surrounding_sightings(workload))
    if workload.beside:
        first, more = workload.beside[:NAMED_MAX], len(workload.beside) - NAMED_MAX
        names = ", ".join(map(shown, first)) + (f" and {more} more" if more > 0 else "")
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
