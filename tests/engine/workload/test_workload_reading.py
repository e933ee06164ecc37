"""The reader, on real processes: what they hold is found, and what vanishes is passed over."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamhop.engine import processes
from streamhop.engine.workload import inspect_workload, reading
from streamhop.engine.workload.reading import read_workload

pytestmark = pytest.mark.root

IO_URING_SETUP = 425


@contextmanager
def program(text: str) -> Iterator[int]:
    """A Python program that says ``ready`` and then waits; its process ID."""
    command = [
        sys.executable,
        "-c",
        f"import os, sys, time, socket, mmap, ctypes\n{text}\nprint('ready', flush=True)\ntime.sleep(60)",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            yield child.pid
        finally:
            child.kill()


def found(pid: int) -> dict[str, str]:
    """Findings but those about the mounts, which are this machine's."""
    return {f.id: f.reason for f in inspect_workload(pid, ()) if f.id != "workload.mount"}


def test_a_plain_program_has_nothing_in_the_way() -> None:
    with program(
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); p = os.pipe(); a = socket.socketpair()"
    ) as pid:
        assert found(pid) == {}


def test_io_uring() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    trial = libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(256))
    if trial < 0:
        pytest.fail(f"this kernel has no io_uring to test with: {os.strerror(ctypes.get_errno())}")
    os.close(trial)
    setup = f"fd = ctypes.CDLL(None).syscall({IO_URING_SETUP}, 4, ctypes.create_string_buffer(256))"
    code = f"{setup}; ring = mmap.mmap(fd, 4096)"
    with program(code) as pid:
        reasons = [f.reason for f in inspect_workload(pid, ()) if f.id == "workload.io-uring"]
    assert any("descriptor" in reason and "mapped" in reason for reason in reasons)


def test_devices_and_other_descriptors() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with program("d = os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)") as pid:
        assert "/dev/kmsg (1:11)" in found(pid)["workload.device"]
    with program("s = socket.socket(40, socket.SOCK_STREAM)") as pid:
        assert "AF_VSOCK" in found(pid)["workload.socket"]
    userfaultfd = {"x86_64": 323, "aarch64": 282}[platform.machine()]
    fd = libc.syscall(userfaultfd, os.O_CLOEXEC)
    if fd >= 0:
        os.close(fd)
        with program(f"fd = ctypes.CDLL(None).syscall({userfaultfd}, 0)") as pid:
            assert "userfaultfd" in found(pid)["workload.descriptor"]


def test_a_large_deleted_file(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with program(
        f"f = open({str(path)!r}, 'wb'); f.write(b'x' * (3 << 20)); f.flush(); os.unlink({str(path)!r})"
    ) as pid:
        assert "3 MiB" in found(pid)["workload.ghost-file"]


def test_a_unix_socket_in_a_network_namespace_of_its_own_whose_peer_is_outside(tmp_path: Path) -> None:
    """As a container with docker.sock mounted has it: the file is shared, the network namespace is not."""
    path = tmp_path / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        inside = "a, b = socket.socketpair()"
        connect = f"s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})"
        unshare = "assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0"
        with program(f"{unshare}\n{inside}\n{connect}") as pid:
            connection, _ = server.accept()
            with connection:
                assert "connected to a program outside" in found(pid)["workload.unix-peer"]
        with program(f"{unshare}\n{inside}") as pid:
            assert found(pid) == {}


def test_a_traced_process() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with program("") as pid:
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        assert libc.ptrace(0x4206, pid, None, None) == 0, os.strerror(ctypes.get_errno())  # PTRACE_SEIZE
        try:
            assert f"traced by process {os.getpid()}" in found(pid)["workload.traced"]
        finally:
            libc.ptrace(0x4207, pid, None, None)  # PTRACE_INTERRUPT
            os.waitpid(pid, 0x40000000)
            libc.ptrace(17, pid, None, None)  # PTRACE_DETACH


def test_a_nested_namespace() -> None:
    with program("assert ctypes.CDLL(None).unshare(0x4000000) == 0\nif os.fork() == 0: time.sleep(60)") as pid:
        assert found(pid) == {}, "its first process is in it, too"
    child = "assert ctypes.CDLL(None).unshare(0x4000000) == 0; os.write(w, b'x'); time.sleep(60)"
    code = f"r, w = os.pipe()\nif os.fork() == 0:\n    {child}\nos.read(r, 1)"
    with program(code) as pid:
        try:
            assert "UTS namespace" in found(pid)["workload.namespace"]
        finally:
            for child in list(processes.descendants(pid))[1:]:
                os.kill(child, signal.SIGKILL)


def test_a_mapped_deleted_file(tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(b"x" * (2 << 20))
    code = f"f = open({str(path)!r}, 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close(); os.unlink({str(path)!r})"
    with program(code) as pid:
        assert "mapped" in found(pid)["workload.ghost-file"]


def test_a_container_that_is_gone_is_nothing_to_look_at() -> None:
    with program("") as pid:
        pass
    workload = read_workload(pid, ())
    assert (list(workload.processes), list(workload.unseen)) == ([], [])


def test_what_vanishes_while_it_is_read_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each file of a process, gone at the moment it is opened."""
    readlink, stat = os.readlink, os.stat

    def gone(path: object, **_: object) -> None:
        raise ProcessLookupError(3, "No such process")

    with program("") as pid:
        monkeypatch.setattr(reading.os, "readlink", lambda p: gone(p) if "/fd/" in str(p) else readlink(p))
        assert found(pid) == {}
        monkeypatch.setattr(reading.os, "readlink", readlink)
        monkeypatch.setattr(reading.os, "stat", lambda p, **k: gone(p) if "/fd/" in str(p) else stat(p, **k))
        assert found(pid) == {}


def test_what_may_not_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with program("") as pid:
        monkeypatch.setattr(reading.os, "readlink", denied)
        assert found(pid) == {"workload.unseen": "not everything could be looked at: descriptors: Permission denied"}


def test_bounds_are_told_when_they_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    with program("files = [os.open('/dev/null', os.O_RDONLY) for _ in range(20)]") as pid:
        monkeypatch.setattr(reading, "DESCRIPTORS_MAX", 5)
        assert "descriptors beyond the first 5" in found(pid)["workload.unseen"]


def test_ten_thousand_descriptors_take_little_time() -> None:
    """A preflight must not be felt: it is the first step of every move and of every copy that is refreshed."""
    with program(
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (10100, 10100))\n"
        "files = [os.open('/dev/null', os.O_RDONLY) for _ in range(10000)]"
    ) as pid:
        began = time.process_time()
        assert found(pid) == {}
        assert time.process_time() - began < 3


def test_nothing_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with program("a = socket.socketpair()") as pid:
        inspect_workload(pid, ())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_shared_mapping_of_memory_is_ordinary() -> None:
    with program(f"m = mmap.mmap(-1, {mmap.PAGESIZE})") as pid:
        assert found(pid) == {}
