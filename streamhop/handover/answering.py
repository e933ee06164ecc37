"""The target's answers about moves that no task of this daemon is at any more: from the journal."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from streamhop.net import PeerSession
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Abort, Aborted, Finish, MoveMessage, Query, Release
from streamhop_protocol.messages import State as StateMessage

from .concurrency import in_worker
from .errors import CancelledMoveError
from .failures import EXPECTED, plain
from .host import Host, MoveJournal
from .journal import Record
from .states import SYNCED, Role, State

log = logging.getLogger("streamhop.handover")

_NEVER_STARTS = frozenset({None, State.ABORTED, State.REFUSED})


async def answer_from_journal(host: Host, session: PeerSession, message: MoveMessage) -> None:
    """Answer a message about a move that is over, or that this host knows nothing of.

    :raises sqlite3.Error: the journal could not be written; nothing was said.
    :raises UnexpectedError: another peer offered the move, another epoch, or a message that is no question.
    """
    record = await asyncio.to_thread(host.journal.latest, message.move, Role.TARGET)
    kind = type(message).__name__
    if record is not None and record.details.get("peer") != session.peer_reference:
        raise UnexpectedError(f"{kind} of a move that another peer offered")
    epoch = getattr(message, "epoch", record.epoch if record else 1)
    if record is not None and epoch < record.epoch:
        if isinstance(message, Abort):
            # The source was away while an operator claimed the move here, and has to hear of it.
            await session.send(StateMessage(move=message.move, epoch=record.epoch, state=record.state.value))
            return
        if isinstance(message, Finish) and record.details.get("claimed"):
            # The source was away then; it has asked since, and heard that it runs here.
            await _finish(host, record)
            return
        raise UnexpectedError(f"{kind} of epoch {epoch}, not {record.epoch}")
    if record is not None and epoch > record.epoch and isinstance(message, Abort):
        record = await _give_way(host, record, epoch)
    state = record.state if record else None
    match message:
        case Abort() if state in _NEVER_STARTS:
            if record is not None and message.code == CancelledMoveError.code:
                await _drop_kept(host, record)
            await session.send(Aborted(move=message.move, epoch=epoch))
        case Finish():
            if record is not None:
                await _finish(host, record)
        case Query() | Release() | Abort():
            name = state.value if state else "unknown"
            attributes = await _health(host, record) if isinstance(message, Query) else {}
            if record is not None and record.details.get(SYNCED):
                attributes[SYNCED] = True
            await session.send(StateMessage(move=message.move, epoch=epoch, state=name, attributes=attributes))
        case _:
            raise UnexpectedError(f"{kind} of a move that is not under way here")


async def _finish(host: Host, record: Record) -> None:
    """The source's copy is gone."""
    if record.state is State.OPEN:
        journal = MoveJournal(host.journal, record.move, Role.TARGET, record.epoch, record.state, trace=host.trace)
        await journal.enter(State.DONE)


async def _drop_kept(host: Host, record: Record) -> None:
    """Nobody wants the move any more, so nothing of the container need stay here for another attempt."""
    try:
        await in_worker(host.kept.drop, str(record.details.get("kept")))
    except OSError as error:
        log.warning("move %s: what was kept of it expires later: %s", record.move.hex()[:8], plain(error))


async def _health(host: Host, record: Record | None) -> dict[str, Any]:
    """How a container that runs here is, as an attribute of STATE; empty if it cannot be said."""
    if record is None or record.state not in (State.OPEN, State.DONE) or "container" not in record.details:
        return {}
    try:
        found = (await host.engine.inspect_container(str(record.details["container"])))["State"]
    except EXPECTED:
        return {}
    return {"health": str((found.get("Health") or {}).get("Status", "none"))}


async def _give_way(host: Host, record: Record, epoch: int) -> Record:
    """An operator has reclaimed the move at the source while this host was away: what runs or ran here has to go.

    :returns: the record now. The removal is owed by it.
    :raises sqlite3.Error: the journal could not be written.
    """
    if record.state not in (State.OWNED, State.OPEN):
        return record
    log.warning("move %s was reclaimed at the source while this host was away: it goes here", record.move.hex())
    journal = MoveJournal(host.journal, record.move, Role.TARGET, epoch, record.state, trace=host.trace)
    await journal.enter(State.ABORTED, owes_settling_in=False, owes_removal=True)
    return await journal.latest() or record
