"""Sessions, tracers, namespaces and mounts of a container's processes.

Source: CRIU 4.2, ``criu/cr-dump.c`` (dump_one_task), ``criu/namespaces.c`` (generate_ns_id), ``criu/filesystems.c``,
``criu/mount.c`` (validate_mounts).
"""

from __future__ import annotations

from collections.abc import Iterator

from streamhop.findings import shown

from .proc_text import MountLine
from .sightings import Sighting
from .views import Process, Workload

_NESTED_REFUSED = {"pid": "PID", "user": "user", "uts": "UTS", "ipc": "IPC", "time": "time"}
"""Nested mount and network namespaces are dumped."""

_CRIUS_FILE_SYSTEMS = """
    proc sysfs devtmpfs binfmt_misc tmpfs devpts simfs pstore mqueue securityfs fusectl debugfs tracefs cgroup cgroup2
    overlay autofs
"""
_DUMPED_FILE_SYSTEMS = frozenset(_CRIUS_FILE_SYSTEMS.split())
"""Of CRIU's list without aufs, which is no storage driver of today's Docker, and fuse, which it has to say no."""


def surrounding_sightings(workload: Workload) -> Iterator[Sighting]:
    """What is in the way around the processes."""
    if not workload.processes:
        return
    first = workload.processes[0]
    told_mounts: set[int | None] = set()
    for process in workload.processes:
        yield from _of_tracer(process)
        yield from _of_session(process)
        yield from _of_namespaces(process, first)
        namespace = process.namespaces.get("mnt")
        if namespace not in told_mounts:
            told_mounts.add(namespace)
            yield from _of_mounts(process, workload.known_mounts)


def _of_tracer(process: Process) -> Iterator[Sighting]:
    if process.tracer:
        yield Sighting(
            "workload.traced",
            process,
            f"traced by process {process.tracer} of this host",
            "end the tracer (strace, gdb, a profiler) first",
        )


def _of_session(process: Process) -> Iterator[Sighting]:
    if process.session == 0:
        yield Sighting(
            "workload.session",
            process,
            "a session that is led from outside of the container",
            "end what was started in the container by nsenter or the like; docker exec is no such thing",
        )


def _of_namespaces(process: Process, first: Process) -> Iterator[Sighting]:
    for kind, name in _NESTED_REFUSED.items():
        own, outer = process.namespaces.get(kind), first.namespaces.get(kind)
        if own is not None and outer is not None and own != outer:
            yield Sighting(
                "workload.namespace",
                process,
                f"a {name} namespace of its own within the container",
                "run what makes containers or sandboxes of its own (browsers, runc, unshare) without them",
            )


def _of_mounts(process: Process, known: frozenset[str]) -> Iterator[Sighting]:
    for mount in process.mounts:
        if mount.kind not in _DUMPED_FILE_SYSTEMS and not _is_known(mount, known):
            yield Sighting(
                "workload.mount",
                process,
                f"the mount of type {shown(mount.kind)} at {shown(mount.place)}",
                "unmount it in the container, or run the container without it",
            )


def _is_known(mount: MountLine, known: frozenset[str]) -> bool:
    return mount.place in known or mount.place == "/"
