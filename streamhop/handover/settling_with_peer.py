"""The source's questions and news about a move whose end one of the two hosts does not know.

Three cases, all from the journal: GO was sent and no answer came (RELEASED: nobody thaws until the target's durable
word); the move was aborted while the target could not be told; it is done, and the target does not know that the copy
here is gone.
"""

from __future__ import annotations

import asyncio
import logging

from streamhop.net import PeerSession
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Abort, Aborted, Finish, MoveMessage, Query, Release, Started
from streamhop_protocol.messages import State as StateMessage

from .concurrency import uninterrupted
from .errors import MoveError
from .host import Host, MoveJournal
from .journal import Record
from .moved_volumes import VOLUMES, end_volumes, owed_volumes
from .settling_here import settle_here
from .source_actions import remove_moved
from .states import KEEPS_CONNECTIONS, OWES_VOLUMES, RUNS_THERE, SYNCED, Role, State

log = logging.getLogger("streamhop.handover")

ANSWER_S_MAX = 10.0

_STARTED = frozenset({State.OPEN.value, State.DONE.value})
_NEVER_STARTS = frozenset({State.REFUSED.value, State.ABORTED.value})
_UNKNOWN = "unknown"


async def settle_with_peer(host: Host, record: Record) -> Record:
    """Ask or tell the target once.

    :param record: the newest record of a move in the role of the source, RELEASED or with a debt to the peer.
    :returns: its newest record now.
    :raises MoveError: the target cannot be reached; repeat it later. So too for the others.
    :raises NotPairedError: it is not trusted any longer.
    :raises TimeoutError: it does not answer.
    :raises ProtocolError: it answers nonsense.
    :raises EngineError: Docker would not do what follows from the answer.
    """
    journal = MoveJournal(host.journal, record.move, Role.SOURCE, record.epoch, record.state, trace=host.trace)
    session = await host.peers.dial(host.peers.find(str(record.details["peer"])), connections=1)
    async with session, asyncio.timeout(ANSWER_S_MAX):
        if record.state is State.RELEASED:
            await _ask_whether_it_runs(host, record, journal, session)
        if record.details.get("owes_abort"):
            await _tell_abort(host, record, journal, session)
        if journal.state is State.DONE:
            await _tell_finish(host, record, journal, session)
    newest = await journal.latest()
    return newest or record


async def _ask_whether_it_runs(host: Host, record: Record, journal: MoveJournal, session: PeerSession) -> None:
    await session.send(Query(move=record.move))
    answer = await _answer(record, session)
    if isinstance(answer, StateMessage) and answer.state == State.PREPARED.value:
        digest = bytes.fromhex(str(record.details["image_digest"]))
        await session.send(Release(move=record.move, epoch=record.epoch, image_digest=digest))
        answer = await _answer(record, session)
    if isinstance(answer, Started) or (isinstance(answer, StateMessage) and answer.state in _STARTED):
        await uninterrupted(_let_go(host, record, journal))
    elif isinstance(answer, StateMessage) and answer.state in _NEVER_STARTS:
        await journal.enter(State.ABORTED, owes_thaw=True)
    if (newest := await journal.latest()) is not None:
        await settle_here(host, newest)


async def _let_go(host: Host, record: Record, journal: MoveJournal) -> None:
    """It runs there: the copy here goes, and nobody may take it back from now on."""
    await journal.note(**{RUNS_THERE: True})
    await _remove_moved(host, record)
    await journal.enter(State.DONE, owes_finish=True, **owed_volumes(record.details.get(VOLUMES)))


async def _remove_moved(host: Host, record: Record) -> None:
    silently = bool(record.details.get(KEEPS_CONNECTIONS))
    await remove_moved(host.engine, str(record.details["container"]), silently=silently)


async def _tell_abort(host: Host, record: Record, journal: MoveJournal, session: PeerSession) -> None:
    code = str(record.details.get("abort_code", MoveError.code))
    await session.send(Abort(move=record.move, epoch=record.epoch, code=code, reason="the move was aborted"))
    answer = await _answer(record, session)
    if isinstance(answer, Aborted) or (isinstance(answer, StateMessage) and answer.state in _NEVER_STARTS):
        await journal.note(owes_abort=False)
        return
    if isinstance(answer, StateMessage) and answer.epoch > record.epoch and answer.state in _STARTED:
        log.warning("move %s was claimed at the target while this host was away: the copy here goes", record.move.hex())
        await _remove_moved(host, record)
        await journal.note(owes_abort=False, owes_thaw=False, claimed_there=True)
        return
    raise UnexpectedError(f"aborted here, but the peer says {getattr(answer, 'state', type(answer).__name__)}")


async def _tell_finish(host: Host, record: Record, journal: MoveJournal, session: PeerSession) -> None:
    await session.send(Finish(move=record.move, epoch=record.epoch))
    await session.send(Query(move=record.move))
    answer = await _answer(record, session)
    # A target that has lost its journal has nothing left to finish.
    if isinstance(answer, StateMessage) and answer.state in (State.DONE.value, _UNKNOWN):
        synced = answer.attributes.get(SYNCED) is True
        await journal.note(owes_finish=False, **{SYNCED: synced})
        newest = await journal.latest()
        await end_volumes(host, journal, newest.details.get(OWES_VOLUMES) if newest else None, synced=synced)


async def _answer(record: Record, session: PeerSession) -> MoveMessage:
    message = await session.receive()
    if not isinstance(message, Aborted | Started | StateMessage) or message.move != record.move:
        raise UnexpectedError(f"{type(message).__name__} is no answer to the question about a move")
    return message
