"""Events of one operation, kept for late subscribers and bounded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

EVENTS_KEPT_MAX = 1000
"""Older events are dropped first; the last one, which says how it ended, is always there."""

Event = Mapping[str, Any]


class EventLog:
    """Append-only log of events with any number of followers.

    Followers that fall behind skip what the bound dropped; a slow reader never holds a move up.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[int, Event]] = deque(maxlen=EVENTS_KEPT_MAX)
        self._sequence = 0
        self._started = time.monotonic()
        self._changed = asyncio.Event()
        self._closed = False

    def emit(self, kind: str, **fields: Any) -> None:
        """Record one event: ``kind`` and JSON-able fields; ``at_s`` is seconds since the log was made."""
        event = {"event": kind, "at_s": round(time.monotonic() - self._started, 6), **fields}
        self._events.append((self._sequence, event))
        self._sequence += 1
        self._wake()

    def close(self) -> None:
        """No more events; followers end after the last one."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncIterator[Event]:
        """Yield every event kept so far, then new ones until :meth:`close`."""
        following = 0
        while True:
            changed = self._changed
            pending = [(number, event) for number, event in self._events if number >= following]
            for number, event in pending:
                yield event
                following = number + 1
            if pending:
                continue
            if self._closed:
                return
            await changed.wait()


class Timeline:
    """Named phases of a move with their lengths, by the monotonic clock."""

    def __init__(self) -> None:
        self._origin = time.monotonic()
        self._marks: list[tuple[str, float]] = []

    def mark(self, name: str, at: float | None = None) -> float:
        """Note that phase ``name`` begins; returns seconds since the timeline began.

        :param at: when it began, by the monotonic clock, if not now; not before the phase that came last.
        """
        began = (time.monotonic() if at is None else at) - self._origin
        self._marks.append((name, began))
        return began

    def elapsed_s(self) -> float:
        """Seconds since the timeline began."""
        return time.monotonic() - self._origin

    def phases(self) -> list[dict[str, float | str]]:
        """Each phase with the second it began at and how long it lasted, until the next began."""
        if not self._marks:
            return []
        ends = [start for _, start in self._marks[1:]] + [self.elapsed_s()]
        return [
            {"phase": name, "at_s": round(start, 4), "seconds": round(end - start, 4)}
            for (name, start), end in zip(self._marks, ends, strict=True)
        ]
