"""A move goes on when its link does: another attempt under the next epoch, from what the target has kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from streamhop.net import ClosedUnansweredError
from streamhop.telemetry.events import EventLog

from .concurrency import concluded
from .errors import UnpairedError, UnreachableError
from .outgoing import FIRST_EPOCH, OutgoingMove
from .report import Tally

PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Between attempts to connect; the last one is repeated."""

ATTEMPTS_MAX = 20
"""Attempts that connect: each may have frozen the container for a moment."""


async def move_with_reconnects(
    begin: Callable[[int], OutgoingMove],
    patience_s: float,
    events: EventLog,
    tally: Tally,
    *,
    unwanted: Callable[[], bool],
) -> dict[str, Any]:
    """Run attempts until one moves the container, or fails by more than the link; returns the report.

    A first attempt that does not even connect fails at once: then it is more likely that nobody is there. A peer that
    closes the connection before it answers may be one that is not paired; one that has been reached in this move is
    more likely behind a link that broke again.

    :param begin: makes the attempt of an epoch.
    :param patience_s: how long a link may be down before the move fails.
    :param unwanted: whether no other attempt is to be made: a cancel that comes while one clears up is lost on it.
    :raises MoveError: as :meth:`.OutgoingMove.run`.
    """
    move = begin(FIRST_EPOCH)
    attempts, tries, down_since = 0, 0, 0.0
    last_connected: OutgoingMove | None = None
    try:
        while True:
            try:
                return await move.run()
            except (UnreachableError, UnpairedError) as error:
                # Not by the task's count of cancels: the TaskGroup of Python 3.11 leaves some there that nobody made.
                if unwanted():
                    last_connected = move if move.connected else last_connected
                    raise asyncio.CancelledError from error
                may_be_the_link = attempts > 0 and isinstance(error.__cause__, ClosedUnansweredError)
                if isinstance(error, UnpairedError) and not may_be_the_link:
                    raise
                now = time.monotonic()
                if move.connected:
                    last_connected = move
                    attempts, tries, down_since = attempts + 1, 0, now
                pause_s = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
                tries += 1
                hopeless = not attempts or attempts >= ATTEMPTS_MAX or (move.connected and not move.may_be_repeated)
                if hopeless or now - down_since + pause_s > patience_s:
                    raise
                if move.connected:
                    events.emit("remark", text=f"{error.reason}; the container runs on here, trying to go on")
                await asyncio.sleep(pause_s)
                tally.reconnects = attempts
                move = begin(FIRST_EPOCH + attempts)
    except asyncio.CancelledError:
        await concluded(_forgo(last_connected))
        raise


async def _forgo(last_connected: OutgoingMove | None) -> None:
    """It was cancelled between two attempts: the target has kept what the last one brought."""
    if last_connected is not None:
        await last_connected.forgo()
