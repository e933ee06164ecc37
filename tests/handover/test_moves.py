"""Every move of a host in one list, told truly after a restart; one way to name each."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with, written

from streamhop.handover.errors import MoveError, RefusedError
from streamhop.handover.journal import Journal
from streamhop.handover.move_ids import UnknownMoveError
from streamhop.handover.moves import Moves
from streamhop.handover.operations import MoveRequest
from streamhop.handover.states import Role, State

OTHER = b"o" * 16
REFUSED = RefusedError("no room").as_json()


@asynccontextmanager
async def moves_of(journal: Journal, tmp_path: Path) -> AsyncIterator[Moves]:
    """The moves of a daemon that has just started."""
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        moves = Moves(host_with(FakeEngine("gone"), journal, tmp_path), tasks)
        yield moves
        moves.stop()


async def followed(moves: Moves, move: bytes) -> list[dict[str, Any]]:
    return [dict(event) async for event in moves.follow(move)]


async def test_moves_of_earlier_daemons_are_listed_and_told(journal: Journal, tmp_path: Path) -> None:
    journal.operations.begin(MOVE, "web", "edge-b")
    written(journal, Role.SOURCE, State.PRECOPY, State.ABORTED, name="web", peer="10.0.0.2:4711")
    journal.operations.end(MOVE, REFUSED)
    journal.record(OTHER, Role.TARGET, 1, State.OPEN, name="db", peer="edge-c")
    async with moves_of(journal, tmp_path) as moves:
        rows = await moves.rows()
        assert [(row["id"], row["role"], row["container"], row["peer"], row["running"]) for row in rows] == [
            (MOVE.hex(), "source", "web", "edge-b", False),
            (OTHER.hex(), "target", "db", "edge-c", False),
        ]
        assert rows[0]["result"] == {"id": MOVE.hex(), **REFUSED}
        assert rows[1]["result"]["outcome"] == "moved"
        (event,) = await followed(moves, MOVE)
        assert (event["event"], event["result"]["exit_code"]) == ("finished", 13)


async def test_moves_in_both_directions_are_listed_as_they_began(tmp_path: Path) -> None:
    ticks = count(1_000.0)
    journal = Journal(tmp_path / "journal.sqlite", clock=lambda: next(ticks))
    journal.record(OTHER, Role.TARGET, 1, State.RECEIVING, name="db", peer="edge-c")
    journal.operations.begin(MOVE, "web", "edge-b")
    journal.record(OTHER, Role.TARGET, 1, State.OPEN)
    journal.operations.end(MOVE, REFUSED)
    async with moves_of(journal, tmp_path) as moves:
        assert [(row["container"], row["began_at"], row["ended_at"]) for row in await moves.rows()] == [
            ("db", "1970-01-01T00:16:40.000Z", "1970-01-01T00:16:42.000Z"),
            ("web", "1970-01-01T00:16:41.000Z", "1970-01-01T00:16:43.000Z"),
        ]
    journal.close()


async def test_what_only_the_journal_knows_is_listed_too(journal: Journal, tmp_path: Path) -> None:
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, State.RELEASED, State.DONE, name="web", peer="p:1")
    async with moves_of(journal, tmp_path) as moves:
        (row,) = await moves.rows()
        assert (row["container"], row["result"]["outcome"], row["result"]["bytes"]) == ("web", "moved", None)


async def test_a_doubt_that_is_settled_is_told_as_settled(journal: Journal, tmp_path: Path) -> None:
    async with moves_of(journal, tmp_path) as moves:
        operation = await moves.start(MoveRequest("web", "10.0.0.1"))
        assert operation.task is not None
        await asyncio.wait({operation.task})
        operation.result = {"outcome": "in_doubt", "exit_code": 21, "runs_at": "nowhere"}
        journal.record(operation.move, Role.SOURCE, 1, State.RELEASED)
        assert (await moves.show(operation.move))["result"]["exit_code"] == 21
        journal.record(operation.move, Role.SOURCE, 1, State.DONE, name="web")
        assert (await followed(moves, operation.move))[-1]["result"]["exit_code"] == 0


async def test_a_move_that_is_being_settled_is_waited_for(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, State.RELEASED, name="web", peer="10.0.0.2:1")
    go_on = asyncio.Event()

    async def settle(*_: Any) -> State:
        await go_on.wait()
        journal.record(MOVE, Role.SOURCE, 1, State.DONE)
        return State.DONE

    monkeypatch.setattr("streamhop.handover.settlements.settle", settle)
    async with moves_of(journal, tmp_path) as moves:
        moves.settle(MOVE, Role.SOURCE)
        following = asyncio.create_task(followed(moves, MOVE))
        await asyncio.sleep(0)
        go_on.set()
        assert (await following)[-1]["result"]["exit_code"] == 0


async def test_a_move_is_found_by_the_beginning_of_its_id(journal: Journal, tmp_path: Path) -> None:
    written(journal, Role.TARGET, State.RECEIVING, State.ABORTED, name="web", peer="edge-a")
    async with moves_of(journal, tmp_path) as moves:
        assert await moves.find(MOVE.hex()[:8]) == MOVE
        with pytest.raises(UnknownMoveError):
            await moves.find(OTHER.hex())
        assert [record.state for record in await moves.handovers(MOVE)] == [State.ABORTED]
        assert await moves.handovers(OTHER) == []
        assert not moves.cancel(MOVE)


async def test_a_peer_that_offers_a_move_of_the_same_id_does_not_hinder_a_cancel(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def for_ever(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("streamhop.handover.operations.find_container", for_ever)
    async with moves_of(journal, tmp_path) as moves:
        operation = await moves.start(MoveRequest("web", "10.0.0.1"))
        incoming: Any = object()
        moves._arrivals._incoming[operation.move] = incoming
        assert moves.cancel(operation.move)
        moves._arrivals._incoming[OTHER] = incoming
        with pytest.raises(MoveError, match="comes from another host"):
            moves.cancel(OTHER)


async def test_a_move_that_may_still_hear_from_the_peer_cannot_be_reclaimed(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: a late STARTED must not meet a container that goes on here."""

    async def for_ever(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("streamhop.handover.operations.find_container", for_ever)
    async with moves_of(journal, tmp_path) as moves:
        operation = await moves.start(MoveRequest("web", "10.0.0.1"))
        journal.record(operation.move, Role.SOURCE, 1, State.RELEASED)
        with pytest.raises(MoveError, match="still under way"):
            await moves.reclaim(operation.move)
        record = journal.latest(operation.move, Role.SOURCE)
        assert record is not None
        assert record.state is State.RELEASED


async def test_the_end_is_told_though_the_journal_cannot_be_read(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P18: the user hears where it runs, also from a daemon whose disk is full."""

    def unreadable(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with moves_of(journal, tmp_path) as moves:
        operation = await moves.start(MoveRequest("web", "10.0.0.1"))
        assert operation.task is not None
        await asyncio.wait({operation.task})
        monkeypatch.setattr(journal, "all", unreadable)
        last = (await followed(moves, operation.move))[-1]
        assert operation.result is not None
        assert (last["event"], last["result"]) == ("finished", {"id": operation.id, **operation.result})
        with pytest.raises(sqlite3.Error):
            await followed(moves, OTHER)
