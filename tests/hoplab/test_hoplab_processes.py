"""Processes are named so that a number used again names nobody."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hoplab.errors import WaitError
from hoplab.processes import ProcessId, wait_for


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])


def test_kill_ends_the_process() -> None:
    with _sleeper() as process:
        named = ProcessId.of(process.pid)
        assert named.alive()
        named.kill()
        assert not named.alive()  # a zombie does not live
        assert process.wait() == -9


def test_a_number_used_again_is_left_alone() -> None:
    with _sleeper() as process:
        other = ProcessId(process.pid, ProcessId.of(process.pid).start_ticks - 1)
        assert not other.alive()
        other.kill()
        assert process.poll() is None
        process.kill()


def test_a_process_that_is_gone() -> None:
    with _sleeper() as process:
        named = ProcessId.of(process.pid)
        process.kill()
        process.wait()
    assert not named.alive()
    named.kill()
    with pytest.raises(ProcessLookupError):
        ProcessId.of(process.pid)


def test_this_process_lives() -> None:
    assert ProcessId.of(os.getpid()).alive()


def test_waiting_returns_what_came() -> None:
    answers = iter([None, None, "here"])
    assert wait_for(lambda: next(answers), "it comes", 5.0, 0.001) == "here"


def test_waiting_ends() -> None:
    with pytest.raises(WaitError, match="it comes: not within"):
        wait_for(lambda: None, "it comes", 0.02, 0.001)
