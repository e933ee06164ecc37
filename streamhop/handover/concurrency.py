"""What asyncio lacks: work that a cancel cannot cut short, and threads that are not left running by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")

_END = object()


async def in_thread(iterator: Iterator[T]) -> AsyncIterator[T]:
    """Yield what ``iterator`` yields; each step runs in a worker thread, one at a time.

    When the caller stops early, the step under way is waited for, so that the iterator is never left running.
    """
    while (item := await in_worker(next, iterator, _END)) is not _END:
        yield cast("T", item)


async def in_worker(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """``function``'s result, from a worker thread. A cancel waits for it: a thread cannot be ended from outside."""
    return await uninterrupted(asyncio.to_thread(function, *args, **kwargs))


async def in_own_thread(function: Callable[[], T]) -> T:
    """As :func:`in_worker`, for what waits there for something else: it must not take a thread from those who work."""
    executor = ThreadPoolExecutor(1)
    try:
        return await uninterrupted(_in_executor(executor, function))
    finally:
        executor.shutdown(wait=False)


async def _in_executor(executor: Executor, function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, function)


async def concluded(work: Coroutine[Any, Any, T]) -> T:
    """``work``'s result even if the caller is cancelled meanwhile.

    For the last thing a task does: the cancel, which asks for its end, is dropped.
    """
    task, _ = await _ended(work)
    return task.result()


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end even if the caller is cancelled meanwhile; the cancel is raised afterwards.

    How ``work`` ended nobody hears then: the caller has been told to end for some other reason.
    """
    task, cancelled = await _ended(work)
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not log it as forgotten
        raise cancelled
    return task.result()


async def _ended(work: Coroutine[Any, Any, T]) -> tuple[asyncio.Task[T], asyncio.CancelledError | None]:
    """The task that ``work`` was, and the last cancel of the caller meanwhile.

    Not by ``asyncio.shield``: from Python 3.14 on it logs the error of what goes on behind a cancelled caller, with a
    traceback, though it is asked for here.
    """
    task = asyncio.ensure_future(work)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    return task, cancelled
