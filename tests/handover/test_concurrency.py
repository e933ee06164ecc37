"""Clean-up that a cancel cannot cut short, and blocking iterators read from a thread."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Generator
from typing import Any

import pytest

from streamhop.handover.concurrency import ThreadFeed, cancelled_once, concluded, in_thread, in_worker, uninterrupted


async def test_uninterrupted_ends_before_the_cancel_is_raised() -> None:
    started, go_on, done = asyncio.Event(), asyncio.Event(), False

    async def work() -> None:
        nonlocal done
        started.set()
        await go_on.wait()
        done = True

    task = asyncio.create_task(uninterrupted(work()))
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done


async def test_uninterrupted_hands_results_and_errors_on() -> None:
    async def give(value: int) -> int:
        if value < 0:
            raise ValueError(value)
        return value

    assert await uninterrupted(give(3)) == 3
    with pytest.raises(ValueError, match="-1"):
        await uninterrupted(give(-1))


@pytest.mark.parametrize("times", [1, 3])
async def test_what_fails_behind_a_cancelled_caller_is_not_logged_as_forgotten(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A dump that failed was told to the user, and its readers, which were cancelled for it, to the log."""
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    started, go_on = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        started.set()
        await go_on.wait()
        raise OSError("the dump was given up")

    def logs_as_python_3_14(*_: object) -> None:
        raise AssertionError("it would log the error")

    monkeypatch.setattr(asyncio, "shield", logs_as_python_3_14)
    task = asyncio.create_task(uninterrupted(fail()))
    await started.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    await asyncio.sleep(0)
    assert logged == []


async def test_a_cancelled_reader_waits_for_the_step_under_way() -> None:
    in_step, finish = threading.Event(), threading.Event()

    def steps() -> Generator[int, None, None]:
        yield 1
        in_step.set()
        assert finish.wait(5)
        yield 2

    async def read() -> None:
        async for _ in in_thread(steps()):
            pass

    task = asyncio.create_task(read())
    await asyncio.to_thread(in_step.wait, 5)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_everything_is_read_in_order() -> None:
    assert [item async for item in in_thread(iter(range(5)))] == [0, 1, 2, 3, 4]


async def test_concluded_work_gives_its_result_whatever_cancels() -> None:
    go_on = asyncio.Event()

    async def work() -> str:
        await go_on.wait()
        return "the end"

    task = asyncio.create_task(concluded(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    go_on.set()
    assert await task == "the end"


async def test_a_cancel_waits_for_the_worker_thread() -> None:
    started, finish, written = threading.Event(), threading.Event(), []

    def write() -> None:
        started.set()
        assert finish.wait(5)
        written.append(True)

    task = asyncio.create_task(in_worker(write))
    await asyncio.to_thread(started.wait, 5)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert written == [True]


async def test_a_feed_runs_ahead_of_who_takes_from_it() -> None:
    all_made = threading.Event()

    def make() -> Generator[int, None, None]:
        yield from range(100)
        all_made.set()

    feed = ThreadFeed(make())
    assert await asyncio.to_thread(all_made.wait, 5)
    assert [item async for item in feed.items()] == list(range(100))
    await feed.ended()


async def test_a_feed_that_fails_ends_and_tells_why() -> None:
    def make() -> Generator[int, None, None]:
        yield 1
        raise ValueError("no more")

    feed = ThreadFeed(make())
    assert [item async for item in feed.items()] == [1]
    with pytest.raises(ValueError, match="no more"):
        await feed.ended()


async def test_the_end_of_a_feed_is_waited_for_in_spite_of_a_cancel() -> None:
    go_on = threading.Event()

    def make() -> Generator[int, None, None]:
        assert go_on.wait(5)
        yield 1

    feed = ThreadFeed(make())
    waiting = asyncio.create_task(feed.ended())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_work_is_cancelled_once_and_waited_for() -> None:
    cancels, told = 0, 0

    async def work() -> None:
        nonlocal cancels
        while cancels == 0:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancels += 1
                assert told == 1
                await asyncio.sleep(0.1)
                raise

    def tell() -> None:
        nonlocal told
        told += 1

    task = asyncio.create_task(cancelled_once(work(), tell))
    for _ in range(3):
        await asyncio.sleep(0.01)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (cancels, told) == (1, 1)


async def test_work_that_nobody_cancels_gives_its_result() -> None:
    async def work() -> int:
        return 3

    assert await cancelled_once(work(), lambda: pytest.fail("it was not cancelled")) == 3


async def test_a_feed_closes_what_it_is_fed_from() -> None:
    closed = threading.Event()

    def inner() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    def outer() -> Generator[int, None, None]:
        for item in inner():
            yield item
            raise ValueError("held")

    feed = ThreadFeed(inner())
    assert [item async for item in feed.items()] == [1, 2]
    await feed.ended()
    assert closed.is_set()
    failing = ThreadFeed(outer())
    with pytest.raises(ValueError, match="held"):
        await failing.ended()
