"""Background tasks: what one of them does wrong does not reach the others."""

from __future__ import annotations

import asyncio

import pytest

from streamhop.handover.background import Background


async def test_a_bug_in_a_background_task_does_not_end_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> int:
        raise ZeroDivisionError("a bug")

    async with asyncio.TaskGroup() as tasks:
        background = Background(tasks, asyncio.Event())
        assert await background.own(broken) is None
        still_alive = tasks.create_task(asyncio.sleep(0, True))
    assert still_alive.result()
    assert "a bug ended a background task" in caplog.text


async def test_a_stop_ends_what_runs() -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        background = Background(tasks, asyncio.Event())
        waiting = background.own(asyncio.Event().wait)
        await asyncio.sleep(0)
        background.stop()
    assert waiting.cancelled()
    assert background.stopping
