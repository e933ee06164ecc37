"""Processes of a container are found by tree and namespace, and killed all together."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator

import pytest

from streamhop.engine.processes import ProcessRef, container_pids, descendants, kill_all, resident_bytes

SCRIPT = "sleep 1000 & (sleep 1000 & echo ready; wait) & wait"


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[str]]:
    """A shell with children, in this PID namespace."""
    with subprocess.Popen(["sh", "-c", SCRIPT], stdout=subprocess.PIPE, text=True, start_new_session=True) as shell:
        assert shell.stdout is not None
        try:
            assert shell.stdout.readline() == "ready\n"
            yield shell
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)


@pytest.fixture
def container() -> Iterator[int]:
    """The first process of a PID namespace with three more processes; its number here."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as outside:
        assert outside.stdout is not None
        try:
            assert outside.stdout.readline() == "ready\n"
            yield next(pid for pid in descendants(outside.pid) if pid != outside.pid)
        finally:
            outside.kill()


def test_descendants_of_a_tree(tree: subprocess.Popen[str]) -> None:
    assert len(list(descendants(tree.pid))) == 4


def test_without_a_namespace_of_its_own_only_descendants_count(tree: subprocess.Popen[str]) -> None:
    found = container_pids(tree.pid)
    assert {process.host_pid for process in found} == set(descendants(tree.pid))
    assert os.getpid() not in {process.host_pid for process in found}


def test_never_kills_what_has_no_namespace_of_its_own(tree: subprocess.Popen[str]) -> None:
    with pytest.raises(PermissionError):
        kill_all(tree.pid, signal.SIGKILL)
    assert tree.poll() is None


def test_a_process_that_is_gone_has_no_processes(tree: subprocess.Popen[str]) -> None:
    assert container_pids(tree.pid) != []
    os.killpg(tree.pid, signal.SIGKILL)
    tree.wait()
    assert container_pids(tree.pid) == []


def test_resident_bytes_of_this_process() -> None:
    block = bytearray(os.urandom(8 << 20))
    assert resident_bytes(container_pids(os.getpid())[:1]) > len(block)
    assert resident_bytes([ProcessRef(2**22 + 1, 1)]) == 0


@pytest.mark.root
def test_numbers_in_the_container_and_processes_brought_in_from_outside(container: int) -> None:
    inside = ["nsenter", "--target", str(container), "--pid", "sh", "-c", "echo ready; sleep 1000"]
    with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as brought_in:
        assert brought_in.stdout is not None
        try:
            assert brought_in.stdout.readline() == "ready\n"
            found = container_pids(container)
        finally:
            # nsenter forks: the shell in the container goes when the container goes
            brought_in.kill()
    assert found[0] == ProcessRef(container, 1)
    numbers = [process.ns_pid for process in found]
    assert numbers == sorted(set(numbers))
    # three of its own, the shell brought in and that one's sleep, which may not have begun
    assert len(numbers) >= 5


@pytest.mark.root
def test_kills_every_process(container: int) -> None:
    fds = [os.pidfd_open(process.host_pid) for process in container_pids(container)]
    kill_all(container, signal.SIGKILL)
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    waiting = set(fds)
    while waiting:
        ended = {fd for fd, _ in poll.poll(5000)}
        assert ended
        for fd in ended & waiting:
            poll.unregister(fd)
        waiting -= ended
    for fd in fds:
        os.close(fd)
