"""What processes and links have used so far, read from /proc."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, Self

from hoplab import Host, Lab

from .figures import Sample

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SAMPLE_EVERY_S = 0.05
ENGINES = ("dockerd", "containerd")


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and of all its children that it has waited for; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def children_cpu_s() -> float:
    """Processor seconds of all programs that this one started and has waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def engine_pids(hosts: Iterable[Host]) -> list[int]:
    """Docker's and containerd's daemons, as the machine numbers them."""
    roots = {host.pid for host in hosts}
    namespaces = {str(Path(f"/proc/{pid}/ns/pid").readlink()) for pid in roots}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "comm").read_text().strip() in ENGINES and str((entry / "ns/pid").readlink()) in namespaces:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def reset_peak(pid: int) -> None:
    """Let the most memory that a process had resident count from now on (proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Counters(Protocol):
    """Something that counts bytes."""

    def read(self) -> tuple[int, int]:
        """Bytes sent, bytes received."""


class LinkCounters:
    """The counters of the device with which ``source`` reaches ``target``."""

    def __init__(self, lab: Lab, source: str, target: str) -> None:
        self._path = Path(f"/proc/{lab.host(source).pid}/net/dev")
        self._device = f"eth{lab.host(target).state.number}"

    def read(self) -> tuple[int, int]:
        """Bytes sent, bytes received."""
        for line in self._path.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name.strip() == self._device:
                fields = rest.split()
                return int(fields[8]), int(fields[0])
        raise LookupError(f"there is no device {self._device}")


class LinkWatch:
    """Reads a link's counters all the time, in a thread of its own. Use as a context manager."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hopbench-link")
        self.samples: list[Sample] = []

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.take()

    def take(self) -> Sample:
        """Read now."""
        sent, received = self._counters.read()
        sample = Sample(time.monotonic(), sent, received)
        self.samples.append(sample)
        return sample

    def __enter__(self) -> Self:
        self.take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
