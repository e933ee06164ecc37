"""The processes of a container, as the host sees them. Standard library only: the OCI runtime uses it too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """One process, by its number on the host and by its number in the container."""

    host_pid: int
    ns_pid: int
    """What CRIU names the process's images after."""


def container_pids(init_pid: int) -> list[ProcessRef]:
    """Every process (not thread) of the container whose first process is ``init_pid``; it may be frozen.

    The descendants of the first process, which are what CRIU dumps, and whatever else is in its PID namespace
    (``docker exec``). Processes that end meanwhile are left out; an empty list means the container is gone.
    """
    depth = _depth(init_pid)
    refs = (_reference(pid, depth) for pid in _members(init_pid))
    return sorted((ref for ref in refs if ref is not None), key=lambda ref: ref.ns_pid)


def resident_bytes(processes: Iterable[ProcessRef]) -> int:
    """Memory that the processes hold, in bytes: shared pages count once for each, file-backed ones not at all."""
    return sum(_resident_bytes(process.host_pid) for process in processes)


def parent(pid: int) -> int | None:
    """The process that ``pid`` is a child of, None if it is gone."""
    try:
        status = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:")), None)


def kill_all(init_pid: int, number: signal.Signals) -> None:
    """Send a signal to every process of the container. They must be frozen or stopped, so that none is missed.

    :raises PermissionError: ``init_pid`` has no PID namespace of its own: its processes are the host's.
    """
    if _namespace(init_pid) in (None, _namespace(os.getpid())):
        raise PermissionError(f"process {init_pid} is gone or has no PID namespace of its own")
    for pid in _members(init_pid):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def descendants(pid: int) -> Iterator[int]:
    """Yield ``pid`` and all processes below it. They should not fork meanwhile. Needs CONFIG_PROC_CHILDREN, as CRIU."""
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        yield current
        try:
            for thread in (PROC / str(current) / "task").iterdir():
                children = (thread / "children").read_text(encoding="ascii")
                waiting.extend(int(child) for child in children.split())
        except (FileNotFoundError, ProcessLookupError):
            continue


def _members(init_pid: int) -> list[int]:
    found = dict.fromkeys(descendants(init_pid))
    namespace = _namespace(init_pid)
    if namespace is None:
        return []
    if namespace != _namespace(os.getpid()):
        others = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
        found.update(dict.fromkeys(pid for pid in others if pid not in found and _is_in(pid, namespace)))
    return list(found)


def _is_in(pid: int, namespace: int) -> bool:
    """Whether a process is in a PID namespace. One that may not be looked at has more rights than a container's."""
    try:
        return _namespace(pid) == namespace
    except PermissionError:
        return False


def _namespace(pid: int) -> int | None:
    """The inode number of the PID namespace, None if the process is gone."""
    try:
        return (PROC / str(pid) / "ns" / "pid").stat().st_ino
    except (FileNotFoundError, ProcessLookupError):
        return None


def _reference(pid: int, depth: int) -> ProcessRef | None:
    try:
        numbers = _numbers((PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace"))
        return ProcessRef(pid, numbers[depth - 1]) if 0 < depth <= len(numbers) else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def _depth(pid: int) -> int:
    """How many PID namespaces down, as seen from ours, a process lives; 0 if it is gone."""
    try:
        return len(_numbers((PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _numbers(status: str) -> list[int]:
    """A process's numbers, from our PID namespace inwards; source: the NSpid line of proc_pid_status(5)."""
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            return [int(number) for number in line.split()[1:]]
    return []


def _resident_bytes(pid: int) -> int:
    """Anonymous and shared memory resident, from proc_pid_status(5): what a dump holds; file-backed pages are not."""
    try:
        status = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    values = {}
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssShmem", "VmSwap"):
            values[name] = int(value.split()[0]) * 1024
    return sum(values.values())
