"""Two hosts with their daemons, a link and a sink: brought up once, broken and mended for many runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from hoplab import Host, Lab
from hoplab.edge import EdgeDaemon, pair
from hoplab.namespaces import inside
from hoplab.processes import wait_for
from hoplab.services import find_service

from . import counter, held_daemon
from .cells import Fault, Hold
from .inventory import COUNTER, Inventory, take
from .journals import rows_after
from .sink import Sink

T = TypeVar("T")

SOURCE, TARGET, WATCHER = "edge-a", "edge-b", "watcher"
RATE = "100mbit"
IMAGE = find_service("python").image

SMALL_DISK = "256m"
SMALL_DISKS = ("/var/lib/streamhop", "/run/streamhop")
"""State (journal, spool) and run directory (dumps, restores): where a full disk hurts."""

PROGRAM = "/usr/local/bin/streamhop-held"
_LAUNCHER = """\
#!/usr/bin/python3 -I
import sys

sys.path[:0] = ["/opt/streamhop", "/opt/hoplab/site", "/opt/faults"]
from held_daemon import main

sys.exit(main())
"""
_BALLAST = "ballast"
REPORTS_S_MAX = 20.0
MIB = 1 << 20


class Bench:
    """A lab and all that a run needs of it. Use as a context manager.

    :param small_disks: give the hosts disks that can be filled; what is on them does not outlive a power failure.
    """

    def __init__(self, name: str, *, small_disks: bool) -> None:
        self.small_disks = small_disks
        self._stack = ExitStack()
        limits = {host: dict.fromkeys(SMALL_DISKS, SMALL_DISK) for host in (SOURCE, TARGET)} if small_disks else None
        self.lab = self._stack.enter_context(
            Lab.up(name, hosts=[SOURCE, TARGET], clients=[WATCHER], rate=RATE, disk_limits=limits)
        )
        try:
            self._furnish()
        except BaseException:
            self._stack.close()
            raise

    def _furnish(self) -> None:
        self.source, self.target = self.lab.host(SOURCE), self.lab.host(TARGET)
        self.link = self.lab.link(SOURCE, TARGET)
        self.daemons: dict[str, EdgeDaemon] = {}
        for host, peer in ((self.source, TARGET), (self.target, SOURCE)):
            host.load("base")
            host.load("python")
            self.daemons[host.name] = EdgeDaemon(host, [peer], program=PROGRAM)
            host.put(Path(held_daemon.__file__), "/opt/faults/held_daemon.py")
            host.write(PROGRAM, _LAUNCHER, mode=0o755)
            self._stack.callback(self.daemons[host.name].kill)
            self.daemons[host.name].start()
        pair(self.daemons[SOURCE], self.daemons[TARGET])
        names = {host.address: host.name for host in (self.source, self.target)}
        self.watcher = self.lab.host(WATCHER)
        self.sink = self._stack.enter_context(Sink(self.watcher, names))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def hosts(self) -> tuple[Host, Host]:
        """The two ends of the move."""
        return self.source, self.target

    def side(self, name: str) -> Host:
        """``source`` or ``target``."""
        return self.source if name == "source" else self.target

    def inventory(self) -> dict[str, Inventory]:
        """What is on the hosts."""
        return {host.name: take(host) for host in self.hosts}

    def marks(self) -> dict[str, int]:
        """The number of the newest record of each journal."""
        return {host.name: max((row[0] for row in rows_after(host, 0)), default=0) for host in self.hosts}

    # -- the container ---------------------------------------------------------------------------------------------

    def begin(self, policy: str, *, image_there: bool) -> str:
        """A new counter at the source, and nothing of any former one; returns its life."""
        for host in self.hosts:
            for container in host.docker("ps", "--all", "--quiet").split():
                host.docker("rm", "--force", container)
        if image_there:
            self.target.load("python")
        else:
            self.target.docker("rmi", "--force", IMAGE, check=False)
        self.sink.clear()
        script = Path(counter.__file__).read_text(encoding="ascii")
        options = ["--name", COUNTER, "--restart", policy, "--stop-timeout", "1"]
        self.source.docker("run", "--detach", *options, IMAGE, "python3", "-c", script, self.watcher.address)
        heard = wait_for(lambda: self.sink.reports()[:1], "the counter reports", REPORTS_S_MAX)
        return heard[0].life

    # -- holding a daemon ------------------------------------------------------------------------------------------

    def ask_to_hold(self, hold: Hold) -> None:
        """Have a daemon stand still at the next such record."""
        self.side(hold.side).write(held_daemon.REQUEST, f"{hold.moment} {hold.state}\n")

    def forget_holds(self) -> None:
        """Withdraw what was asked and not come to pass."""
        for host in self.hosts:
            if host.powered:
                host.exec(["rm", "-f", held_daemon.REQUEST])

    def is_held(self, side: str) -> bool:
        """Whether the daemon of a side stands still."""
        process = self.daemons[self.side(side).name].process
        if process is None:
            return False
        with suppress(FileNotFoundError, ProcessLookupError):
            text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
            return text.rpartition(")")[2].split()[0] == "T"
        return False

    def let_go(self, side: str) -> None:
        """Let a daemon go on, if it is still there."""
        process = self.daemons[self.side(side).name].process
        if process is not None:
            process.send_signal(signal.SIGCONT)

    # -- breaking and mending --------------------------------------------------------------------------------------

    def break_it(self, fault: Fault) -> None:
        """Do what the fault says; returns when it is done."""
        _BREAK[fault](self)

    def mend(self, fault: Fault) -> None:
        """Bring back what :meth:`break_it` took away; returns when daemons and Docker answer."""
        _MEND[fault](self)

    def kill_daemon(self, host: Host) -> None:
        """SIGKILL to streamhop."""
        self.daemons[host.name].kill()

    def power_off(self, host: Host) -> None:
        """Everything in the host dies at once."""
        # The kernel keeps a dead host's init until every process of the host has been waited for: this is a child.
        process = self.daemons[host.name].process
        waiting = threading.Thread(target=process.wait) if process is not None else None
        if waiting is not None:
            waiting.start()
        host.power_off()
        if waiting is not None:
            waiting.join()
        self.daemons[host.name].kill()

    def power_on(self, host: Host) -> None:
        """Boot: Docker, then streamhop."""
        host.power_on()
        self.daemons[host.name].start()

    def fill(self, host: Host) -> None:
        """Leave not a byte free on the host's small disks."""
        for directory in SMALL_DISKS:
            inside(host.pid, lambda path=f"{directory}/{_BALLAST}": _fill(path), ["mnt"])  # type: ignore[misc]

    def make_room(self, host: Host) -> None:
        """Take away what :meth:`fill` put there."""
        host.exec(["rm", "-f", *(f"{directory}/{_BALLAST}" for directory in SMALL_DISKS)])


def _fill(path: str) -> None:
    with Path(path).open("wb", buffering=0) as file:
        found = os.statvfs(path)
        with suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_bsize)
        file.seek(0, os.SEEK_END)
        piece = bytes(MIB)
        while piece:
            with suppress(OSError):
                while file.write(piece) == len(piece):
                    pass
            piece = piece[: len(piece) // 16]


_BREAK: dict[Fault, Callable[[Bench], None]] = {
    Fault.SOURCE_DAEMON: lambda bench: bench.kill_daemon(bench.source),
    Fault.TARGET_DAEMON: lambda bench: bench.kill_daemon(bench.target),
    Fault.SOURCE_DOCKERD: lambda bench: bench.source.stop_docker(kill=True),
    Fault.TARGET_DOCKERD: lambda bench: bench.target.stop_docker(kill=True),
    Fault.SOURCE_HOST: lambda bench: bench.power_off(bench.source),
    Fault.TARGET_HOST: lambda bench: bench.power_off(bench.target),
    Fault.LINK_THERE: lambda bench: bench.link.down(SOURCE),
    Fault.LINK_BACK: lambda bench: bench.link.down(TARGET),
    Fault.LINK_BOTH: lambda bench: bench.link.down(),
    Fault.SOURCE_DISK: lambda bench: bench.fill(bench.source),
    Fault.TARGET_DISK: lambda bench: bench.fill(bench.target),
}


def _start_daemon(host: Callable[[Bench], Host]) -> Callable[[Bench], None]:
    return lambda bench: _discard(bench.daemons[host(bench).name].start())


def _discard(_: object) -> None:
    return


_MEND: dict[Fault, Callable[[Bench], None]] = {
    Fault.SOURCE_DAEMON: _start_daemon(lambda bench: bench.source),
    Fault.TARGET_DAEMON: _start_daemon(lambda bench: bench.target),
    Fault.SOURCE_DOCKERD: lambda bench: bench.source.start_docker(),
    Fault.TARGET_DOCKERD: lambda bench: bench.target.start_docker(),
    Fault.SOURCE_HOST: lambda bench: bench.power_on(bench.source),
    Fault.TARGET_HOST: lambda bench: bench.power_on(bench.target),
    Fault.LINK_THERE: lambda bench: bench.link.up(),
    Fault.LINK_BACK: lambda bench: bench.link.up(),
    Fault.LINK_BOTH: lambda bench: bench.link.up(),
    Fault.SOURCE_DISK: lambda bench: bench.make_room(bench.source),
    Fault.TARGET_DISK: lambda bench: bench.make_room(bench.target),
}


def pause(seconds: float) -> None:
    """How long a fault lasts is part of the plan; there is nothing to wait for."""
    time.sleep(seconds)
