"""Bytes of a large file over one link by several means: sessions of the protocol, iperf3, scp, netcat."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hoplab import Host, LabError
from hoplab.processes import wait_for

from .deployed import ENVIRONMENT, program
from .inside.file_session import PORT
from .judging import IPERF, NC, SCP, SESSION_HELD, SESSION_PLAIN, SESSION_TLS
from .movers.mover import SPACE, TRANSFER_PORT, wait_until_served

FILE, TARGET_FILE = f"{SPACE}/wire", f"{SPACE}/wire-there"
IDENTITY, PEER = "/root/wire-identity", "/root/wire-peer.pem"
TRANSFER_S_MAX = 120.0
IPERF_S = 4
_IPERF_PORT = 5201
_SSHD_CONFIG = "/etc/ssh/sshd-bench.conf"
_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
StrictModes no
Subsystem sftp /usr/lib/openssh/sftp-server
UsePAM no
"""
_KEY = "/root/.ssh/id_ed25519"


@dataclass(frozen=True, slots=True)
class Transfer:
    """How fast one way was."""

    who: str
    size: int
    seconds: float
    cpu_s: float | None = None
    """Processor time of both ends; only of sessions."""

    @property
    def bytes_per_s(self) -> float:
        """Goodput."""
        return self.size / self.seconds


def transfers(source: Host, target: Host, size_mb: int) -> Iterator[Transfer]:
    """Send a file of random bytes by each means in turn. Files are in memory at both ends.

    Each is timed as its user sees it, from the start of the program (sessions: from dialing) to its end; iperf3 says
    itself what it measured. As iperf3 neither reads a file nor writes one, one way of the session does without, too:
    what it sends is in its memory before it dials, and at the target it is dropped.

    :raises LabError: one of them fails, or what arrives has another length.
    """
    size = size_mb * 1_000_000
    source.exec(["sh", "-c", 'head -c "$1" /dev/urandom > "$2"', "sh", str(size), FILE])
    _identify(source, target)
    ways: tuple[Callable[[], Transfer], ...] = (
        lambda: _session(SESSION_PLAIN, source, target, "send", TARGET_FILE),
        lambda: _session(SESSION_HELD, source, target, "send-held", "/dev/null"),
        lambda: _iperf(source, target),
        lambda: _session(SESSION_TLS, source, target, "send", TARGET_FILE, IDENTITY, PEER),
        lambda: _scp(source, target),
        lambda: _netcat(source, target),
    )
    try:
        for measure in ways:
            target.exec(["rm", "-f", TARGET_FILE])
            done = measure()
            if done.who != IPERF and done.size != size:
                raise LabError(f"{done.who}: {done.size} of {size} bytes arrived")
            yield done
    finally:
        for host in (source, target):
            host.exec(["rm", "-f", FILE, TARGET_FILE])


def _identify(source: Host, target: Host) -> None:
    make = f"import pathlib, streamhop.identity as i; print(i.load_or_create(pathlib.Path('{IDENTITY}')).certificate)"
    certificates = [host.read(host.exec(["python3", "-c", make]).stdout.strip()).decode() for host in (source, target)]
    source.write(PEER, certificates[1])
    target.write(PEER, certificates[0])


@contextmanager
def _listening(host: Host, command: list[str], port: int) -> Iterator[None]:
    with host.popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_served(host, port)
            yield
        finally:
            process.terminate()


def _arrived(target: Host) -> int:
    """Bytes of the file at the target."""
    return int(target.exec(["stat", "--format", "%s", TARGET_FILE]).stdout)


def _session(who: str, source: Host, target: Host, command: str, into: str, *security: str) -> Transfer:
    with _listening(target, program("file_session", "receive", into, *security), PORT):
        sending = program("file_session", command, target.name, FILE, *security)
        said = json.loads(source.exec(sending, env=ENVIRONMENT, timeout=TRANSFER_S_MAX).stdout)
    return Transfer(who, said["bytes"], said["seconds"], said["cpu_s"])


def _iperf(source: Host, target: Host) -> Transfer:
    with _listening(target, ["iperf3", "--server"], _IPERF_PORT):
        command = ["iperf3", "--client", target.name, "--time", str(IPERF_S), "--json"]
        said = json.loads(source.exec(command, timeout=TRANSFER_S_MAX).stdout)
    received = said["end"]["sum_received"]
    return Transfer(IPERF, received["bytes"], received["seconds"])


def _scp(source: Host, target: Host) -> Transfer:
    source.exec(f"mkdir -p -m 700 /root/.ssh && {{ test -e {_KEY} || ssh-keygen -q -t ed25519 -N '' -f {_KEY}; }}")
    target.write("/root/.ssh/authorized_keys", source.read(f"{_KEY}.pub"), mode=0o600)
    target.exec(["ssh-keygen", "-A"])
    target.write(_SSHD_CONFIG, _SSHD)
    target.exec(["mkdir", "-p", "/run/sshd"])
    with _listening(target, ["/usr/sbin/sshd", "-D", "-f", _SSHD_CONFIG], 22):
        keys = wait_for(
            lambda: source.exec(["ssh-keyscan", target.name], check=False).stdout.strip(), "sshd answers", 10.0, 0.1
        )
        source.write("/root/.ssh/known_hosts", keys + "\n")
        began = time.monotonic()
        source.exec(["scp", "-q", "-B", FILE, f"{target.name}:{TARGET_FILE}"], timeout=TRANSFER_S_MAX)
        seconds = time.monotonic() - began
    return Transfer(SCP, _arrived(target), seconds)


def _netcat(source: Host, target: Host) -> Transfer:
    receive = ["sh", "-c", f"exec nc -l -p {TRANSFER_PORT} > {TARGET_FILE}"]
    with target.popen(receive) as listener:
        try:
            wait_until_served(target, TRANSFER_PORT)
            began = time.monotonic()
            source.exec(f"exec nc -N {target.name} {TRANSFER_PORT} < {FILE}", timeout=TRANSFER_S_MAX)
            listener.wait(TRANSFER_S_MAX)
            seconds = time.monotonic() - began
        finally:
            if listener.poll() is None:
                listener.kill()
    return Transfer(NC, _arrived(target), seconds)
