"""What asyncio lacks: work that a cancel cannot cut short, and threads that are not left running by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, ParamSpec, TypeVar, cast

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


class ThreadFeed(Generic[T]):
    """What an iterator yields, which runs to its end in a thread of its own and waits for nobody here.

    The thread begins at once. To end it early is the iterator's matter; :meth:`ended` has to be awaited in any case.
    """

    def __init__(self, iterator: Generator[T, None, None]) -> None:
        self._iterator = iterator
        self._come: asyncio.Queue[object] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1)
        self._running = self._loop.run_in_executor(executor, self._run)
        executor.shutdown(wait=False)

    def _run(self) -> None:
        try:
            with contextlib.closing(self._iterator):
                for item in self._iterator:
                    self._loop.call_soon_threadsafe(self._come.put_nowait, item)
        finally:
            self._loop.call_soon_threadsafe(self._come.put_nowait, _END)

    async def items(self) -> AsyncIterator[T]:
        """Yield them as they come; ends with the thread, however that ended."""
        while (item := await self._come.get()) is not _END:
            yield cast("T", item)

    async def ended(self) -> None:
        """Return when the thread has ended, even if the caller is cancelled meanwhile; raises what ended it."""
        await uninterrupted(self._result())

    async def _result(self) -> None:
        await self._running


async def cancelled_once(work: Coroutine[Any, Any, T], on_cancel: Callable[[], None]) -> T:
    """``work``'s result. If the caller is cancelled ``work`` is too, once, after ``on_cancel``, and waited for."""
    return _outcome(*await _ended(work, on_cancel))


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
    return _outcome(*await _ended(work))


def _outcome(task: asyncio.Task[T], cancelled: asyncio.CancelledError | None) -> T:
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not log it as forgotten
        raise cancelled
    return task.result()


async def _ended(
    work: Coroutine[Any, Any, T], on_cancel: Callable[[], None] | None = None
) -> tuple[asyncio.Task[T], asyncio.CancelledError | None]:
    """The task that ``work`` was, and the last cancel of the caller meanwhile.

    :param on_cancel: called at the first cancel, which then goes on to ``work``; without it ``work`` hears of none.

    Not by ``asyncio.shield``: from Python 3.14 on it logs the error of what goes on behind a cancelled caller, with a
    traceback, though it is asked for here.
    """
    task = asyncio.ensure_future(work)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            if cancelled is None and on_cancel is not None:
                on_cancel()
                task.cancel()
            cancelled = error
    return task, cancelled
