"""The cgroups that a host's containers leave behind, in version 1, version 2 or both."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .processes import wait_for

CGROUP_MOUNT = Path("/sys/fs/cgroup")


def hierarchies() -> Iterator[Path]:
    """The root of every mounted hierarchy."""
    if (CGROUP_MOUNT / "cgroup.controllers").exists():
        yield CGROUP_MOUNT
        return
    if CGROUP_MOUNT.is_dir():
        yield from (entry for entry in CGROUP_MOUNT.iterdir() if entry.is_dir() and not entry.is_symlink())


def lab_cgroups(prefix: str) -> list[Path]:
    """Cgroups whose names begin with ``prefix``, in all hierarchies."""
    return sorted(entry for root in hierarchies() for entry in root.glob(prefix + "*") if entry.is_dir())


def cgroup_processes(top: Path) -> set[int]:
    """Processes in the cgroup ``top`` and below it."""
    found: set[int] = set()
    for directory, _, _ in os.walk(top):
        # A cgroup may go away under us; one of version 2 that is threaded says no. Its root names all of it.
        with suppress(OSError):
            found |= {int(pid) for pid in (Path(directory) / "cgroup.procs").read_text().split()}
    return found - {0}  # how the kernel writes a process that has no number in our PID namespace


def kill_cgroups(parent: str) -> None:
    """SIGKILL every process of the cgroup ``parent`` and below it, frozen ones too, in all hierarchies.

    Does not wait: :func:`remove_cgroups` does.
    """
    tops = [root / parent.lstrip("/") for root in hierarchies()]
    for top in tops:
        try:
            (top / "cgroup.kill").write_text("1")
        except OSError:  # version 1, or a kernel before 5.14
            for pid in cgroup_processes(top):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    for top in tops:
        _thaw(top)


def _thaw(top: Path) -> None:
    """Let go of what the freezer of version 1 holds: unlike that of version 2 it holds a killed process too."""
    for directory, _, _ in os.walk(top):
        with suppress(OSError):
            (Path(directory) / "freezer.state").write_text("THAWED")


def remove_cgroups(parent: str) -> None:
    """Remove the cgroup ``parent`` and all below it, in all hierarchies; its processes must be dead.

    :raises WaitError: the kernel still counts a process in.
    """
    for root in hierarchies():
        top = root / parent.lstrip("/")
        if top.is_dir():
            # The last task of a cgroup leaves it a moment after it is dead.
            wait_for(lambda top=top: _try_to_remove(top), f"the cgroup {top} empties", 10.0)  # type: ignore[misc]


def _try_to_remove(top: Path) -> bool:
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            Path(directory).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
