"""Processes in the middle of a vfork are found, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamhop.engine import vforks
from streamhop.engine.processes import ProcessRef, container_pids, descendants, parent
from streamhop.engine.vforks import sharing_memory

SPAWNS = """
import os, sys, threading
opening = [(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)]
def spawn():
    os.waitpid(os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=opening), 0)
thread = threading.Thread(target=spawn)
run = {"first": spawn, "thread": lambda: (thread.start(), thread.join())}
print("ready", flush=True)
run[sys.argv[2]]()
"""
"""posix_spawn() is a vfork, and its child opens the FIFO before it runs the program."""

Spawner = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


@pytest.fixture
def spawner(fifo: Path) -> Iterator[Spawner]:
    """Starts a process that is in the middle of a vfork until somebody opens the FIFO."""
    started: list[subprocess.Popen[str]] = []

    def start(by: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SPAWNS, str(fifo), by]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        for pid in list(descendants(process.pid)):
            os.kill(pid, 9)
        process.communicate()


def until(found: Callable[[], object], what: str) -> None:
    """Look again and again, for so many times, until there is something."""
    for _ in range(1000):
        if found():
            return
        subprocess.run(["sleep", "0.01"], check=True)
    pytest.fail(f"never: {what}")


@pytest.mark.parametrize("by", ["first", "thread"])
def test_a_parent_that_waits_is_found_with_its_child_until_the_child_runs_a_program(
    spawner: Spawner, fifo: Path, by: str
) -> None:
    process = spawner(by)
    until(lambda: sharing_memory(container_pids(process.pid)), "they share their memory")
    [(above, child)] = sharing_memory(container_pids(process.pid))
    assert (above.host_pid, parent(child.host_pid)) == (process.pid, process.pid)
    with fifo.open("wb"):
        until(lambda: not sharing_memory(container_pids(process.pid)), "the program runs")
        assert len(container_pids(process.pid)) == 2


def test_neither_threads_nor_forked_processes_share_their_memory_so() -> None:
    forked = "import os, time\nif os.fork() == 0: print('ready', flush=True)\ntime.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", forked], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            processes = container_pids(process.pid)
            assert len(processes) == 2
            assert sharing_memory(processes) == []
        finally:
            for pid in list(descendants(process.pid)):
                os.kill(pid, 9)


def test_a_parent_outside_of_the_container_does_not_count(spawner: Spawner) -> None:
    process = spawner("first")
    until(lambda: sharing_memory(container_pids(process.pid)), "they share their memory")
    [(_, child)] = sharing_memory(container_pids(process.pid))
    assert sharing_memory([child]) == []


def test_what_is_gone_or_cannot_be_asked_shares_nothing(spawner: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ProcessRef(2**22 + 1, 1)
    assert parent(gone.host_pid) is None
    assert sharing_memory([gone]) == []
    process = spawner("first")
    until(lambda: sharing_memory(container_pids(process.pid)), "they share their memory")
    monkeypatch.setattr(vforks, "_KCMP_NUMBERS", {})
    assert sharing_memory(container_pids(process.pid)) == []
