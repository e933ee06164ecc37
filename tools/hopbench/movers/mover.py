"""What every way to move a container has in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from hopbench.workloads import Workload
from hoplab import Host
from hoplab.processes import wait_for
from hoplab.services import listening_ports

NAME = "moved"
"""What the container is called on both hosts."""

SERVES_S_MAX = 120.0
TRANSFER_S_MAX = 1800.0
TRANSFER_PORT = 7777
SPACE = "/fast"
"""A file system in memory on both hosts, for what a rival writes down: none waits for a disk."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How a move went.

    :param total_s: from the request until the tool says that it is done.
    :param ended_at_s: when it said so, by the monotonic clock.
    :param report: what the tool reports, if it does.
    """

    total_s: float
    ended_at_s: float
    report: dict[str, Any] = field(default_factory=dict)
    staged: bool = False
    source_peak_bytes: int | None = None
    target_peak_bytes: int | None = None
    source_lag_ms: float | None = None
    target_lag_ms: float | None = None


class Mover(Protocol):
    """One way to move a container from one host to the other."""

    def start(self, workload: Workload) -> None:
        """Run the workload at the source, with all at the target that may be there before; returns once it serves.

        :raises LabError: it does not start.
        """

    def ahead(self, *, stage: bool) -> None:
        """What is done before the request and while the container serves, often nothing.

        :param stage: whether memory may be sent ahead, by a mover that can.
        """

    def move(self) -> Moved:
        """Move it; from the request to the end.

        :raises LabError: it did not move.
        """

    def cpu_s(self) -> float:
        """Processor seconds used so far by the tool's programs."""

    def clean(self) -> None:
        """Remove the container and all that was made, from both hosts."""


def wait_until_served(host: Host, port: int, sockets_of: str = "/proc/net/tcp /proc/net/tcp6") -> None:
    """Wait until somebody listens.

    :param sockets_of: files to look into; those of a process for a container with a network of its own.
    :raises WaitError: nobody does in time.
    """

    def serves() -> bool:
        return port in listening_ports(host.exec(f"cat {sockets_of}", check=False).stdout)

    wait_for(serves, f"port {port} of {host.name} is served", SERVES_S_MAX, 0.05)


CRIU_OF_RUNC = "/etc/criu/runc.conf"


def restore_connections_closed(hosts: Iterable[Host], *, closed: bool) -> None:
    """Have every CRIU that runc starts restore connections closed, as the address is another one; or no longer.

    Connections that nobody has accepted yet are left out of the dump: else it fails where a client asks at that moment.
    """
    for host in hosts:
        if closed:
            host.write(CRIU_OF_RUNC, "tcp-close\nskip-in-flight\n")
        else:
            host.exec(["rm", "-f", CRIU_OF_RUNC])


def send_file(source: Host, target: Host, path: str) -> None:
    """Copy a file with netcat, as a user without a storage service does: the bare link, no encryption.

    :raises LabError: it does not arrive.
    """
    with target.popen(["sh", "-c", f'exec nc -l -p {TRANSFER_PORT} > "$1"', "sh", path]) as listener:
        try:
            wait_until_served(target, TRANSFER_PORT)
            command = ["sh", "-c", f'exec nc -N "$1" {TRANSFER_PORT} < "$2"', "sh", target.name, path]
            source.exec(command, timeout=TRANSFER_S_MAX)
            listener.wait(TRANSFER_S_MAX)
        finally:
            if listener.poll() is None:
                listener.kill()
