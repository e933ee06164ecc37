"""Rounds follow each other without a pause, and no more than two are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from streamhop.handover.precopy import PreCopy, RoundSize


class Sender:
    """Reads and delivers when it is told to."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.read = [asyncio.Event() for _ in range(9)]
        self.arrived = [asyncio.Event() for _ in range(9)]
        self.cut = False

    async def round(
        self, number: int, processes: Sequence[Any], memory_bytes: int, group: asyncio.TaskGroup
    ) -> asyncio.Task[RoundSize]:
        self.began.append(number)
        await self.read[number].wait()
        return group.create_task(self._arrival(number))

    async def _arrival(self, number: int) -> RoundSize:
        await self.arrived[number].wait()
        return RoundSize(number, 0, 10, 5)

    def cut_round(self) -> None:
        self.cut = True
        self.read[self.began[-1]].set()


async def nobody() -> Sequence[Any]:
    return []


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - it depends on nothing but the tasks of this test
            await asyncio.sleep(0)


async def test_the_next_round_is_read_while_the_last_is_on_its_way() -> None:
    sender = Sender()
    async with PreCopy(sender, nobody, 0) as precopy, asyncio.TaskGroup() as group:
        first = group.create_task(precopy.round())
        await until(lambda: sender.began == [0])
        sender.read[0].set()
        await until(lambda: sender.began == [0, 1])
        assert not first.done()
        sender.read[1].set()
        sender.arrived[0].set()
        assert (await first).pages == 0
        # Nobody asks: the second is read, the third not begun.
        sender.arrived[1].set()
        await until(lambda: not group._tasks)
        assert sender.began == [0, 1]
        assert (await precopy.round()).pages == 1
        assert sender.began == [0, 1, 2]
        sender.arrived[2].set()
        precopy.cut()
        await precopy.settled()
    assert sender.cut


async def test_a_cut_waits_for_what_was_sent() -> None:
    sender = Sender()
    async with PreCopy(sender, nobody, 0) as precopy, asyncio.TaskGroup() as group:
        sender.read[0].set()
        sender.arrived[0].set()
        await precopy.round()
        await until(lambda: sender.began == [0, 1])
        precopy.cut()
        stopping = group.create_task(precopy.settled())
        await until(lambda: sender.read[1].is_set())
        await asyncio.sleep(0)
        assert not stopping.done()
        sender.arrived[1].set()


async def test_a_cut_before_any_round() -> None:
    async with PreCopy(Sender(), nobody, 0) as precopy:
        precopy.cut()
        await precopy.settled()


async def test_a_round_lasts_until_the_next_begins() -> None:
    sender = Sender()
    async with PreCopy(sender, nobody, 0) as precopy:
        for number in range(2):
            sender.read[number].set()
            sender.arrived[number].set()
        assert (await precopy.round()).seconds >= 0
        precopy.cut()
        await precopy.settled()


async def test_a_round_that_fails_ends_the_others() -> None:
    class Failing(Sender):
        async def _arrival(self, number: int) -> RoundSize:
            raise OSError("no room")

    sender = Failing()
    sender.read[0].set()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with PreCopy(sender, nobody, 0) as precopy:
            await precopy.round()
    assert caught.group_contains(OSError, match="no room")
