"""Which container is meant, and whether it is still the one that was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handover_support import FakeEngine as FakeDocker
from handover_support import host_with, written

from streamhop.handover.errors import InDoubtError, MoveError, NotRunningError, PreflightError, StillFrozenError
from streamhop.handover.journal import Journal
from streamhop.handover.preflight import check_still_runs, find_container
from streamhop.handover.states import Role, State


@pytest.mark.parametrize(
    ("role", "state", "debts", "error", "runs_at"),
    [
        (Role.SOURCE, State.RELEASED, {}, InDoubtError, "nowhere"),
        (Role.SOURCE, State.FREEZING, {}, StillFrozenError, "frozen"),
        (Role.SOURCE, State.ABORTED, {"owes_thaw": True}, StillFrozenError, "frozen"),
        (Role.SOURCE, State.PRECOPY, {}, PreflightError, "source"),
        (Role.TARGET, State.PREPARED, {}, PreflightError, "source"),
        (Role.TARGET, State.OPEN, {"owes_settling_in": True}, PreflightError, "source"),
    ],
)
async def test_an_earlier_move_has_the_last_word(
    journal: Journal,
    tmp_path: Path,
    role: Role,
    state: State,
    debts: dict[str, bool],
    error: type[MoveError],
    runs_at: str,
) -> None:
    written(journal, role, state, container="c" * 64, **debts)
    with pytest.raises(error) as caught:
        await find_container(host_with(FakeDocker("paused"), journal, tmp_path), "web")
    assert caught.value.runs_at == runs_at
    assert "unpause it first" not in caught.value.fix


async def test_a_target_that_was_not_told_of_the_end_does_not_stop_the_next_move(
    journal: Journal, tmp_path: Path
) -> None:
    written(journal, Role.SOURCE, State.ABORTED, container="c" * 64, owes_abort=True)
    assert (await find_container(host_with(FakeDocker("running"), journal, tmp_path), "web"))["Id"] == "c" * 64


async def test_where_a_container_runs_that_is_not_there_is_unknown(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(NotRunningError) as caught:
        await find_container(host_with(FakeDocker("gone"), journal, tmp_path), "web")
    assert caught.value.runs_at == "unknown"


async def test_another_run_of_the_container_is_not_the_one_that_is_moved() -> None:
    """P3: what was read of its memory is of no use, and its network namespace is another."""
    engine: Any = FakeDocker("running")
    await check_still_runs(engine, "c", init_pid=7)
    with pytest.raises(MoveError, match="restarted"):
        await check_still_runs(engine, "c", init_pid=8)
