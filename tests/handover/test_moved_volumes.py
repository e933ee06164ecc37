"""A container's volumes go at the source once the target has them on disk, and not before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, host_with, written
from surroundings_support import FakeDocker

from streamhop.engine.docker import EngineError
from streamhop.handover.host import Host, MoveJournal
from streamhop.handover.journal import Journal
from streamhop.handover.moved_volumes import end_volumes, owed_volumes
from streamhop.handover.settling_here import settle_here
from streamhop.handover.states import Role, State

OWED = {"data": "then"}


@pytest.fixture
def engine() -> FakeDocker:
    engine = FakeDocker()
    engine.add_volume("data")
    return engine


@pytest.fixture
def host(engine: Any, journal: Journal, tmp_path: Path) -> Host:
    return host_with(engine, journal, tmp_path)


async def settled(host: Host, **details: Any) -> bool:
    record = written(host.journal, Role.SOURCE, State.DONE, **owed_volumes(OWED), **details)
    return not (await settle_here(host, record)).unsettled


async def test_they_stay_until_the_target_has_said_that_it_is_done(host: Host, engine: FakeDocker) -> None:
    """P2: until then what is in them may be on no other disk."""
    assert not await settled(host, owes_finish=True)
    assert list(engine.volumes) == ["data"]
    assert await settled(host, owes_finish=False, synced=True)
    assert engine.volumes == {}


async def test_they_stay_if_the_target_has_lost_count_of_what_is_on_its_disk(host: Host, engine: FakeDocker) -> None:
    """P2: it was restarted, or lost power, before it had written everything."""
    assert await settled(host)
    assert list(engine.volumes) == ["data"]


async def test_a_docker_that_does_not_answer_leaves_the_debt(host: Host, engine: FakeDocker) -> None:
    engine.failing = True
    with pytest.raises(EngineError):
        await settled(host, synced=True)
    record = host.journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert record.unsettled


@pytest.mark.parametrize("why", ["in use", "another", "gone"])
async def test_what_others_have_by_now_stays_and_nothing_is_owed(host: Host, engine: FakeDocker, why: str) -> None:
    if why == "in use":
        engine.in_use.add("data")
    elif why == "another":
        engine.add_volume("data", CreatedAt="since")
    else:
        engine.volumes.clear()
    left = list(engine.volumes)
    assert await settled(host, synced=True)
    assert list(engine.volumes) == left


async def test_a_container_without_any_owes_nothing(host: Host, journal: Journal) -> None:
    assert owed_volumes({}) == owed_volumes(None) == {}
    written(journal, Role.SOURCE, State.DONE)
    await end_volumes(host, MoveJournal(journal, MOVE, Role.SOURCE, 1, State.DONE), None, synced=True)
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert "owes_volumes" not in record.details
