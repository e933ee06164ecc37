"""The source's questions about a move whose end it does not know, asked until the target has answered.

Two cases, both from the journal: GO was sent and no answer came (RELEASED: nobody thaws until the target's durable
word), or the move was aborted while the target could not be told (it may hold a restored image behind its gate).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from streamhop.config import parse_address
from streamhop.net import NetConfig, PeerSession, dial
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Abort, Aborted, Finish, MoveMessage, Query, Release, Started
from streamhop_protocol.messages import State as StateMessage

from .failures import EXPECTED
from .host import Host, MoveJournal
from .journal import Record
from .source_actions import allow_restart, remove_moved, thaw
from .states import Role, State

log = logging.getLogger("streamhop.handover")

RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses between attempts; the last one is repeated."""

ANSWER_S_MAX = 10.0

_STARTED = frozenset({State.OPEN.value, State.DONE.value})
_NEVER_STARTS = frozenset({State.REFUSED.value, State.ABORTED.value})


async def settle(host: Host, record: Record) -> State:
    """Ask until the target's answer ends the move; returns the state it ended in here.

    :param record: the newest record of a move in the role of the source, RELEASED or ABORTED.
    """
    attempt = 0
    while True:
        try:
            state = await _ask(host, record)
        except (TimeoutError, *EXPECTED) as error:
            log.warning("move %s: the peer has not answered: %s", record.move.hex()[:8], error)
        else:
            if state is not None:
                return state
        await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
        attempt += 1


async def _ask(host: Host, record: Record) -> State | None:
    address = parse_address(str(record.details["peer"]))
    session = await dial(address.host, address.port, NetConfig(connections=1), name=host.config.name)
    async with session, asyncio.timeout(ANSWER_S_MAX):
        if record.state is State.ABORTED:
            return await _tell_abort(host, record, session)
        return await _ask_whether_it_runs(host, record, session)


async def _tell_abort(host: Host, record: Record, session: PeerSession) -> State | None:
    await session.send(Abort(move=record.move, epoch=record.epoch, code="failed", reason="the move was aborted"))
    answer = await _answer(record, session)
    if isinstance(answer, StateMessage) and answer.state not in _NEVER_STARTS:
        log.error("move %s: aborted here, but the peer says %s", record.move.hex()[:8], answer.state)
        return None
    journal = MoveJournal(host.journal, record.move, Role.SOURCE, record.epoch, record.state)
    await journal.note(owes_abort=False)
    return State.ABORTED


async def _ask_whether_it_runs(host: Host, record: Record, session: PeerSession) -> State | None:
    await session.send(Query(move=record.move))
    answer = await _answer(record, session)
    if isinstance(answer, StateMessage) and answer.state == State.PREPARED.value:
        digest = bytes.fromhex(str(record.details["image_digest"]))
        await session.send(Release(move=record.move, epoch=record.epoch, image_digest=digest))
        answer = await _answer(record, session)
    journal = MoveJournal(host.journal, record.move, Role.SOURCE, record.epoch, record.state)
    container = str(record.details["container"])
    match answer:
        case Started() | StateMessage(state=State.OPEN.value | State.DONE.value):
            await remove_moved(host.engine, container)
            await journal.enter(State.DONE)
            await session.send(Finish(move=record.move, epoch=record.epoch))
            return State.DONE
        case StateMessage(state=State.REFUSED.value | State.ABORTED.value):
            await journal.enter(State.ABORTED)
            await thaw(host.engine, container)
            await allow_restart(host.engine, container, restart_policy(record))
            return State.ABORTED
    return None


def restart_policy(record: Record) -> Mapping[str, Any]:
    """The restart policy that the container had before the move."""
    policy = record.details.get("restart_policy")
    return policy if isinstance(policy, dict) else {}


async def _answer(record: Record, session: PeerSession) -> MoveMessage:
    message = await session.receive()
    if not isinstance(message, Aborted | Started | StateMessage) or message.move != record.move:
        raise UnexpectedError(f"{type(message).__name__} is no answer to the question about a move")
    return message
