"""All moves of a host: what one of them does wrong does not reach the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streamhop.config import Config
from streamhop.handover import moves as room
from streamhop.handover.host import Host
from streamhop.handover.journal import Journal
from streamhop.handover.moves import Moves
from streamhop.handover.states import Role, State


async def test_a_bug_in_a_background_task_does_not_end_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> State:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(room, "settle", broken)
    journal = Journal(tmp_path / "journal.sqlite")
    host = Host(Config(), None, journal, None)  # type: ignore[arg-type]  # nothing of it is asked
    async with asyncio.TaskGroup() as tasks:
        moves = Moves(host, tasks)
        settling = moves.settle(b"m" * 16, Role.SOURCE)
        assert settling is not None
        assert await settling is None
        still_alive = tasks.create_task(asyncio.sleep(0, True))
    assert still_alive.result()
    assert "a bug ended a background task" in caplog.text
    journal.close()
