"""What may never answer is waited for for a while, and only so many wait at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from streamhop.handover.left_behind import LEFT_BEHIND_MAX, within


@pytest.fixture
def answers() -> Iterator[threading.Event]:
    """Set, and what was left behind ends; at the end of the test all of it has ended."""
    before = set(threading.enumerate())
    event = threading.Event()
    yield event
    event.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


async def test_a_result_and_an_error_come_back() -> None:
    assert await within(10, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await within(10, divmod, 7, 0)


async def test_only_so_many_are_left_behind(answers: threading.Event) -> None:
    for _ in range(LEFT_BEHIND_MAX):
        with pytest.raises(TimeoutError):
            await within(0.01, answers.wait)
    begun: list[int] = []
    with pytest.raises(TimeoutError):
        await within(10, begun.append, 1)
    assert begun == []
    answers.set()
    async with asyncio.timeout(10):
        while not begun:
            try:
                await within(10, begun.append, 1)
            except TimeoutError:
                await asyncio.sleep(0.01)


async def test_a_cancel_does_not_wait_for_it(answers: threading.Event) -> None:
    waiting = asyncio.create_task(within(60, answers.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert not answers.is_set()
