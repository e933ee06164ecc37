"""Rounds of pre-copy without a pause on the link: the next is read while the last is on its way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from streamhop.engine.processes import ProcessRef

from .policy import RoundResult


@dataclass(frozen=True, slots=True)
class RoundSize:
    """What one round found and sent."""

    pages: int
    deferred_pages: int
    raw_bytes: int
    wire_bytes: int


class RoundSender(Protocol):
    """What sends a round; see :class:`.sending.Sender`."""

    async def round(
        self, number: int, processes: Sequence[ProcessRef], memory_bytes: int, group: asyncio.TaskGroup
    ) -> asyncio.Task[RoundSize]:
        """Read a round; returns when all of it is on its way. What is returned ends when the target has it."""

    def cut_round(self) -> None:
        """End the reading of the round under way early."""


@dataclass(frozen=True, slots=True)
class _Round:
    began_at: float
    read: asyncio.Task[asyncio.Task[RoundSize]]


class PreCopy:
    """Makes rounds while its context is open.

    At most two are under way, and none is begun while nobody asks: what is read long before the freeze is of no use.

    :param processes: lists the container's processes.
    :param memory_bytes: of the container, to tell how far the first round is.
    """

    def __init__(
        self, sender: RoundSender, processes: Callable[[], Awaitable[Sequence[ProcessRef]]], memory_bytes: int
    ) -> None:
        self._sender = sender
        self._processes = processes
        self._memory_bytes = memory_bytes
        self._group = asyncio.TaskGroup()
        self._begun = 0
        self._next: _Round | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._group.__aexit__(kind, error, traceback)

    async def round(self) -> RoundResult:
        """The next round, when the target holds all of it; by then the one after it is under way."""
        this = self._next or self._begin()
        arrival = await this.read
        self._next = self._begin()
        size = await arrival
        return RoundResult(
            size.pages, size.deferred_pages, size.raw_bytes, size.wire_bytes, self._next.began_at - this.began_at
        )

    def cut(self) -> None:
        """Read no more: the round under way ends early."""
        if self._next is not None:
            self._sender.cut_round()

    async def settled(self) -> None:
        """Return when the target holds what was sent of the round that was cut."""
        if self._next is not None:
            await (await self._next.read)

    def _begin(self) -> _Round:
        number, self._begun = self._begun, self._begun + 1
        return _Round(time.monotonic(), self._group.create_task(self._read(number)))

    async def _read(self, number: int) -> asyncio.Task[RoundSize]:
        return await self._sender.round(number, await self._processes(), self._memory_bytes, self._group)
