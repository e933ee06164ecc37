"""All moves of a host: what one of them does wrong does not reach the others."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with, make_unwritable, written

from streamhop.handover import moves as room
from streamhop.handover.errors import MoveError
from streamhop.handover.journal import Journal
from streamhop.handover.moves import MoveRequest, Moves
from streamhop.handover.states import Role, State
from streamhop_protocol.messages import Finish, Offer, Refuse


async def test_a_bug_in_a_background_task_does_not_end_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> State:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(room, "settle", broken)
    journal = Journal(tmp_path / "journal.sqlite")
    host = host_with(FakeEngine("gone"), journal, tmp_path)
    async with asyncio.TaskGroup() as tasks:
        moves = Moves(host, tasks)
        settling = moves.settle(b"m" * 16, Role.SOURCE)
        assert settling is not None
        assert await settling is None
        still_alive = tasks.create_task(asyncio.sleep(0, True))
    assert still_alive.result()
    assert "a bug ended a background task" in caplog.text
    journal.close()


async def test_a_daemon_that_stops_starts_nothing_and_ends_what_has_not_begun(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    host = host_with(FakeEngine("gone"), journal, tmp_path)
    async with asyncio.TaskGroup() as tasks:
        moves = Moves(host, tasks)
        operation = moves.start(MoveRequest("web", "10.0.0.1"))
        moves.stop()
        with pytest.raises(MoveError, match="stopping"):
            moves.start(MoveRequest("web", "10.0.0.1"))
        said: list[Any] = []

        async def send(message: object) -> None:
            said.append(message)

        session: Any = SimpleNamespace(send=send, peer_reference="edge-a")
        await moves._offered(session, Offer(move=b"m" * 16, epoch=1, manifest={}))
    assert operation.result is not None
    assert operation.result["code"] == "cancelled"
    assert [event["event"] async for event in operation.log.follow()][-1] == "finished"
    assert [type(message) for message in said] == [Refuse]
    journal.close()


async def test_only_what_is_in_doubt_can_be_reclaimed_and_then_it_goes_on(tmp_path: Path, gates: list[int]) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    engine = FakeEngine("paused")
    host = host_with(engine, journal, tmp_path)
    details: dict[str, Any] = {"container": "c", "peer": "127.0.0.1:1", "image_digest": "00" * 32}
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, **details)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(10):
        moves = Moves(host, tasks)
        with pytest.raises(MoveError, match="in doubt"):
            await moves.reclaim(b"x" * 16)
        journal.record(MOVE, Role.SOURCE, 1, State.RELEASED)
        moves.settle(MOVE, Role.SOURCE)
        await moves.reclaim(MOVE)
        while engine.status != "running":  # noqa: ASYNC110 - done by a task of the daemon's
            await asyncio.sleep(0.01)
        with pytest.raises(MoveError, match="in doubt"):
            await moves.reclaim(MOVE)
        moves.stop()
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert (record.state, record.epoch, record.details["owes_abort"]) == (State.ABORTED, 2, True)
    assert engine.calls == ["unpause"]
    journal.close()


async def test_what_does_not_wait_for_go_cannot_be_claimed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    async with asyncio.TaskGroup() as tasks:
        moves = Moves(host_with(FakeEngine("gone"), journal, tmp_path), tasks)
        with pytest.raises(MoveError, match="waits for GO"):
            await moves.claim(MOVE)
    journal.close()


async def test_a_journal_that_cannot_be_kept_short_does_not_end_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P14: a full disk at the end of a move raised in a task whose failure ends the daemon."""
    journal = Journal(tmp_path / "journal.sqlite")

    def full(_: int) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(journal, "forget_ended", full)
    async with asyncio.TaskGroup() as tasks:
        moves = Moves(host_with(FakeEngine("gone"), journal, tmp_path), tasks)
        operation = moves.start(MoveRequest("web", "10.0.0.1"))
        while operation.result is None:  # noqa: ASYNC110 - done by a task of the daemon's
            await asyncio.sleep(0)
    assert operation.result["exit_code"] == 12
    assert "cannot be kept short" in caplog.text
    journal.close()


async def test_a_journal_that_cannot_be_written_ends_the_session_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P10: simulator seed 37. A full disk is no bug: the peer hears nothing false, and asks again."""
    journal = Journal(tmp_path / "journal.sqlite")
    written(journal, Role.TARGET, State.OPEN, peer="edge-a")
    make_unwritable(journal, monkeypatch, State.DONE)
    said: list[Any] = []

    async def send(message: object) -> None:
        said.append(message)

    async def receive() -> Finish:
        return Finish(move=MOVE, epoch=1)

    session: Any = SimpleNamespace(send=send, receive=receive, peer_reference="edge-a", peer_name="edge-a")
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(10):
        await Moves(host_with(FakeEngine("running"), journal, tmp_path), tasks).on_session(session)
    assert said == []
    assert "the journal cannot be used" in caplog.text
    journal.close()
