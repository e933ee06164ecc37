"""Run a program in one's own place, as a shell does: signals sent to the caller are for the program."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

_SI_KERNEL = 0x80
"""``si_code`` of a signal that no process sent, see sigaction(2): from the keyboard of a terminal, for one."""


def run_in_foreground(start: Callable[..., subprocess.Popen[bytes]]) -> int:
    """Run a program to its end. SIGHUP, SIGINT and SIGTERM are passed on to it, and do nothing else.

    Must be called in the main thread.

    :param start: starts the program with the options for :class:`subprocess.Popen` it is given.
    :returns: the exit code as a shell has it: 128 + N if signal N ended the program.
    :raises OSError: the program cannot be started.
    """
    passed_on = {number for number in PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN}
    watched = passed_on | {signal.SIGCHLD}
    # A group of its own lets a signal reach all that the program started. At a terminal it would lose the keyboard.
    own_group = not _at_a_terminal()
    # A program inherits blocked signals, but no handlers: until it is started, note what comes.
    early: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: early.append(number)) for number in passed_on}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        process = start(process_group=0 if own_group else None)
        send = partial(os.killpg, process.pid) if own_group else process.send_signal
        signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        for number in early:
            send(number)
        while process.poll() is None:
            # Another thread may get the SIGCHLD, so do not rely on it alone.
            received = signal.sigtimedwait(watched, 1.0)
            if received is None or received.si_signo == signal.SIGCHLD:
                continue
            if own_group or received.si_code != _SI_KERNEL:  # else the terminal sent it to the program too
                send(received.si_signo)
    finally:
        # In this order: what comes too late for the program is not for us.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _at_a_terminal() -> bool:
    """Whether this process is in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
