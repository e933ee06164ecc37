"""Looking at what may never answer, such as files of a server that is gone: for a bounded time, by a few threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

LEFT_BEHIND_MAX = 8
"""Threads that the kernel does not let go; with that many nothing more is begun."""

_NAME = "streamhop-look"


async def within(seconds: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """``function``'s result, from a thread of its own, which is left behind if it takes too long.

    It must have no effect: nobody hears how it ends then. The end of the program does not wait for it either.

    :raises TimeoutError: it has taken longer than ``seconds``, or too many before it still do.
    """
    if sum(thread.name == _NAME for thread in threading.enumerate()) >= LEFT_BEHIND_MAX:
        raise TimeoutError
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from now on a cancel of whoever waits does not reach it

    def run() -> None:
        try:
            result.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is whoever waits who gets it
            result.set_exception(error)

    threading.Thread(target=run, name=_NAME, daemon=True).start()
    async with asyncio.timeout(seconds):
        return await asyncio.wrap_future(result)
