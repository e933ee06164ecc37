"""The daemon, made to stand still at a record of its journal when it is asked to. Runs in a host.

The file :data:`REQUEST` says where: ``before`` or ``after``, and a state. There the process stops itself by SIGSTOP,
once; whoever asked breaks something and lets it go on by SIGCONT, or never.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

from streamhop.cli import main as streamhop
from streamhop.handover.journal import Journal
from streamhop.handover.states import Role, State

REQUEST = "/run/faults-hold"


def stop_if_asked(moment: str, state: State) -> None:
    """Stand still if this is the place."""
    request = Path(REQUEST)
    try:
        if request.read_text(encoding="ascii").split() != [moment, state.value]:
            return
        request.unlink()
    except FileNotFoundError:
        return
    # To this thread: one sent to the process may be taken by another thread, while this one goes on into its write.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class HeldJournal(Journal):
    """A journal that can be held around each of its records."""

    def record(self, move: bytes, role: Role, epoch: int, state: State, **details: Any) -> None:
        """As the journal's own."""
        # Under the lock: no other thread is in the middle of a write, which would lock the file for its readers too.
        with self._lock:
            stop_if_asked("before", state)
        super().record(move, role, epoch, state, **details)
        with self._lock:
            stop_if_asked("after", state)


def main() -> None:
    """Entry of the program: ``streamhop`` with that journal."""
    from streamhop import daemon

    daemon.Journal = HeldJournal  # type: ignore[attr-defined]
    streamhop()


if __name__ == "__main__":
    main()
