"""Start a host: new namespaces, its file systems, its root, then its init.

Run as ``python -m hoplab.boot SPEC``, a JSON object; prints the number of the host's PID 1 as the machine sees
it, once that has replaced itself by the init inside the host. On failure one line goes to standard error.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    pivot_root,
    setns,
    unmount,
    unshare,
)

SITE = "/opt/hoplab/site"
"""Where a host sees the cached Python packages."""

# All that PID 1 has to do in a host: take the orphans, and be there to be killed.
_INIT = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
while True:
    signal.sigwait({signal.SIGCHLD})
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


@dataclass(frozen=True, slots=True)
class BootSpec:
    """What a host is made of."""

    name: str
    netns: str
    root: str
    """Lower directory of its root."""

    site: str
    """Python packages, or empty."""

    data: str
    """Directory that holds what it writes and survives a power failure."""

    disk_limits: dict[str, int]
    """Path -> bytes of a tmpfs put there."""

    def as_argument(self) -> str:
        """The program's argument."""
        return json.dumps(asdict(self))


def _mount_file_systems(spec: BootSpec) -> Path:
    data = Path(spec.data)
    for name in ("upper", "work", "root", "docker", "containerd"):
        (data / name).mkdir(parents=True, exist_ok=True)
    root = data / "root"
    layers = f"lowerdir={spec.root},upperdir={data / 'upper'},workdir={data / 'work'}"
    mount("overlay", root, "overlay", options=layers)
    for name in (".old", "var/lib/docker", "var/lib/containerd", SITE[1:]):
        (root / name).mkdir(parents=True, exist_ok=True)
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", root / "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("/sys/fs/cgroup", root / "sys/fs/cgroup", flags=MS_BIND | MS_REC)
    mount("tmpfs", root / "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    mount("tmpfs", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount(data / "docker", root / "var/lib/docker", flags=MS_BIND)
    mount(data / "containerd", root / "var/lib/containerd", flags=MS_BIND)
    if spec.site:
        mount(spec.site, root / SITE[1:], flags=MS_BIND)
        mount("", root / SITE[1:], flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    _mount_devices(root / "dev")
    for path, size in spec.disk_limits.items():
        target = root / path.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        mount("tmpfs", target, "tmpfs", options=f"size={size},mode=711")
    return root


def _mount_devices(dev: Path) -> None:
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755")
    os.umask(0)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.umask(0o022)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    mount("tmpfs", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    # A kernel may lack POSIX message queues; nothing here needs them.
    with suppress(OSError):
        mount("mqueue", dev / "mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
        (dev / name).symlink_to(target)
    (dev / "stdout").symlink_to("/proc/self/fd/1")
    (dev / "stderr").symlink_to("/proc/self/fd/2")


def _become_init(spec: BootSpec) -> None:
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    socket.sethostname(spec.name)
    root = _mount_file_systems(spec)
    os.chdir(root)
    pivot_root(".", ".old")
    os.chdir("/")
    unmount("/.old")
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    # No shell is wanted here, and this process is to become the init.
    os.execve(  # noqa: S606
        "/usr/bin/python3", ["hoplab-init", "-IS", "-c", _INIT], environment
    )


def _start(spec: BootSpec) -> int:
    with Path(spec.netns).open("rb") as namespace:
        setns(namespace.fileno(), CLONE_NEWNET)
    unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)
    # Closed by exec: an empty answer means that the init has taken over.
    failed_read, failed_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            _become_init(spec)
        except OSError as error:
            os.write(failed_write, f"{error.strerror}: {error.filename}".encode())
        os._exit(1)
    os.close(failed_write)
    with os.fdopen(failed_read, "rb") as answer:
        failure = answer.read().decode()
    if failure:
        os.waitpid(pid, 0)
        sys.stderr.write(f"{spec.name} cannot start: {failure}\n")
        return 1
    sys.stdout.write(f"{pid}\n")
    return 0


def main() -> int:
    """Entry of the program."""
    return _start(BootSpec(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
