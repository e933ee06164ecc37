"""When the process behind a socket was started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamhop.engine import engine_process
from streamhop.engine.engine_process import started_at

LISTEN = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
    "print(flush=True); sys.stdin.read()"
)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[str, float]]:
    """Where a process of its own listens, and when it was started."""
    path = str(tmp_path / "docker.sock")
    began = time.time()
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", LISTEN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield path, began
        process.kill()


def test_the_listening_process_is_asked(listener: tuple[str, float]) -> None:
    path, began = listener
    found = started_at(f"unix://{path}")
    assert found is not None
    assert began - 0.1 <= found <= time.time()


def test_behind_a_socket_of_the_system_managers_the_pid_file_is_asked(
    listener: tuple[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = listener
    monkeypatch.setattr(engine_process, "_listener", lambda _: 1)
    monkeypatch.setattr(engine_process, "PID_FILE", tmp_path / "docker.pid")
    assert started_at(f"unix://{path}") is None
    (tmp_path / "docker.pid").write_text(f"{os.getpid()}\n")
    found = started_at(f"unix://{path}")
    assert found is not None
    assert found < time.time()
    (tmp_path / "docker.pid").write_text("nonsense")
    assert started_at(f"unix://{path}") is None


@pytest.mark.parametrize("host", ["tcp://10.0.0.1:2375", "unix:///nowhere/docker.sock", ""])
def test_what_cannot_be_seen_is_not_known(host: str) -> None:
    assert started_at(host) is None


def test_a_socket_of_this_process(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "here.sock"))
        server.listen()
        found = started_at(f"unix://{tmp_path}/here.sock")
    assert found is not None
    assert 0 < time.time() - found < 86_400
