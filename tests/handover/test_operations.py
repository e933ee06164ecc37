"""Operations: one ID from the beginning, which is not lost, and an end that is told and kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from handover_support import FakeEngine, host_with

from streamhop.handover import operations as room
from streamhop.handover.background import Background
from streamhop.handover.errors import MoveError
from streamhop.handover.journal import Journal
from streamhop.handover.means import Means
from streamhop.handover.operation_log import KeptOperation
from streamhop.handover.operations import MoveRequest, Operation, Operations
from streamhop.handover.report import Tally
from streamhop.handover.settlements import Settlements
from streamhop.handover.staging import Staging

REQUEST = MoveRequest("web", "10.0.0.1")


class Started:
    """The operations of a host without any container."""

    def __init__(self, journal: Journal, tmp_path: Path, tasks: asyncio.TaskGroup) -> None:
        host = host_with(FakeEngine("gone"), journal, tmp_path)
        self.background = Background(tasks, host.stopping)
        staging, settlements = Staging(host, self.background, Means()), Settlements(host, self.background)
        self.operations = Operations(host, tasks, self.background, settlements, staging, Means())


def test_the_moves_id_is_the_operations_id() -> None:
    operation = Operation(REQUEST)
    assert bytes.fromhex(operation.id) == operation.move
    assert len(operation.move) == 16


async def test_the_end_is_told_and_kept(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        operation = await Started(journal, tmp_path, tasks).operations.start(REQUEST)
        events = [event async for event in operation.log.follow()]
    assert events[-1]["event"] == "finished"
    assert events[-1]["result"]["exit_code"] == 12
    kept = journal.operations.get(operation.move)
    assert kept is not None
    assert (kept.container, kept.peer, kept.result) == ("web", "10.0.0.1", operation.result)


async def test_an_operation_is_kept_before_its_id_is_told(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        started = Started(journal, tmp_path, tasks)
        operation = await started.operations.start(REQUEST)
        kept = journal.operations.get(operation.move)
        assert kept is not None
        assert kept.result is None
        assert started.operations.get(operation.move) is operation


async def test_a_daemon_that_stops_starts_nothing_and_ends_what_has_not_begun(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        started = Started(journal, tmp_path, tasks)
        operation = await started.operations.start(REQUEST)
        started.background.stop()
        started.operations.stop()
        with pytest.raises(MoveError, match="stopping"):
            await started.operations.start(REQUEST)
    assert operation.result is not None
    assert (operation.result["code"], operation.result["exit_code"]) == ("daemon_stopped", 1)
    assert [event["event"] async for event in operation.log.follow()][-1] == "finished"


async def test_a_bug_ends_one_move_and_is_told(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(room, "find_container", broken)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        operation = await Started(journal, tmp_path, tasks).operations.start(REQUEST)
    assert operation.result is not None
    assert "internal error" in operation.result["reason"]


async def test_a_cancel_ends_what_is_under_way_and_comes_too_late_for_what_has_ended(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def for_ever(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(room, "find_container", for_ever)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        operations = Started(journal, tmp_path, tasks).operations
        operation = await operations.start(REQUEST)
        await begun.wait()
        assert operations.cancel(operation.move)
        assert operation.task is not None
        await asyncio.wait({operation.task})
        assert not operations.cancel(operation.move)
        assert not operations.cancel(b"x" * 16)
    kept = journal.operations.get(operation.move)
    assert kept is not None
    assert kept.result is not None
    assert kept.result["exit_code"] == 20


@pytest.mark.parametrize(("health", "exit_code"), [("healthy", 0), ("none", 0), ("starting", 22), ("unknown", 22)])
async def test_a_moved_container_that_is_not_healthy_is_told_with_a_code_of_its_own(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, health: str, exit_code: int
) -> None:
    """P18: 22."""

    async def moved(*_: Any) -> dict[str, Any]:
        return Tally().report(("web", "web"), "edge-a", "edge-b")

    async def health_at_target(*_: Any) -> str:
        return health

    monkeypatch.setattr(room, "health_at_target", health_at_target)
    monkeypatch.setattr(Operations, "_move_away", moved)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        operations = Started(journal, tmp_path, tasks).operations
        asked = await operations.start(MoveRequest("web", "10.0.0.1", healthy_s_max=1.0))
        not_asked = await operations.start(REQUEST)
    assert asked.result is not None
    assert (asked.result["exit_code"], asked.result["health"], asked.result["runs_at"]) == (exit_code, health, "target")
    remarks = [event["text"] async for event in asked.log.follow() if event["event"] == "remark"]
    assert remarks == (["the container has no health check: its health is not known"] if health == "none" else [])
    assert not_asked.result is not None
    assert (not_asked.result["exit_code"], not_asked.result["health"]) == (0, None)


def test_only_moves_to_that_target_that_tell_their_costs_are_learnt_from() -> None:
    def told(**result: Any) -> KeptOperation:
        return KeptOperation(b"m" * 16, "web", "edge-b", {"target": "edge-b", **result})

    rows = [
        told(usual_fixed_s=0.5, fixed_s=0.6),
        told(usual_fixed_s=0.5, fixed_s=None),
        told(),
        told(usual_fixed_s=0.5, fixed_s=9.0, target="edge-c"),
        KeptOperation(b"n" * 16, "web", "edge-b", None),
    ]
    assert list(room._earlier_costs(rows, "edge-b")) == [(0.5, 0.6)]
