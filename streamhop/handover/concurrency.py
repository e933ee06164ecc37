"""Two things asyncio lacks: a blocking generator read from a thread, and clean-up that a cancel cannot cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar, cast

T = TypeVar("T")

_END = object()


async def in_thread(iterator: Iterator[T]) -> AsyncIterator[T]:
    """Yield what ``iterator`` yields; each step runs in a worker thread, one at a time.

    When the caller stops early, the step under way is waited for, so that the iterator is never left running.
    """
    while (item := await uninterrupted(asyncio.to_thread(next, iterator, _END))) is not _END:
        yield cast("T", item)


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end even if the caller is cancelled meanwhile; the cancel is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:
            if cancelled is None:
                raise
    if cancelled is not None:
        raise cancelled
    return task.result()
