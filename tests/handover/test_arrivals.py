"""Moves to this host: what a daemon that stops takes in, and what can be claimed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with

from streamhop.handover.arrivals import Arrivals
from streamhop.handover.background import Background
from streamhop.handover.errors import MoveError
from streamhop.handover.journal import Journal
from streamhop.handover.settlements import Settlements
from streamhop_protocol.messages import Offer, Refuse


class Arriving:
    """A host's arrivals, and a session that offers a move and keeps what it is answered."""

    def __init__(self, journal: Journal, tmp_path: Path, tasks: asyncio.TaskGroup) -> None:
        host = host_with(FakeEngine("gone"), journal, tmp_path)
        self.background = Background(tasks)
        self.arrivals = Arrivals(host, self.background, Settlements(host, self.background))
        self.said: list[Any] = []

    async def offer(self) -> None:
        async def send(message: object) -> None:
            self.said.append(message)

        session: Any = SimpleNamespace(send=send, peer_reference="edge-a", peer_name="edge-a")
        await self.arrivals._dispatch(session, Offer(move=MOVE, epoch=1, manifest={}))


async def test_a_daemon_that_stops_takes_nothing_in(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        arriving.background.stop()
        await arriving.offer()
    assert [type(message) for message in arriving.said] == [Refuse]
    assert "stopping" in arriving.said[0].reason


async def test_what_is_over_is_waited_for_no_more(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        await arriving.offer()
        assert MOVE in arriving.arrivals
        # A manifest of nothing is refused.
        await arriving.arrivals.wait(MOVE)
        assert MOVE not in arriving.arrivals
    assert [type(message) for message in arriving.said] == [Refuse]


async def test_what_does_not_wait_for_go_cannot_be_claimed(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(MoveError, match="waits for GO"):
            Arriving(journal, tmp_path, tasks).arrivals.claim(MOVE)
