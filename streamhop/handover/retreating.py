"""What the source does when a move fails: undo what was done, here first, then tell the target and the user."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from streamhop.engine.docker import EngineError, NotFound
from streamhop.telemetry.events import EventLog
from streamhop_protocol.messages import Abort, Aborted

from .dialogue import Dialogue
from .errors import CancelledMoveError, EndedError, InDoubtError, MoveError, StillFrozenError
from .failures import EXPECTED, as_move_error, first_failure, of_cancel, plain
from .host import Host, MoveJournal
from .settling_here import settle_here
from .states import State

log = logging.getLogger("streamhop.handover")

ABORT_ANSWER_S = 5.0
"""How long the end of a failed move waits for the target to say that it has cleared up."""


class Retreat:
    """The way back from one attempt to move a container.

    :param journal: of the attempt.
    :param container: its ID here.
    """

    def __init__(
        self, host: Host, journal: MoveJournal, move: bytes, epoch: int, container: str, events: EventLog
    ) -> None:
        self._host = host
        self._journal = journal
        self._move = move
        self._epoch = epoch
        self._container = container
        self._events = events
        self.frozen_at = 0.0
        """When the container was frozen, by the monotonic clock."""
        self.runs_there = False
        """Whether the target has said so: then there is no way back."""
        self.complete = True
        """Whether nothing of what was done is yet to be undone here."""

    @property
    def _released(self) -> bool:
        return self._journal.committed

    async def give_up(self, dialogue: Dialogue, cause: BaseException) -> MoveError | None:
        """Undo what was done, source first; returns the error to raise, None if the move is done nevertheless."""
        error = self._explain(first_failure(cause))
        if self._journal.state is State.DONE:
            # What is missing is owed by the journal, and will be done.
            log.warning("move %s is done, but: %s", self._move.hex()[:8], error.reason)
            return None
        if self.runs_there:
            self._events.emit("remark", text=f"it runs there; its old copy here is yet to be removed: {error.reason}")
            return None
        if self._journal.committed:
            return _in_doubt(error, self._move)
        self._events.emit("remark", text="aborting")
        log.warning("move %s is aborted: %s", self._move.hex()[:8], error.reason)
        trouble = await self._undo()
        self.complete = trouble is None
        if self._released:
            # GO was promised, though the promise seemed to fail.
            return _in_doubt(error, self._move)
        if trouble is not None and await self._owes_thaw():
            reason = f"{error.reason}; what was done could not be undone yet: {plain(trouble)}"
            error = StillFrozenError(reason, error)
        elif not isinstance(error, EndedError) and await self._has_ended():
            error = EndedError(f"it ended here while it was being moved ({error.reason})", "docker ps -a shows how")
        # The target is told only what is on disk: one that hears ABORT forgets the move.
        if self._journal.state in (None, State.ABORTED):
            if not await self._tell_target(dialogue, error):
                if isinstance(error, CancelledMoveError):
                    await self.forgo()
            elif self._journal.state is not None:
                with contextlib.suppress(*EXPECTED):
                    await self._journal.note(owes_abort=False)
        return error

    async def forgo(self) -> None:
        """Nobody wants another attempt: owe the target that word, so that it keeps nothing of the container.

        A daemon that stops does not know what anybody wants.
        """
        if self._journal.state is State.ABORTED and not self._host.stopping.is_set():
            with contextlib.suppress(*EXPECTED):
                await self._journal.note(owes_abort=True, abort_code=CancelledMoveError.code)

    async def _has_ended(self) -> bool:
        """Whether the container ended by itself or by somebody's hand, which no thaw can change."""
        try:
            return not (await self._host.engine.inspect_container(self._container))["State"]["Running"]
        except NotFound:
            return True
        except EngineError:
            return False

    async def _owes_thaw(self) -> bool:
        """Whether the container may still be frozen; so too if the journal does not say."""
        try:
            record = await self._journal.latest()
        except EXPECTED:
            return self._journal.state not in (None, State.PRECOPY)
        return record is not None and (record.state is State.FREEZING or bool(record.details.get("owes_thaw")))

    async def _undo(self) -> BaseException | None:
        """Let the container go on here; returns what prevented it."""
        was_frozen = self._journal.state is State.FREEZING
        try:
            record = await self._journal.latest()
            if record is not None:
                await settle_here(self._host, record)
        except EXPECTED as trouble:
            log.error("move %s could not be undone yet: %s", self._move.hex()[:8], plain(trouble))
            return trouble
        else:
            if was_frozen:
                frozen_s = time.monotonic() - self.frozen_at
                self._events.emit("remark", text=f"the container goes on here after {frozen_s:.2f} s")
            return None
        finally:
            with contextlib.suppress(*EXPECTED):
                await self._journal.latest()

    def _explain(self, failure: BaseException) -> MoveError:
        if isinstance(failure, asyncio.CancelledError):
            return of_cancel(stopping=self._host.stopping.is_set())
        if not isinstance(failure, EXPECTED):
            log.error("a bug ended move %s", self._move.hex(), exc_info=failure)
            return MoveError(f"internal error: {failure!r}", "report this, with the daemon's log")
        return as_move_error(failure)

    async def _tell_target(self, dialogue: Dialogue, error: MoveError) -> bool:
        """Send ABORT and wait a little for ABORTED, which says that the target has cleared up."""
        abort = Abort(move=self._move, epoch=self._epoch, code=error.code, reason=error.reason[:1000])
        try:
            async with asyncio.timeout(ABORT_ANSWER_S):
                await dialogue.session.send(abort)
                while True:
                    message = await dialogue.session.receive()
                    if isinstance(message, Aborted) and message.move == self._move:
                        return True
        except (TimeoutError, *EXPECTED):
            return False


def _in_doubt(cause: MoveError, move: bytes) -> InDoubtError:
    return InDoubtError(f"GO was sent and the peer has not confirmed it: {cause.reason}", move)
