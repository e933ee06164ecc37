"""The CPU quota of a running container: read and written where the kernel has it, in the container's cgroup.

Docker's record of the container is not touched: what is written here is gone with the cgroup, at the latest when the
host goes down. Formats: Documentation/scheduler/sched-bwc.rst, Documentation/admin-guide/cgroup-v1/cpuacct.rst,
Documentation/admin-guide/cgroup-v2.rst, cgroups(7).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc")

QUOTA_US_MIN = 1000
"""The kernel takes no smaller one: min_cfs_quota_period, kernel/sched/core.c."""

_LIMIT_V2 = "cpu.max"
_LIMIT_V1 = "cpu.cfs_quota_us"


class CpuQuotaError(OSError):
    """The container's CPU quota cannot be read or written here."""


@dataclass(frozen=True, slots=True)
class CpuCgroup:
    """Where a container's quota and its use of CPU are."""

    directory: Path
    accounting: Path
    """The same directory, unless version 1 has the controllers in hierarchies of their own."""

    freezer: Path
    """Likewise."""


@dataclass(frozen=True, slots=True)
class CpuQuota:
    """How long all processes of a cgroup together may run in each period."""

    quota_us: int | None
    """None: as long as there are CPUs."""

    period_us: int


class CpuQuotas:
    """The quotas of the containers of this host.

    :param proc: where the kernel shows processes.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc

    def find(self, container: str, init_pid: int) -> CpuCgroup:
        """The cgroup of a container.

        It is the highest one above the container's first process that is called after the container. Cgroups below
        it, which an init inside may have made, are subject to its quota.

        :param container: its whole ID.
        :raises CpuQuotaError: there is none, or its quota cannot be written.
        :raises OSError: the process is gone.
        """
        groups = (self._proc / str(init_pid) / "cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        mounts = (self._proc / "self" / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        places = {name: _named_after(path, container) for name, path in _memberships(groups)}
        directory = _directory(mounts, places, "cpu")
        found = CpuCgroup(directory, _directory(mounts, places, "cpuacct"), _directory(mounts, places, "freezer"))
        self.read(directory)
        self.used_s(found)
        limit = _limit(directory)
        if not os.access(limit, os.W_OK):
            raise CpuQuotaError(f"{limit} cannot be written")
        return found

    def read(self, directory: Path) -> CpuQuota:
        """The quota of a cgroup.

        :raises CpuQuotaError: what is there is no quota.
        :raises FileNotFoundError: the cgroup is gone.
        """
        limit = _limit(directory)
        if limit.name == _LIMIT_V2:
            quota, _, period = _text(limit).partition(" ")
        else:
            quota, period = _text(limit), _text(directory / "cpu.cfs_period_us")
        try:
            return CpuQuota(None if quota in ("max", "-1") else int(quota), int(period))
        except ValueError:
            raise CpuQuotaError(f"{limit} holds {quota!r} and {period!r}") from None

    def write(self, directory: Path, quota_us: int | None) -> None:
        """Set the quota of a cgroup; its period stays.

        :raises OSError: the kernel refuses: a cgroup below it has more (version 1), or a burst is larger than that.
        :raises FileNotFoundError: the cgroup is gone.
        """
        limit = _limit(directory)
        nothing = "max" if limit.name == _LIMIT_V2 else "-1"
        try:
            limit.write_text(nothing if quota_us is None else str(quota_us), encoding="ascii")
        except OSError as error:
            raise _gone(error, limit) from error

    def used_s(self, cgroup: CpuCgroup) -> float:
        """Seconds of CPU that the container has used since it was started.

        :raises CpuQuotaError: the kernel does not count them.
        :raises FileNotFoundError: the cgroup is gone.
        """
        if _limit(cgroup.directory).name == _LIMIT_V1:
            return int(_text(cgroup.accounting / "cpuacct.usage")) / 1e9
        statistics = dict(line.split() for line in _text(cgroup.accounting / "cpu.stat").splitlines())
        try:
            return int(statistics["usage_usec"]) / 1e6
        except KeyError:
            raise CpuQuotaError(f"{cgroup.accounting / 'cpu.stat'} does not say how much CPU was used") from None

    def freezing(self, cgroup: CpuCgroup) -> bool:
        """Whether somebody has begun to freeze the container, and it cannot do much any more.

        :raises FileNotFoundError: the cgroup is gone.
        """
        if _limit(cgroup.directory).name == _LIMIT_V1:
            return _text(cgroup.freezer / "freezer.state") != "THAWED"
        return _text(cgroup.freezer / "cgroup.freeze") == "1"


def _limit(directory: Path) -> Path:
    """The file that holds a cgroup's quota; the one of version 1 where there is neither."""
    unified = directory / _LIMIT_V2
    return unified if unified.exists() else directory / _LIMIT_V1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise _gone(error, path) from error


def _gone(error: OSError, path: Path) -> OSError:
    """A cgroup that is removed while one of its files is open says that there is no such device."""
    if error.errno == errno.ENODEV:
        return FileNotFoundError(errno.ENOENT, "the cgroup is gone", str(path))
    return error


def _memberships(groups: str) -> Iterator[tuple[str, str]]:
    """Controller and path of each cgroup of a process; version 2 has the controller "". See cgroups(7)."""
    for line in groups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for name in controllers.split(","):
            yield name, path


def _named_after(path: str, container: str) -> PurePosixPath | None:
    """``/docker/ID``, ``/system.slice/docker-ID.scope``: as much of ``path`` as leads there."""
    place = PurePosixPath(path)
    for number, name in enumerate(place.parts):
        if container in name:
            return PurePosixPath(*place.parts[: number + 1])
    return None


def _directory(mounts: str, places: dict[str, PurePosixPath | None], controller: str) -> Path:
    """Where a controller's cgroup of the container is mounted, in version 1 if the controller is there, else in 2.

    :raises CpuQuotaError: nowhere.
    """
    unified = controller not in places
    place = places.get("" if unified else controller)
    if place is None:
        raise CpuQuotaError("no cgroup is called after the container")
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, *details) = left.split(" "), right.split(" ")
        options = details[-1].split(",")
        if kind == ("cgroup2" if unified else "cgroup") and (unified or controller in options):
            root, mounted = PurePosixPath(fields[3]), Path(fields[4])
            if place.is_relative_to(root):
                return mounted / place.relative_to(root)
    raise CpuQuotaError(f"the cgroup {place} is mounted nowhere")
