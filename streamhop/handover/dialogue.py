"""The control messages of one move on one session: ours out, the peer's handed to whoever waits for them."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from streamhop.findings import findings_from_wire, found, refusing
from streamhop.net import PeerSession
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Failed, Message, MoveMessage, Refuse
from streamhop_protocol.messages import State as StateMessage

from .errors import MoveError, RefusedError, from_peer
from .states import State

M = TypeVar("M", bound=MoveMessage)


class Dialogue:
    """Run :meth:`listen` beside the work; then :meth:`answer` waits for one kind of message.

    Each kind is expected once. A message of another move, or of a lower epoch, is a protocol error.
    """

    def __init__(self, session: PeerSession, move: bytes, epoch: int) -> None:
        self.session = session
        self.move = move
        self.epoch = epoch
        self._arrived: dict[type[MoveMessage], MoveMessage] = {}
        self._changed = asyncio.Condition()

    async def listen(self) -> None:
        """Take messages until cancelled.

        :raises MoveError: the peer sent FAILED or REFUSE, or that it will never start what it was sent.
        :raises SessionLost: the session ended.
        :raises UnexpectedError: a message of another move or epoch.
        """
        while True:
            await self._take(await self.session.receive())

    async def _take(self, message: Message) -> None:
        if not isinstance(message, MoveMessage):
            raise UnexpectedError(f"{type(message).__name__} does not belong to a move")
        if message.move != self.move:
            raise UnexpectedError(f"{type(message).__name__} of another move")
        if isinstance(message, Refuse):
            raise _refused(message)
        if isinstance(message, Failed):
            raise from_peer(message.code, message.reason, message.fix)
        if isinstance(message, StateMessage) and message.state == State.REFUSED.value:
            raise MoveError("the target could not start it after GO", "look at the target's log")
        epoch = getattr(message, "epoch", self.epoch)
        if epoch != self.epoch:
            raise UnexpectedError(f"{type(message).__name__} of epoch {epoch}, not {self.epoch}")
        async with self._changed:
            self._arrived[type(message)] = message
            self._changed.notify_all()

    async def answer(self, kind: type[M]) -> M:
        """The peer's message of ``kind``, when it is there. Safe to cancel."""
        async with self._changed:
            await self._changed.wait_for(lambda: kind in self._arrived)
            message = self._arrived.pop(kind)
        assert isinstance(message, kind)
        return message


def _refused(refuse: Refuse) -> RefusedError:
    first = found("peer.refused", f"the peer refuses: {refuse.reason}", refuse.fix)
    error = RefusedError.of_several([first, *(found("peer.refused", *other) for other in refuse.others or ())])
    if "findings" in refuse.attributes:
        told = findings_from_wire(refuse.attributes["findings"])
        # Findings of which none refuses do not say why it refuses: its reasons do.
        error.findings = told if refusing(told) else [*error.findings, *told]
    return error
