"""Moves to this host: begins them, and hands each message of a peer's to the move that it is about."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

from streamhop.net import PeerSession, SessionLost
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Abort, MoveMessage, Offer, Refuse

from .admitting import Checks
from .answering import answer_from_journal
from .background import Background
from .concurrency import uninterrupted
from .errors import MoveError
from .host import Host
from .incoming import IncomingMove
from .journal import Record
from .means import Means
from .offering import CHECK, STAGE
from .settlements import Settlements
from .states import Role, State

log = logging.getLogger("streamhop.handover")

INCOMING_MAX = 8
"""Moves to this host at once; each holds a spool and a Docker start open."""

STAGED_MAX = 4
"""Copies ahead of moves that come at once; they take no place of a move's."""

STAGED_PER_PEER_MAX = 2

INCOMING_PER_PEER_MAX = 6
"""The same from one peer, so that others find a place."""

ENDED_KEPT_MAX = 1000
"""Ended moves kept in the journal, so that a peer's late question is answered."""


class Arrivals:
    """All moves to one host."""

    def __init__(self, host: Host, background: Background, settlements: Settlements, means: Means) -> None:
        self._host = host
        self._means = means
        self._background = background
        self._settlements = settlements
        self._incoming: dict[bytes, IncomingMove] = {}
        self._offered_by: dict[bytes, str] = {}
        """The peer of each, by the reference that stays the same."""
        self._staged: set[bytes] = set()
        """Those of which nothing will be started."""
        self._ended: dict[bytes, asyncio.Event] = {}
        self._checks = Checks(host, means)

    async def on_session(self, session: PeerSession) -> None:
        """Serve one peer's session until it ends.

        :raises ProtocolError: the peer broke the protocol; the session is of no more use.
        """
        try:
            while True:
                message = await session.receive()
                if not isinstance(message, MoveMessage):
                    raise UnexpectedError(f"{type(message).__name__} does not belong to a move")
                await self._dispatch(session, message)
        except SessionLost:
            return
        except sqlite3.Error as error:
            # Nothing is said that is not on disk. The peer hears the end of the session, and asks again.
            log.error("%s is not answered, the journal cannot be used: %s", session.peer_name, error)

    async def _dispatch(self, session: PeerSession, message: MoveMessage) -> None:
        incoming = self._incoming.get(message.move)
        if isinstance(message, Offer) and message.attributes.get(CHECK) is True:
            await self._checks.answer(session, message)
        elif isinstance(message, Offer):
            if incoming is not None:
                incoming.give_way(session, message)
                await self.wait(message.move)
            await self._offered(session, message)
        elif incoming is not None:
            incoming.take(session, message)
        else:
            await answer_from_journal(self._host, session, message)
            if isinstance(message, Abort):
                # An operator's: what is left of the move here may go now.
                self._settlements.settle(message.move, Role.TARGET)

    async def _offered(self, session: PeerSession, offer: Offer) -> None:
        known = await asyncio.to_thread(self._host.journal.latest, offer.move, Role.TARGET)
        if known is not None and not _may_be_tried_again(known, session, offer):
            raise UnexpectedError("a move that is over was offered again")
        if reason := self._why_not_now(session, offer):
            await session.send(
                Refuse(move=offer.move, epoch=offer.epoch, code="refused", reason=reason, fix="try again later")
            )
            return
        if offer.move in self._incoming:
            raise UnexpectedError("a move that is under way was offered again")
        move = IncomingMove(self._host, session, offer, self._means)
        self._incoming[offer.move] = move
        self._offered_by[offer.move] = session.peer_reference
        if offer.attributes.get(STAGE) is True:
            self._staged.add(offer.move)
        self._ended[offer.move] = asyncio.Event()
        self._background.own(lambda: self._take_in(move))

    def _why_not_now(self, session: PeerSession, offer: Offer) -> str:
        """Why nothing can be taken in at the moment; empty if it can."""
        if self._background.stopping:
            return "the daemon is stopping"
        if self._settlements.busy(offer.move, Role.TARGET):
            # What settles an earlier attempt would take this one for it.
            return "an earlier attempt of this move is still being cleared up"
        staged = offer.attributes.get(STAGE) is True
        alike = [self._offered_by[move] for move in self._incoming if (move in self._staged) == staged]
        what = "copies" if staged else "moves"
        at_once_max, per_peer_max = (
            (STAGED_MAX, STAGED_PER_PEER_MAX) if staged else (INCOMING_MAX, INCOMING_PER_PEER_MAX)
        )
        if len(alike) >= at_once_max:
            return f"{at_once_max} {what} to this host are under way"
        if alike.count(session.peer_reference) >= per_peer_max:
            return f"{per_peer_max} {what} from the same host are under way"
        return ""

    async def _take_in(self, move: IncomingMove) -> None:
        try:
            await move.run()
        except Exception:
            log.exception("a bug ended move %s", move.id.hex()[:8])
        finally:
            await uninterrupted(self._hand_to_journal(move))
        try:
            await asyncio.to_thread(self._host.journal.forget_ended, ENDED_KEPT_MAX)
        except sqlite3.Error as error:
            # It is tried again after the next move.
            log.error("the journal cannot be kept short: %s", error)

    async def _hand_to_journal(self, move: IncomingMove) -> None:
        """From here on the journal answers for the move; what is left of it is settled, or another attempt begins."""
        unsettled = True
        try:
            record = await asyncio.to_thread(self._host.journal.latest, move.id, Role.TARGET)
            unsettled = record is not None and record.unsettled
        except sqlite3.Error as error:
            log.error("move %s: what is left of it cannot be read yet: %s", move.id.hex()[:8], error)
        del self._incoming[move.id]
        self._offered_by.pop(move.id, None)
        self._staged.discard(move.id)
        for session, message in move.leftovers():
            try:
                await answer_from_journal(self._host, session, message)
            except (SessionLost, UnexpectedError, sqlite3.Error) as error:
                log.info("move %s: %s is not answered: %s", move.id.hex()[:8], type(message).__name__, error)
        if unsettled:
            self._settlements.settle(move.id, Role.TARGET)
        self._ended.pop(move.id).set()

    def __contains__(self, move: bytes) -> bool:
        """Whether the move is under way to this host."""
        return move in self._incoming

    async def wait(self, move: bytes) -> None:
        """Return when the move is not under way to this host any more."""
        ended = self._ended.get(move)
        if ended is not None:
            await ended.wait()

    async def claim(self, move: bytes) -> None:
        """Start a container here that waits for GO. Two copies run unless the source is fenced off.

        :raises MoveError: it does not wait for GO here, or Docker does not answer.
        """
        incoming = self._incoming.get(move)
        if incoming is None:
            raise MoveError("no such move waits for GO here", "see `streamhop handover ls`")
        await incoming.claim()


def _may_be_tried_again(known: Record, session: PeerSession, offer: Offer) -> bool:
    """Whether ``offer`` is another attempt of a move that has failed here."""
    over = known.state in (State.ABORTED, State.REFUSED)
    return over and offer.epoch > known.epoch and known.details.get("peer") == session.peer_reference
