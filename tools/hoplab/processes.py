"""Processes named so that a number used again never names another one, and waiting for conditions."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .errors import WaitError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process: its number and the clock tick at which it started (field 22 of proc_pid_stat(5))."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """:raises ProcessLookupError: there is no such process."""
        start, _ = _stat(pid)
        return cls(pid, start)

    def alive(self) -> bool:
        """Whether this very process is there and is not a zombie."""
        try:
            start, state = _stat(self.pid)
        except ProcessLookupError:
            return False
        return start == self.start_ticks and state not in "ZX"

    def kill(self, timeout_s: float = 60.0, *, wait: bool = True) -> None:
        """SIGKILL this process, if it is still itself, and wait until it is gone unless told otherwise.

        For the init of a PID namespace, gone means that every process in it is.

        :raises WaitError: it is not gone in time.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The descriptor pins the process: whom we compare now is whom we signal.
            if not self.alive():
                return
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            if not wait:
                return
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            if not poller.poll(timeout_s * 1000):
                raise WaitError(f"process {self.pid} was killed and is not gone after {timeout_s:g} s")
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)


def _stat(pid: int) -> tuple[int, str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ProcessLookupError(pid) from error
    # The command's name is in parentheses and may hold anything, so count from the last one.
    fields = text.rpartition(")")[2].split()
    return int(fields[19]), fields[0]


def all_pids() -> Iterator[int]:
    """Every process this one can see."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def wait_for(condition: Callable[[], T | None], what: str, timeout_s: float, interval_s: float = 0.02) -> T:
    """Ask ``condition`` until it answers with something true, and return that.

    :raises WaitError: it did not within ``timeout_s``; ``what`` says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            raise WaitError(f"{what}: not within {timeout_s:g} s")
        time.sleep(interval_s)
    return answer
