"""Moves that did not end as planned, each brought to its end by a task of its own; and an operator's word on them."""

from __future__ import annotations

import asyncio
import logging

from .background import Background
from .concurrency import in_worker
from .errors import MoveError
from .host import Host
from .settling import settle
from .states import RUNS_THERE, Role, State

log = logging.getLogger("streamhop.handover")


class Settlements:
    """At most one task for each move and role that is not settled."""

    def __init__(self, host: Host, background: Background) -> None:
        self._host = host
        self._background = background
        self._running: dict[tuple[bytes, Role], asyncio.Task[State | None]] = {}

    def settle(self, move: bytes, role: Role) -> asyncio.Task[State | None] | None:
        """Do, ask and tell in the background what is left of a move; nothing is, of one that ended as planned.

        :returns: the task; None if the daemon is stopping: the journal keeps it for the next start.
        """
        if self._background.stopping:
            return None
        running = self._running.get((move, role))
        if running is None:
            running = self._background.own(lambda: settle(self._host, move, role))
            self._running[move, role] = running
            running.add_done_callback(lambda _: self._running.pop((move, role), None))
        return running

    def busy(self, move: bytes, role: Role) -> bool:
        """Whether something is being done about a move."""
        return (move, role) in self._running

    async def wait(self, move: bytes, role: Role, seconds: float) -> None:
        """Return when nothing is done about a move any more, or after ``seconds``."""
        running = self._running.get((move, role))
        if running is not None:
            await asyncio.wait({running}, timeout=seconds)

    async def reclaim(self, move: bytes) -> None:
        """Let a container go on here that was released. Two copies run unless the target is fenced off.

        :raises MoveError: it is not in doubt here.
        :raises sqlite3.Error: the decision could not be made durable; nothing was done.
        """
        running = self._running.get((move, Role.SOURCE))
        if running is not None:
            running.cancel()
            await asyncio.wait({running})
        record = await asyncio.to_thread(self._host.journal.latest, move, Role.SOURCE)
        if record is not None and record.details.get(RUNS_THERE):
            self.settle(move, Role.SOURCE)
            raise MoveError("the target has said that it runs there", "see `streamhop handover ls` there")
        if record is None or record.state is not State.RELEASED:
            self.settle(move, Role.SOURCE)
            raise MoveError("only a container whose move is in doubt can be reclaimed", "see `streamhop handover ls`")
        await in_worker(
            self._host.journal.record,
            move,
            Role.SOURCE,
            record.epoch + 1,
            State.ABORTED,
            owes_thaw=True,
            owes_abort=True,
            reclaimed=True,
        )
        log.warning("move %s is reclaimed by an operator, epoch %d", move.hex()[:8], record.epoch + 1)
        self.settle(move, Role.SOURCE)
