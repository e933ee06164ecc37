"""The cgroups of a host's containers, as far as their CPU quota goes. In place of :mod:`streamhop.engine.cpu_quota`."""

from __future__ import annotations

from pathlib import Path

from streamhop.engine.cpu_quota import CpuCgroup, CpuQuota, CpuQuotas

from .docker import Container, Docker

PERIOD_US = 100_000


class SimulatedCpuQuotas(CpuQuotas):
    """A container's cgroup is called after it, and is there as long as a copy of its service.

    :param faults: ``quota``: the next write is refused.
    """

    def __init__(self, docker: Docker, faults: set[str]) -> None:
        super().__init__()
        self._docker = docker
        self._faults = faults

    def find(self, container: str, init_pid: int) -> CpuCgroup:
        self._of(Path(container))
        return CpuCgroup(Path(container), Path(container), Path(container))

    def read(self, directory: Path) -> CpuQuota:
        return CpuQuota(self._of(directory).quota_us, PERIOD_US)

    def write(self, directory: Path, quota_us: int | None) -> None:
        found = self._of(directory)
        if "quota" in self._faults:
            self._faults.discard("quota")
            raise OSError(22, "Invalid argument")
        self._docker.world.trace(f"{self._docker.host}: {found.name} has the quota {quota_us}")
        found.quota_us = quota_us

    def used_s(self, cgroup: CpuCgroup) -> float:
        self._of(cgroup.directory)
        return self._docker.world.now_s

    def freezing(self, cgroup: CpuCgroup) -> bool:
        copy = self._of(cgroup.directory).copy
        return copy is not None and copy.frozen

    def _of(self, directory: Path) -> Container:
        found = self._docker.containers.get(str(directory))
        if found is None or found.copy is None:
            raise FileNotFoundError(2, "the cgroup is gone", str(directory))
        return found
