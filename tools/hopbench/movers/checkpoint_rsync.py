"""Rival: a dump by CRIU through runc, and rsync of its images over those of an earlier dump.

As its best user does it by hand: the first dump leaves the container running and crosses while it serves; after the
second one rsync sends only the blocks that differ, in place. Files of the container cross likewise. rsync speaks to a
daemon of its own, not through ssh. The container uses its host's network.
"""

from __future__ import annotations

import json
import subprocess
import time

from hopbench.usage import children_cpu_s
from hopbench.workloads import Workload
from hoplab import Host, LabError

from .mover import NAME, SPACE, TRANSFER_S_MAX, Moved, restore_connections_closed, wait_until_served

BUNDLE = f"{SPACE}/bundle"
IMAGES = f"{SPACE}/images"
WORK = f"{SPACE}/work"
PORT = 8730
_CONFIGURATION = f"""\
port = {PORT}
use chroot = no
[fast]
path = {SPACE}
read only = no
uid = root
gid = root
"""
_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What Docker gives a container."""


class CheckpointRsyncMover:
    """runc and rsync, nothing else."""

    def __init__(self, source: Host, target: Host) -> None:
        self._source, self._target = source, target
        self._rsyncd: subprocess.Popen[bytes] | None = None
        self._pipes: list[subprocess.Popen[bytes]] = []

    def start(self, workload: Workload) -> None:
        """See :class:`.mover.Mover`. The image is unpacked at the target, too."""
        for host in (self._source, self._target):
            image = host.load(workload.service)
            host.exec(["mkdir", "-p", f"{BUNDLE}/rootfs", IMAGES, WORK])
            made = host.docker("create", image)
            host.exec(f"docker export {made} | tar -x -C {BUNDLE}/rootfs", timeout=300)
            host.docker("rm", made)
            host.exec(["runc", "spec", "--bundle", BUNDLE])
            spec = json.loads(host.read(f"{BUNDLE}/config.json"))
            host.write(f"{BUNDLE}/config.json", json.dumps(bundle_spec(spec, workload, host.cgroup)))
        restore_connections_closed((self._source, self._target), closed=True)
        self._target.write("/etc/rsyncd-bench.conf", _CONFIGURATION)
        self._rsyncd = self._target.popen(["rsync", "--daemon", "--no-detach", "--config", "/etc/rsyncd-bench.conf"])
        wait_until_served(self._target, PORT)
        self._runc(self._source, "run", "--detach", "--bundle", BUNDLE, NAME)
        wait_until_served(self._source, workload.port)

    def ahead(self, *, stage: bool) -> None:
        """Nothing: its first dump and what that costs belong to the move."""

    def move(self) -> Moved:
        """See :class:`.mover.Mover`."""
        began = time.monotonic()
        self._dump("--leave-running")
        self._sync()
        self._source.exec(["rm", "-rf", IMAGES])
        self._dump()
        self._sync()
        images = ("--image-path", IMAGES, "--work-path", WORK)
        self._runc(self._target, "restore", "--detach", "--bundle", BUNDLE, *images, NAME)
        ended = time.monotonic()
        return Moved(ended - began, ended)

    def _runc(self, host: Host, *arguments: str) -> None:
        """Run runc with pipes for the container's streams: no other files from outside of it can be dumped.

        :raises LabError: it failed.
        """
        process = host.popen(
            ["runc", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._pipes.append(process)
        if process.wait(TRANSFER_S_MAX) != 0:
            assert process.stdout is not None
            said = process.stdout.read().decode(errors="replace")  # nobody else has the other end any more
            raise LabError(f"{host.name}: runc {arguments[0]} ended with {process.returncode}: {said.strip()[-1000:]}")

    def _dump(self, *options: str) -> None:
        command = ["runc", "checkpoint", *options, "--tcp-established", "--file-locks"]
        command += ["--image-path", IMAGES, "--work-path", WORK, NAME]
        done = self._source.exec(command, timeout=TRANSFER_S_MAX, check=False)
        if done.returncode != 0:
            reasons = self._source.exec(f"grep Error {WORK}/dump.log | tail -n 5", check=False).stdout
            raise LabError(f"runc checkpoint ended with {done.returncode}: {reasons.strip()}")

    def _sync(self) -> None:
        options = ["--archive", "--hard-links", "--inplace", "--no-whole-file", "--delete"]
        options += ["--compress", "--compress-choice=zstd", "--compress-level=3"]
        # By size and second two dumps can look the same and are not.
        for folder, told_apart in ((IMAGES, "--ignore-times"), (f"{BUNDLE}/rootfs", "--modify-window=-1")):
            place = f"rsync://{self._target.name}:{PORT}/fast{folder.removeprefix(SPACE)}/"
            self._source.exec(["rsync", *options, told_apart, f"{folder}/", place], timeout=TRANSFER_S_MAX)

    def cpu_s(self) -> float:
        """Of all commands, with what they waited for."""
        return children_cpu_s()

    def clean(self) -> None:
        """See :class:`.mover.Mover`."""
        for host in (self._source, self._target):
            host.exec(["runc", "delete", "--force", NAME], check=False)
        while self._pipes:
            with self._pipes.pop():  # closes them
                pass
        rsyncd, self._rsyncd = self._rsyncd, None
        if rsyncd is not None:
            rsyncd.terminate()
            rsyncd.wait()
        restore_connections_closed((self._source, self._target), closed=False)
        for host in (self._source, self._target):
            host.exec(["rm", "-rf", BUNDLE, IMAGES, WORK])


def bundle_spec(spec: dict[str, object], workload: Workload, cgroup: str) -> dict[str, object]:
    """runc's example bundle, made to run a workload on the host's network with what Docker allows. Pure."""
    value = json.loads(json.dumps(spec))
    process, linux = value["process"], value["linux"]
    process["terminal"] = False
    process["args"] = list(workload.service.command)
    process["cwd"] = "/"
    process["env"] = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        *(f"{name}={content}" for name, content in workload.environment),
    ]
    process["capabilities"] = {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")}
    # Those of the host's init: to raise them takes a capability that machines may lack.
    process.pop("rlimits", None)
    value["root"]["readonly"] = False
    linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] not in ("network", "cgroup")]
    linux["cgroupsPath"] = f"{cgroup}/{NAME}"
    result: dict[str, object] = value
    return result
