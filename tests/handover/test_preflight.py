"""What the target checks about a container before it takes anything."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import FakeEngine as FakeDocker
from handover_support import host_with, written

from streamhop.engine.docker import EngineError, NotFound
from streamhop.handover.errors import InDoubtError, MoveError, NotRunningError, PreflightError, StillFrozenError
from streamhop.handover.journal import Journal
from streamhop.handover.preflight import check_still_runs, find_container
from streamhop.handover.states import Role, State
from streamhop.handover.target_checks import _network_objection


class FakeEngine:
    """Knows two networks, by name and by the beginning of their ID, as Docker does."""

    async def inspect_network(self, name: str) -> dict[str, Any]:
        if name == "broken":
            raise EngineError("Docker does not answer")
        if name in ("shop", "abc"):
            return {"Name": "shop", "Driver": "bridge"}
        if name == "h":
            return {"Name": "host", "Driver": "host"}
        raise NotFound(f"no network {name}")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("shop", None),
        ("abc", "has no network"),
        ("other", "has no network"),
        ("h", "the host's own"),
        ("broken", "does not answer"),
    ],
)
async def test_a_network_must_be_there_by_its_name(network: str, reason: str | None) -> None:
    host: Any = SimpleNamespace(engine=FakeEngine())
    objection = await _network_objection(host, network)
    assert (objection is None) if reason is None else (objection is not None and reason in objection.reason)


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
