"""Moves in doubt, and an operator's word about them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with, written

from streamhop.handover.background import Background
from streamhop.handover.errors import MoveError
from streamhop.handover.journal import Journal
from streamhop.handover.settlements import Settlements
from streamhop.handover.states import Role, State


async def test_only_what_is_in_doubt_can_be_reclaimed_and_then_it_goes_on(
    journal: Journal, tmp_path: Path, gates: list[int]
) -> None:
    engine = FakeEngine("paused")
    host = host_with(engine, journal, tmp_path)
    details: dict[str, Any] = {"container": "c", "peer": "127.0.0.1:1", "image_digest": "00" * 32}
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, **details)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        background = Background(tasks, asyncio.Event())
        settlements = Settlements(host, background)
        with pytest.raises(MoveError, match="in doubt"):
            await settlements.reclaim(b"x" * 16)
        journal.record(MOVE, Role.SOURCE, 1, State.RELEASED)
        settlements.settle(MOVE, Role.SOURCE)
        await settlements.reclaim(MOVE)
        while engine.status != "running":  # noqa: ASYNC110 - done by a task of the daemon's
            await asyncio.sleep(0.01)
        with pytest.raises(MoveError, match="in doubt"):
            await settlements.reclaim(MOVE)
        background.stop()
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert (record.state, record.epoch, record.details["owes_abort"]) == (State.ABORTED, 2, True)
    assert engine.calls == ["unpause"]


async def test_a_move_is_settled_by_one_task_and_none_when_stopping(journal: Journal, tmp_path: Path) -> None:
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, State.RELEASED, container="c", peer="127.0.0.1:1")
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        background = Background(tasks, asyncio.Event())
        settlements = Settlements(host_with(FakeEngine("paused"), journal, tmp_path), background)
        first = settlements.settle(MOVE, Role.SOURCE)
        assert settlements.settle(MOVE, Role.SOURCE) is first
        await settlements.wait(MOVE, Role.SOURCE, 0.05)
        assert first is not None
        assert not first.done()
        background.stop()
        assert settlements.settle(MOVE, Role.SOURCE) is None
        await settlements.wait(MOVE, Role.SOURCE, 60.0)
    assert first.cancelled()


async def test_what_is_said_to_run_there_cannot_be_taken_back(journal: Journal, tmp_path: Path) -> None:
    """P1, P2: the copy here may be half gone, and the target would remove its own."""
    details: dict[str, Any] = {"container": "c", "peer": "127.0.0.1:1", "runs_there": True}
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, State.RELEASED, **details)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        background = Background(tasks, asyncio.Event())
        settlements = Settlements(host_with(FakeEngine("exited"), journal, tmp_path), background)
        with pytest.raises(MoveError, match="runs there"):
            await settlements.reclaim(MOVE)
        background.stop()
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert record.state is State.RELEASED
