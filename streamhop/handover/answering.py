"""The target's answers about moves that no task of this daemon is at any more: from the journal."""

from __future__ import annotations

import asyncio

from streamhop.net import PeerSession
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Abort, Aborted, Finish, MoveMessage, Query, Release
from streamhop_protocol.messages import State as StateMessage

from .host import Host, MoveJournal
from .settling_here import abandon_lost
from .states import Role, State

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
    # A higher one is an operator's decision at the source.
    if record is not None and epoch < record.epoch:
        raise UnexpectedError(f"{kind} of epoch {epoch}, not {record.epoch}")
    state = record.state if record else None
    match message:
        case Abort() if state in _NEVER_STARTS:
            await session.send(Aborted(move=message.move, epoch=epoch))
        case Abort() if record is not None and record.lost and epoch > record.epoch:
            await abandon_lost(host, record, epoch)
            await session.send(Aborted(move=message.move, epoch=epoch))
        case Finish():
            if state is State.OPEN:
                await MoveJournal(host.journal, message.move, Role.TARGET, epoch, state).enter(State.DONE)
        case Query() | Release() | Abort():
            name = state.value if state else "unknown"
            await session.send(StateMessage(move=message.move, epoch=epoch, state=name))
        case _:
            raise UnexpectedError(f"{kind} of a move that is not under way here")
