"""Every move of this host, in both directions, of earlier daemons too: the way in for the control API and the net."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any

from streamhop.net import PeerSession
from streamhop.telemetry.events import Event

from . import inquiries
from .arrivals import Arrivals
from .background import Background
from .checking import CheckRequest, CheckResult, check
from .concurrency import in_worker
from .errors import MoveError
from .forwards import Forwards
from .host import Host
from .journal import Record
from .kept import Kept
from .means import Means
from .move_ids import UnknownMoveError, find_move
from .operations import IN_DOUBT_PATIENCE_S, MoveRequest, Operation, Operations
from .remembered import Remembered, remembered
from .settlements import Settlements
from .staging import StagedCopy, StageRequest, Staging
from .states import Role, State

EXPIRY_INTERVAL_S = 30.0
"""How often kept content is looked through."""


class Moves:
    """All moves of one host.

    :param tasks: owns every task started here; leaving it waits for them.
    :param means: of this host; None for those of Linux, Docker and CRIU.
    """

    def __init__(self, host: Host, tasks: asyncio.TaskGroup, means: Means | None = None) -> None:
        self._host = host
        means = means or Means()
        self._means = means
        self._background = Background(tasks, host.stopping)
        self._settlements = Settlements(host, self._background)
        self._staging = Staging(host, self._background, means)
        self._operations = Operations(host, tasks, self._background, self._settlements, self._staging, means)
        self._arrivals = Arrivals(host, self._background, self._settlements, means)

    # -- what the parts do -----------------------------------------------------------------------------------------

    async def start(self, request: MoveRequest) -> Operation:
        """See :meth:`Operations.start`."""
        return await self._operations.start(request)

    def cancel(self, move: bytes) -> bool:
        """See :meth:`Operations.cancel`.

        :raises MoveError: it is a move to this host.
        """
        if self._operations.get(move) is None and move in self._arrivals:
            raise MoveError("it comes from another host", "cancel it there")
        return self._operations.cancel(move)

    def settle(self, move: bytes, role: Role) -> asyncio.Task[State | None] | None:
        """See :meth:`Settlements.settle`."""
        return self._settlements.settle(move, role)

    async def on_session(self, session: PeerSession) -> None:
        """See :meth:`Arrivals.on_session`."""
        await self._arrivals.on_session(session)

    async def claim(self, move: bytes) -> None:
        """See :meth:`Arrivals.claim`."""
        await self._arrivals.claim(move)

    async def reclaim(self, move: bytes) -> None:
        """See :meth:`Settlements.reclaim`.

        :raises MoveError: also while an operation of this daemon may still hear from the peer by itself.
        """
        operation = self._operations.get(move)
        if operation is not None and operation.result is None:
            raise MoveError("the move is still under way", "wait until it says that it is in doubt")
        await self._settlements.reclaim(move)

    async def versions(self) -> dict[str, str]:
        """See :func:`inquiries.versions`."""
        return await inquiries.versions(self._host)

    async def containers(self) -> list[dict[str, Any]]:
        """See :func:`inquiries.containers`."""
        return await inquiries.containers(self._host)

    async def peers(self) -> list[dict[str, Any]]:
        """See :func:`inquiries.peers`."""
        return await inquiries.peers(self._host)

    async def check(self, request: CheckRequest) -> CheckResult:
        """See :func:`checking.check`."""
        return await check(self._host, self._means, request)

    # -- what is brought ahead of a move ---------------------------------------------------------------------------

    async def stage(self, request: StageRequest) -> Sequence[StagedCopy]:
        """See :meth:`Staging.stage`."""
        return await self._staging.stage(request)

    async def unstage(self, container: str, peers: Sequence[str]) -> Sequence[StagedCopy]:
        """See :meth:`Staging.unstage`."""
        return await self._staging.unstage(container, peers)

    def staged(self) -> Sequence[StagedCopy]:
        """See :meth:`Staging.copies`."""
        return self._staging.copies()

    # -- what failed moves have left -------------------------------------------------------------------------------

    async def kept(self) -> Sequence[Kept]:
        """Content kept for another attempt, what expires first in front."""
        return await in_worker(self._host.kept.all)

    async def drop_kept(self, key: str) -> bool:
        """Remove kept content; returns False if there is none of that key.

        :raises OSError: something of it is left.
        """
        return await in_worker(self._host.kept.drop, key)

    async def expire_kept(self) -> None:
        """Remove kept content when its time is over; runs until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                await self.kept()
            await asyncio.sleep(EXPIRY_INTERVAL_S)

    async def forward(self) -> None:
        """See :meth:`.Forwards.run`."""
        await self._host.forwards.run()

    @property
    def forwards(self) -> Forwards:
        """What is relayed from here after a move."""
        return self._host.forwards

    def stop(self) -> None:
        """End everything that may be ended: moves not committed are aborted, the others are left to the journal."""
        self._background.stop()
        self._operations.stop()

    # -- finding and telling ---------------------------------------------------------------------------------------

    async def find(self, text: str) -> bytes:
        """The move that a user means by an ID or the beginning of one.

        :raises UnknownMoveError: none, or more than one.
        """
        return find_move(text, [row.move for row in await self._known()])

    async def handovers(self, move: bytes | None = None) -> Sequence[Record]:
        """What the journal remembers of every move, or of one; oldest first."""
        records = await asyncio.to_thread(self._host.journal.all)
        return [record for record in records if move in (None, record.move)]

    def name_of_peer(self, reference: str) -> str:
        """See :meth:`.PeerDirectory.name_of`."""
        return self._host.peers.name_of(reference)

    async def rows(self) -> list[dict[str, Any]]:
        """Every move that is remembered, from here and to here, oldest first."""
        return [self._row(known) for known in await self._known()]

    async def show(self, move: bytes) -> dict[str, Any]:
        """One move, as :meth:`rows` has it.

        :raises UnknownMoveError: it has been forgotten.
        """
        for known in await self._known():
            if known.move == move:
                return self._row(known)
        raise UnknownMoveError(f"there is no move {move.hex()}")

    async def follow(self, move: bytes) -> AsyncIterator[Event]:
        """Yield a move's events until it ends; the last one is ``finished``, and is all there is of some moves.

        :raises UnknownMoveError: it has been forgotten.
        """
        operation = self._operations.get(move)
        at_s = 0.0
        if operation is not None:
            async for event in operation.log.follow():
                at_s = event["at_s"]
                if event["event"] != "finished":
                    yield event
        else:
            await self._arrivals.wait(move)
            for role in Role:
                await self._settlements.wait(move, role, IN_DOUBT_PATIENCE_S)
        # Not as it was told then: what was in doubt may be settled by now.
        try:
            result = (await self.show(move))["result"]
        except sqlite3.Error:
            # On a disk that is full the journal may not be readable; what this daemon has seen itself is known.
            if operation is None or operation.result is None:
                raise
            result = {"id": operation.id, **operation.result}
        yield {"event": "finished", "at_s": at_s, "result": result}

    async def _known(self) -> list[Remembered]:
        journal = self._host.journal
        records = await asyncio.to_thread(journal.all)
        kept = await asyncio.to_thread(journal.operations.all)
        return remembered(records, kept, self._operations)

    def _row(self, known: Remembered) -> dict[str, Any]:
        peer = self._host.peers.name_of(known.peer)
        result = known.result(self._host.config.name, peer)
        return {
            "id": known.move.hex(),
            "role": known.role.value,
            "container": known.container,
            "peer": peer,
            "began_at": _utc(known.began_at),
            "ended_at": None if result is None else _utc(known.ended_at),
            "running": result is None,
            "result": result,
        }


def _utc(at: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 has them."""
    if at is None:
        return None
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
