"""A move goes on when its link does, for as long as the user is ready to wait, and for no other reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streamhop.handover import reconnecting
from streamhop.handover.errors import ContentError, UnpairedError, UnreachableError
from streamhop.handover.outgoing import OutgoingMove
from streamhop.handover.reconnecting import ATTEMPTS_MAX, move_with_reconnects
from streamhop.handover.report import Tally
from streamhop.net import ClosedUnansweredError, UntrustedError
from streamhop.telemetry.events import EventLog


class Attempt:
    """Ends as it is told to."""

    def __init__(self, end: BaseException | None, *, connected: bool, may_be_repeated: bool = True) -> None:
        self._end = end
        self.connected = connected
        self.may_be_repeated = may_be_repeated
        self.forgone = 0

    async def forgo(self) -> None:
        self.forgone += 1

    async def run(self) -> dict[str, Any]:
        if self._end is not None:
            raise self._end
        return {"outcome": "moved"}


LOST = UnreachableError("the link broke")
NOBODY = UnreachableError("nobody there")


def closed_unanswered() -> UnpairedError:
    """As :meth:`OutgoingMove.run` raises it."""
    error = UnpairedError("closed the connection")
    error.__cause__ = ClosedUnansweredError("closed the connection")
    return error


class Moves:
    """Gives out attempts one after the other; time passes only where the code pauses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *attempts: Attempt) -> None:
        self.left = list(attempts)
        self.epochs: list[int] = []
        self.now = 0.0
        self.unwanted = False
        self.tally = Tally()
        monkeypatch.setattr(reconnecting, "time", type("Clock", (), {"monotonic": lambda: self.now}))
        monkeypatch.setattr(asyncio, "sleep", self._pause)

    async def _pause(self, seconds: float) -> None:
        self.now += seconds

    def begin(self, epoch: int) -> Any:
        self.epochs.append(epoch)
        return self.left.pop(0)

    async def run(self, patience_s: float) -> dict[str, Any]:
        begin: Callable[[int], OutgoingMove] = self.begin
        return await move_with_reconnects(begin, patience_s, EventLog(), self.tally, unwanted=lambda: self.unwanted)


async def test_a_broken_link_is_another_attempt_of_the_next_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves(
        monkeypatch,
        Attempt(LOST, connected=True),
        Attempt(NOBODY, connected=False),
        Attempt(LOST, connected=True),
        Attempt(None, connected=True),
    )
    assert await moves.run(60.0) == {"outcome": "moved"}
    assert moves.epochs == [1, 2, 2, 3]
    assert moves.tally.reconnects == 2


async def test_a_peer_that_was_never_reached_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves(monkeypatch, Attempt(NOBODY, connected=False))
    with pytest.raises(UnreachableError, match="nobody there"):
        await moves.run(60.0)


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves(monkeypatch, Attempt(LOST, connected=True), *[Attempt(NOBODY, connected=False)] * 100)
    with pytest.raises(UnreachableError):
        await moves.run(60.0)
    assert 50.0 <= moves.now <= 60.0


@pytest.mark.parametrize("patience_s", [0.0, 0.4])
async def test_without_patience_the_first_break_ends_it(monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
    moves = Moves(monkeypatch, Attempt(LOST, connected=True))
    with pytest.raises(UnreachableError):
        await moves.run(patience_s)
    assert moves.now == 0.0


async def test_a_link_that_breaks_again_and_again_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves(monkeypatch, *[Attempt(LOST, connected=True)] * 100)
    with pytest.raises(UnreachableError):
        await moves.run(60.0)
    assert moves.epochs == list(range(1, ATTEMPTS_MAX + 1))


async def test_other_failures_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves(monkeypatch, Attempt(ContentError("flipped"), connected=True))
    with pytest.raises(ContentError):
        await moves.run(60.0)


async def test_a_peer_that_was_reached_and_closes_without_an_answer_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A link that breaks in the handshake ended the move as not paired."""
    moves = Moves(
        monkeypatch,
        Attempt(LOST, connected=True),
        Attempt(closed_unanswered(), connected=False),
        Attempt(None, connected=True),
    )
    assert await moves.run(60.0) == {"outcome": "moved"}
    assert moves.epochs == [1, 2, 2]


async def test_a_peer_that_goes_on_closing_is_not_paired_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves(monkeypatch, Attempt(LOST, connected=True), *[Attempt(closed_unanswered(), connected=False)] * 100)
    with pytest.raises(UnpairedError):
        await moves.run(60.0)
    assert 50.0 <= moves.now <= 60.0


async def test_a_peer_that_was_never_reached_and_closes_is_not_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves(monkeypatch, Attempt(closed_unanswered(), connected=False))
    with pytest.raises(UnpairedError):
        await moves.run(60.0)
    assert moves.now == 0.0


async def test_another_device_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UnpairedError("another device")
    error.__cause__ = UntrustedError("another device")
    moves = Moves(monkeypatch, Attempt(LOST, connected=True), Attempt(error, connected=False))
    with pytest.raises(UnpairedError):
        await moves.run(60.0)
    assert moves.epochs == [1, 2]


async def test_a_container_that_does_not_run_here_as_before_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves(monkeypatch, Attempt(LOST, connected=True, may_be_repeated=False))
    with pytest.raises(UnreachableError):
        await moves.run(60.0)
    assert moves.epochs == [1]


@pytest.mark.parametrize("while_dialing", [True, False])
async def test_a_cancel_between_attempts_is_owed_to_the_peer_that_was_reached(
    monkeypatch: pytest.MonkeyPatch, *, while_dialing: bool
) -> None:
    """P13: it has kept what came."""
    reached = Attempt(LOST, connected=True)
    moves = Moves(monkeypatch, reached, Attempt(asyncio.CancelledError(), connected=False))
    if not while_dialing:

        async def cancelled(_: float) -> None:
            raise asyncio.CancelledError

        monkeypatch.setattr(asyncio, "sleep", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await moves.run(60.0)
    assert reached.forgone == 1


async def test_a_cancel_of_the_first_attempt_owes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Attempt(asyncio.CancelledError(), connected=True)
    with pytest.raises(asyncio.CancelledError):
        await Moves(monkeypatch, first).run(60.0)
    assert first.forgone == 0


async def test_a_cancel_while_the_link_s_end_is_put_in_order_ends_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: the attempt itself must finish what it puts in order; then there is no other."""
    first = Attempt(LOST, connected=True)
    moves = Moves(monkeypatch, first)

    async def cancelled_and_ends_with_its_own_failure() -> dict[str, Any]:
        moves.unwanted = running.cancel()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LOST from None
        return {}

    monkeypatch.setattr(first, "run", cancelled_and_ends_with_its_own_failure)
    running = asyncio.ensure_future(moves.run(60.0))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (moves.epochs, first.forgone) == ([1], 1)


async def test_a_group_that_fails_as_it_is_left_is_no_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: Python 3.11 leaves the task with a count of cancels that nobody made; no other attempt was made."""
    first = Attempt(LOST, connected=True)
    moves = Moves(monkeypatch, first, Attempt(None, connected=True))

    async def lost_while_a_group_is_left() -> dict[str, Any]:
        async def lose() -> None:
            raise LOST

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(lose())
        except* UnreachableError:
            pass
        raise LOST

    monkeypatch.setattr(first, "run", lost_while_a_group_is_left)
    assert await moves.run(60.0) == {"outcome": "moved"}
    assert moves.epochs == [1, 2]
