"""Tasks of the daemon's own that no user waits for, and the one switch that ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger("streamhop.handover")


class Background:
    """Owner of background tasks.

    :param tasks: owns every task started here; leaving it waits for them.
    :param stopping: see :class:`.Host`.
    """

    def __init__(self, tasks: asyncio.TaskGroup, stopping: asyncio.Event) -> None:
        self._tasks = tasks
        self._stopping = stopping
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def stopping(self) -> bool:
        """Whether the daemon ends: nothing new begins."""
        return self._stopping.is_set()

    def own(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T | None]:
        """Start ``work``. A bug in it is logged and ends it alone: one move must not end the daemon."""
        task = self._tasks.create_task(_survived(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def stop(self) -> None:
        """Cancel everything, and begin nothing any more."""
        self._stopping.set()
        for task in self._running:
            task.cancel()


async def _survived(work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    try:
        return await work()
    except Exception:
        log.exception("a bug ended a background task")
        return None
