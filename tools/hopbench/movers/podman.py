"""Rival: ``podman container checkpoint --export`` (zstd), netcat, ``podman container restore --import``.

The container uses its host's network: nothing has to be set up for it at the target, which is to podman's favour.
"""

from __future__ import annotations

import time

from hopbench.usage import children_cpu_s
from hopbench.workloads import Workload
from hoplab import Host
from hoplab.preparation import prepare_image

from .mover import NAME, SPACE, Moved, restore_connections_closed, send_file, wait_until_served

ARCHIVE = f"{SPACE}/checkpoint.tar.zst"
STORAGE = f"{SPACE}/podman"
COMMAND_S_MAX = 600.0


class PodmanMover:
    """podman with runc, as crun refuses hosts with both versions of cgroups."""

    def __init__(self, source: Host, target: Host) -> None:
        self._source, self._target = source, target

    def _podman(self, host: Host, *arguments: str, check: bool = True) -> str:
        # Storage in memory: no disk is waited for, and an overlay may lie over it.
        command = ["podman", "--root", STORAGE, "--runroot", "/run/podman-bench", "--runtime", "runc"]
        command += ["--cgroup-manager", "cgroupfs", "--storage-driver", "overlay", *arguments]
        environment = {"TMPDIR": SPACE}
        return str(host.exec(command, env=environment, check=check, timeout=COMMAND_S_MAX).stdout).strip()

    def start(self, workload: Workload) -> None:
        """See :class:`.mover.Mover`."""
        archive, image = prepare_image(workload.service), ""
        for host in (self._source, self._target):
            with archive.open("rb") as file:
                host.feed(["sh", "-c", f"cat > {SPACE}/image.tar"], file)
            image = self._podman(host, "load", "--quiet", "--input", f"{SPACE}/image.tar").rpartition(" ")[2]
            host.exec(["rm", f"{SPACE}/image.tar"])
        # runc has no option for it, so podman's --tcp-close does not work with runc.
        restore_connections_closed((self._source, self._target), closed=True)
        options = [word for name, value in workload.environment for word in ("--env", f"{name}={value}")]
        parent = ("--cgroup-parent", self._source.cgroup)
        self._podman(self._source, "run", "--detach", "--name", NAME, "--network", "host", *parent, *options, image)
        wait_until_served(self._source, workload.port)

    def ahead(self, *, stage: bool) -> None:
        """Nothing: its ``--pre-checkpoint`` needs soft-dirty tracking, which not every kernel has."""

    def move(self) -> Moved:
        """See :class:`.mover.Mover`."""
        began = time.monotonic()
        dump = ("--export", ARCHIVE, "--compress", "zstd", "--tcp-established", "--file-locks")
        self._podman(self._source, "container", "checkpoint", *dump, NAME)
        send_file(self._source, self._target, ARCHIVE)
        self._podman(self._target, "container", "restore", "--import", ARCHIVE, "--file-locks")
        ended = time.monotonic()
        return Moved(ended - began, ended)

    def cpu_s(self) -> float:
        """Of all commands, with what they waited for."""
        return children_cpu_s()

    def clean(self) -> None:
        """See :class:`.mover.Mover`."""
        restore_connections_closed((self._source, self._target), closed=False)
        for host in (self._source, self._target):
            self._podman(host, "rm", "--force", "--time", "0", "--all", check=False)
            self._podman(host, "rmi", "--force", "--all", check=False)
            host.exec(["rm", "-f", ARCHIVE])
