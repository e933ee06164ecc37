"""The cgroups that a host's containers leave behind, in version 1, version 2 or both."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
