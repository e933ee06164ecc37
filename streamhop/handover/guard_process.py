"""Entry point of the guard, see :mod:`.guard`. Imports next to nothing: it must not cost a move any time."""

from __future__ import annotations

import signal
import sys

DISMISSED = b"dismissed\n"
"""The daemon's last word on the guard's standard input."""


def main(arguments: list[str]) -> int:
    """Arguments: the journal's file, the daemon's run directory, the move in hexadecimal."""
    # Whoever ends the daemon with all its processes must not end the guard first: it ends by itself.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == DISMISSED:
        return 0
    from .taking_over import take_over_alone

    journal_path, run_dir, move = arguments
    return take_over_alone(journal_path, run_dir, bytes.fromhex(move))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
