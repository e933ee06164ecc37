"""A program run in the foreground gets the signals meant for it, once, and tells its end as a shell would."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from hoplab.processes import ProcessId, wait_for

RUN = (
    "import subprocess, sys; from hoplab.foreground import run_in_foreground;"
    "sys.exit(run_in_foreground(lambda **options: subprocess.Popen(sys.argv[1:], **options)))"
)

# Ends a moment after the first signal, with the number of signals as exit code.
COUNT = """
import signal, time
caught = []
signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
print("ready", flush=True)
while not caught:
    time.sleep(0.01)
time.sleep(0.5)
raise SystemExit(len(caught))
"""


@contextmanager
def run(*command: str, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Without a terminal, whatever the tests themselves have; ``before`` starts the caller."""
    argv = [*before, sys.executable, "-c", RUN, *command]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_program_and_what_it_started(number: signal.Signals) -> None:
    # A shell may lose a signal for a child that it is starting: the last one becomes the sleeper itself.
    with run("sh", "-c", "echo $$; sh -c 'echo $$; exec sleep 1000'; true") as process:
        started = [ProcessId.of(int(said(process))) for _ in range(2)]
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        wait_for(lambda: not any(each.alive() for each in started), "all have ended", 10.0)


def test_a_program_that_is_killed() -> None:
    with run("sh", "-c", "kill -KILL $$") as process:
        assert process.wait(10) == 128 + signal.SIGKILL


def test_a_program_may_end_in_its_own_way() -> None:
    with run("sh", "-c", "trap 'exit 7' TERM; echo; while :; do sleep 0.1; done") as process:
        said(process)
        process.terminate()
        assert process.wait(10) == 7


def test_a_signal_that_comes_before_the_program_is_not_lost() -> None:
    program = (
        "import os, signal, subprocess, sys; from hoplab.foreground import run_in_foreground\n"
        "def start(**options):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return subprocess.Popen(['sleep', '1000'], **options)\n"
        "sys.exit(run_in_foreground(start))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=10).returncode == 143


def test_what_the_caller_ignores_the_program_is_not_sent() -> None:
    ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    # The program asks for SIGINT anew; a plain one would inherit that it is ignored.
    with run(sys.executable, "-c", COUNT, before=ignoring) as process:
        assert said(process) == b"ready\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.terminate()
        assert process.wait(10) == 143


def test_the_callers_signals_are_as_before() -> None:
    program = (
        "import signal, subprocess; from hoplab.foreground import run_in_foreground\n"
        "def state(): return signal.pthread_sigmask(signal.SIG_BLOCK, ()), list(map(signal.getsignal, range(1, 32)))\n"
        "before = state()\n"
        "assert run_in_foreground(lambda **options: subprocess.Popen(['true'], **options)) == 0\n"
        "assert state() == before"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=10)


# At a terminal


def at_a_terminal(command: Sequence[str]) -> tuple[int, int]:
    """Start a program as a terminal's foreground; its process and the terminal's other end."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", RUN, *command])  # noqa: S606 - no shell is wanted
    return pid, terminal


def read_until(terminal: int, word: bytes) -> None:
    text = b""
    while word not in text:
        text += os.read(terminal, 1000)


@pytest.mark.parametrize("key", [True, False])
def test_an_interrupt_at_a_terminal_comes_once(*, key: bool) -> None:
    pid, terminal = at_a_terminal([sys.executable, "-c", COUNT])
    try:
        read_until(terminal, b"ready")
        if key:
            os.write(terminal, b"\x03")
        else:
            os.kill(pid, signal.SIGINT)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    finally:
        os.close(terminal)


def test_at_a_terminal_the_program_has_the_keyboard() -> None:
    pid, terminal = at_a_terminal(["sh", "-c", 'echo ready; read line; test "$line" = typed'])
    try:
        read_until(terminal, b"ready")
        os.write(terminal, b"typed\n")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)
