"""One host of a lab: run things in it, read and write its files, pull its plug."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from .boot import BootSpec
from .cgroups import kill_cgroups, remove_cgroups
from .errors import LabError, UsageError, WaitError
from .images import BASE_IMAGE
from .namespaces import inside
from .preparation import prepare_image
from .processes import ProcessId, wait_for
from .services import Service, find_service, load_image, run_service
from .settings import Settings, cgroup_parent, netns_name, netns_path
from .units import parse_size

if TYPE_CHECKING:
    from .lab import Lab
    from .state import HostState

DOCKERD_LOG = "/var/log/dockerd.log"
DOCKER_READY_S = 60.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)


def program_environment() -> dict[str, str]:
    """Environment in which the machine's Python finds this package."""
    paths = [_PACKAGE_PARENT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def data_dir(where: Settings, lab: str, host: str) -> Path:
    """What a host writes, as the machine sees it."""
    return where.data / lab / host


class Host:
    """A handle; every call asks the lab's state anew, so several programs can use a host at once."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab = lab
        self.name = name

    def __repr__(self) -> str:
        return f"Host({self.name!r} of {self._lab.name!r})"

    @property
    def cgroup(self) -> str:
        """The cgroup below which its containers are; what is put there goes down with the host."""
        return cgroup_parent(self._lab.name, self.name)

    @property
    def state(self) -> HostState:
        """What the lab remembers about this host."""
        return self._lab.host_state(self.name)

    @property
    def address(self) -> str:
        """Its one IPv4 address; every other host of the lab reaches it there, and by its name."""
        return self.state.address

    @property
    def pid(self) -> int:
        """Its PID 1, as the machine numbers it.

        :raises LabError: its power is off.
        """
        init = self.state.init
        if init is None or not init.alive():
            raise LabError(f"{self.name} is powered off: `hoplab power-on {self.name}`")
        return init.pid

    @property
    def powered(self) -> bool:
        """Whether it runs."""
        init = self.state.init
        return init is not None and init.alive()

    @property
    def netns(self) -> Path:
        """Its network namespace, mounted as ip-netns(8) does."""
        return netns_path(netns_name(self._lab.name, self.name))

    @property
    def data(self) -> Path:
        """Directory of the machine that holds what the host writes to disk."""
        return data_dir(self._lab.settings, self._lab.name, self.name)

    @property
    def dockerd_log(self) -> Path:
        """The log of its Docker daemon, as the machine sees it; there is none on a client."""
        return self.data / "upper" / DOCKERD_LOG[1:]

    # Running things

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str = "/root", **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a program in the host. It is a child of the caller: signals and waiting work as for any other.

        :param env: added to a small clean environment.
        :param options: as for :class:`subprocess.Popen`; pipes carry bytes.
        :raises LabError: the power is off.
        :raises OSError: the program cannot be started.
        """
        return self._start(argv, env, cwd, options)

    def _start(
        self, argv: Sequence[str], env: Mapping[str, str] | None, cwd: str, options: Mapping[str, Any]
    ) -> subprocess.Popen[Any]:
        environment = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        return inside(self.pid, lambda: subprocess.Popen(list(argv), env=environment, cwd=cwd, **options))

    def exec(
        self,
        argv: Sequence[str] | str,
        *,
        check: bool = True,
        input: str | bytes | None = None,  # noqa: A002 - as subprocess.run has it
        text: bool = True,
        timeout: float | None = 120.0,
        env: Mapping[str, str] | None = None,
        cwd: str = "/root",
    ) -> subprocess.CompletedProcess[Any]:
        """Run a program to its end.

        :param argv: a string is run by ``sh -c``.
        :param check: raise if it fails.
        :raises LabError: it failed, or the power is off; the text holds what it wrote to standard error.
        :raises subprocess.TimeoutExpired: it was killed after ``timeout`` seconds.
        """
        command = ["sh", "-c", argv] if isinstance(argv, str) else list(argv)
        pipes: dict[str, Any] = {
            "text": text,
            "stdin": subprocess.DEVNULL if input is None else subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        try:
            process = self._start(command, env, cwd, pipes)
        except OSError as error:
            raise LabError(f"{self.name} cannot run {command[0]}: {error.strerror}") from error
        with process:
            try:
                out, err = process.communicate(input, timeout=timeout)
            except BaseException:
                process.kill()
                raise
        if check and process.returncode != 0:
            said = err if isinstance(err, str) else err.decode(errors="replace")
            raise LabError(
                f"{self.name}: {shlex.join(command)} ended with {process.returncode}: {said.strip()[-2000:]}"
            )
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def docker(self, *arguments: str, check: bool = True, timeout: float | None = 300.0) -> str:
        """Run ``docker ARGUMENTS...`` in the host; returns its standard output, stripped.

        :raises LabError: it failed and ``check`` is set.
        """
        return str(self.exec(["docker", *arguments], check=check, timeout=timeout).stdout).strip()

    # Files

    def read(self, path: str) -> bytes:
        """The content of a file of the host.

        :raises LabError: it cannot be read.
        """
        return bytes(self.exec(["cat", "--", path], text=False).stdout)

    def write(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file of the host; directories on the way are made.

        :raises LabError: it cannot be written.
        """
        data = content.encode() if isinstance(content, str) else content
        script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1" && chmod "$2" -- "$1"'
        self.exec(["sh", "-c", script, "sh", path, f"{mode:o}"], input=data, text=False)

    def put(self, source: Path, target: str) -> None:
        """Copy a file or a tree of the machine to ``target`` in the host; bytecode is left out.

        :raises LabError: it cannot be written.
        """
        path = PurePosixPath(target)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(source, arcname=path.name, filter=_plain_member)
        script = 'mkdir -p -- "$1" && tar -x --no-same-owner -C "$1"'
        self.exec(["sh", "-c", script, "sh", str(path.parent)], input=buffer.getvalue(), text=False)

    def feed(self, argv: Sequence[str], source: IO[bytes]) -> None:
        """Run a program whose standard input is an open file of the machine.

        :raises LabError: it failed.
        """
        with self.popen(argv, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            _, said = process.communicate(timeout=600)
        if process.returncode != 0:
            raise LabError(f"{self.name}: {shlex.join(argv)} failed: {said.decode(errors='replace').strip()}")

    # Services

    def load(self, service: str | Service) -> str:
        """Load a service's image (redis, nginx, postgres, python; or ``base``); returns the image's name.

        :param service: one of the lab's, or one of the caller's own.

        :raises UsageError: there is no such service.
        """
        archive = prepare_image(service, self._lab.settings)
        image = BASE_IMAGE if service == "base" else find_service(service).image
        load_image(self, image, archive)
        return image

    def service(
        self, service: str | Service, *, name: str | None = None, publish: bool = True, options: Sequence[str] = ()
    ) -> str:
        """Start a service in a container and wait until it serves; returns the container's ID.

        :param service: one of the lab's, or one of the caller's own.
        :param name: of the container; the service's by default.
        :param publish: make its port reachable at the host's address.
        :param options: more options for ``docker run``.
        :raises UsageError: there is no such service.
        :raises LabError: it does not start.
        """
        archive = prepare_image(service, self._lab.settings)
        return run_service(self, find_service(service), archive, name=name, publish=publish, options=tuple(options))

    # Faults

    def power_off(self) -> None:
        """Power failure: everything in the host dies at once and in silence; its disk stays as it is."""
        self._lab.power_off(self.name)

    def power_on(self) -> None:
        """Start the host again, with the disk it had; returns when Docker answers."""
        self._lab.power_on(self.name)

    def limit_disk(self, path: str, size: int | str) -> None:
        """Put an empty file system of ``size`` bytes over ``path``, to see what happens when it is full.

        What was there is hidden. Docker is stopped and started again if its own directory is meant. The file
        system is in memory: it is empty again after a power failure.

        :raises LabError: it cannot be mounted.
        """
        size_bytes = parse_size(size)
        if not path.startswith("/"):
            raise UsageError(f"{path!r} is not an absolute path")
        below_docker = PurePosixPath(path).is_relative_to("/var/lib/docker") or path == "/var/lib/containerd"
        restart = below_docker and self.state.docker
        if restart:
            self.stop_docker()
        self.exec(["mkdir", "-p", "--", path])
        self.exec(["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=711", "tmpfs", path])
        self._lab.remember_disk_limit(self.name, path, size_bytes)
        if restart:
            self.start_docker()

    def lift_disk_limit(self, path: str) -> None:
        """Take away what :meth:`limit_disk` put over ``path``; what was there before is there again.

        :raises LabError: there is no limit, or the file system is in use.
        """
        if path not in self.state.disk_limits:
            raise LabError(f"{path} of {self.name} has no limit")
        self.exec(["umount", path])
        self._lab.remember_disk_limit(self.name, path, None)

    # Docker

    def start_docker(self) -> None:
        """Start the Docker daemon and wait until it answers.

        :raises LabError: it ended; the text holds the end of its log.
        :raises WaitError: it does not answer.
        """
        self.exec(f"setsid dockerd >> {DOCKERD_LOG} 2>&1 < /dev/null & echo $! > /run/hoplab-dockerd.pid")
        pid = self.exec(["cat", "/run/hoplab-dockerd.pid"]).stdout.strip()

        def answers() -> bool:
            if self.exec(["docker", "info", "--format", "{{.ServerVersion}}"], check=False).returncode == 0:
                return True
            if self.exec(["kill", "-0", pid], check=False).returncode != 0:
                log = self.read(DOCKERD_LOG).decode(errors="replace").strip().splitlines()
                raise LabError(f"dockerd of {self.name} ended: {' | '.join(log[-4:])} (log: {self.dockerd_log})")
            return False

        try:
            wait_for(answers, f"dockerd of {self.name} answers", DOCKER_READY_S, 0.1)
        except WaitError as error:
            raise WaitError(f"{error} (log: {self.dockerd_log})") from error

    def stop_docker(self, *, kill: bool = False) -> None:
        """End the Docker daemon, in good order or by SIGKILL; containers it leaves are left.

        :raises WaitError: it does not end.
        """
        pid = self.exec(["cat", "/run/docker.pid"], check=False).stdout.strip()
        if not pid.isdigit():
            return
        self.exec(["kill", "-KILL" if kill else "-TERM", pid], check=False)

        def gone() -> bool:
            return self.exec(["kill", "-0", pid], check=False).returncode != 0

        wait_for(gone, f"dockerd of {self.name} ends", 60.0, 0.05)
        self.exec(["rm", "-f", "/run/docker.pid"])


def _plain_member(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if PurePosixPath(member.name).name == "__pycache__":
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def boot(where: Settings, lab: str, host: HostState, *, root: str, site: str) -> ProcessId:
    """Start a host's init in its network namespace.

    :raises LabError: it cannot start.
    """
    spec = BootSpec(
        name=host.name,
        netns=str(netns_path(netns_name(lab, host.name))),
        root=root,
        site=site,
        data=str(data_dir(where, lab, host.name)),
        disk_limits=host.disk_limits,
    )
    command = [sys.executable, "-m", "hoplab.boot", spec.as_argument()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=program_environment())
    if ended.returncode != 0:
        raise LabError((ended.stderr.strip().splitlines() or ["a host cannot start"])[-1])
    return ProcessId.of(int(ended.stdout))


def daemon_json(lab: str, host: HostState) -> str:
    """The Docker daemon's configuration."""
    containerd = host.image_store == "containerd"
    configuration: dict[str, Any] = {
        "features": {"containerd-snapshotter": containerd},
        "cgroup-parent": cgroup_parent(lab, host.name),
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "log-level": "warn",
        "shutdown-timeout": 5,
    }
    if not containerd:
        configuration["storage-driver"] = "overlay2"
    return json.dumps(configuration, indent=1) + "\n"


def halt(lab: str, host: HostState) -> None:
    """Kill everything in a host and remove its cgroups.

    :raises WaitError: it does not die.
    """
    parent = cgroup_parent(lab, host.name)
    if host.init is not None:
        host.init.kill(wait=False)
    # What is frozen dies only when it is let go, and an init is not gone before all its processes are.
    kill_cgroups(parent)
    if host.init is not None:
        host.init.kill()
    remove_cgroups(parent)
