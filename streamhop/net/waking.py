"""Waiting for something to change, by callbacks that cannot await."""

from __future__ import annotations

import asyncio


class Waker:
    """Whoever waits looks at its condition again after each :meth:`wake`. Cancelling a wait has no effect on others."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Return at the next :meth:`wake`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
