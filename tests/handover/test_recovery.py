"""What a daemon does at its start, for every state its journal can be in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamhop.config import Config
from streamhop.engine.docker import NotFound
from streamhop.handover.host import Host
from streamhop.handover.journal import Journal
from streamhop.handover.recovery import recover
from streamhop.handover.states import Role, State

MOVE = b"m" * 16
POLICY = {"Name": "always", "MaximumRetryCount": 0}


class FakeEngine:
    """One container, and what was done to it."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.calls: list[str] = []

    async def inspect_container(self, name: str) -> dict[str, Any]:
        if self.status == "gone":
            raise NotFound(f"no container {name}")
        return {
            "Id": "c" * 64,
            "State": {
                "Running": self.status in ("running", "paused"),
                "Paused": self.status == "paused",
                "Status": self.status,
                "Pid": 7,
            },
            "HostConfig": {"Runtime": "streamhop"},
        }

    async def unpause(self, container: str) -> None:
        self.calls.append("unpause")
        self.status = "running"

    async def update_restart_policy(self, container: str, policy: dict[str, Any]) -> None:
        self.calls.append(f"restart {policy['Name']}")

    async def remove(self, container: str, *, force: bool) -> None:
        self.calls.append("remove")
        self.status = "gone"

    async def remove_image(self, image: str) -> None:
        self.calls.append(f"rmi {image}")


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    opened: list[int] = []

    async def open_gate(pid: int) -> None:
        opened.append(pid)

    monkeypatch.setattr("streamhop.handover.source_actions.open_gate", open_gate)
    return opened


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def host_with(engine: FakeEngine, journal: Journal, tmp_path: Path) -> Host:
    config = Config(state_dir=tmp_path, run_dir=tmp_path / "run")
    return Host(config, engine, journal, None)  # type: ignore[arg-type]  # recovery needs no restores


def written(journal: Journal, role: Role, *states: State, **details: Any) -> None:
    for state in states:
        journal.record(MOVE, role, 1, state, **details)


async def test_a_source_found_frozen_is_thawed_and_owes_an_abort(
    journal: Journal, tmp_path: Path, gates: list[int]
) -> None:
    engine = FakeEngine("paused")
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c", peer="p:1", restart_policy=POLICY)
    host = host_with(engine, journal, tmp_path)
    host.dump_dir(MOVE).mkdir(parents=True)
    unsettled = await recover(host)
    assert [record.state for record in unsettled] == [State.ABORTED]
    assert engine.calls == ["unpause", "restart always"]
    assert gates == [7]
    assert not host.dump_dir(MOVE).exists()


async def test_a_source_that_was_released_is_never_thawed(journal: Journal, tmp_path: Path, gates: list[int]) -> None:
    engine = FakeEngine("paused")
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, State.RELEASED, container="c", peer="p:1")
    unsettled = await recover(host_with(engine, journal, tmp_path))
    assert [record.state for record in unsettled] == [State.RELEASED]
    assert engine.calls == []
    assert gates == []


async def test_precopy_ends_without_touching_the_container(journal: Journal, tmp_path: Path, gates: list[int]) -> None:
    engine = FakeEngine("running")
    written(journal, Role.SOURCE, State.PRECOPY, container="c", peer="p:1")
    assert await recover(host_with(engine, journal, tmp_path)) == []
    assert engine.calls == []
    assert journal.unfinished() == []


@pytest.mark.parametrize(
    ("states", "ends"),
    [
        ([State.RECEIVING], State.ABORTED),
        ([State.RECEIVING, State.PREPARED], State.REFUSED),
        ([State.RECEIVING, State.PREPARED, State.OWNED], State.REFUSED),
    ],
)
async def test_a_target_without_a_running_container_clears_up(
    journal: Journal, tmp_path: Path, states: list[State], ends: State
) -> None:
    engine = FakeEngine("created")
    written(journal, Role.TARGET, *states, container="c", image_loaded=["web:1"])
    host = host_with(engine, journal, tmp_path)
    host.spool(MOVE).mkdir(parents=True)
    assert await recover(host) == []
    assert engine.calls == ["remove", "rmi web:1"]
    assert not host.spool(MOVE).exists()
    latest = journal.latest(MOVE, Role.TARGET)
    assert latest is not None
    assert latest.state is ends


async def test_a_target_that_got_go_and_runs_keeps_running(journal: Journal, tmp_path: Path) -> None:
    engine = FakeEngine("running")
    written(journal, Role.TARGET, State.RECEIVING, State.PREPARED, State.OWNED, container="c")
    await recover(host_with(engine, journal, tmp_path))
    assert engine.calls == []
    latest = journal.latest(MOVE, Role.TARGET)
    assert latest is not None
    assert latest.state is State.OPEN


@pytest.mark.parametrize(("status", "removed"), [("created", True), ("running", False), ("gone", False)])
async def test_a_container_made_but_not_noted_is_removed_only_if_it_never_ran(
    journal: Journal, tmp_path: Path, status: str, *, removed: bool
) -> None:
    engine = FakeEngine(status)
    written(journal, Role.TARGET, State.RECEIVING, creating="web")
    await recover(host_with(engine, journal, tmp_path))
    assert (engine.calls == ["remove"]) is removed


async def test_one_move_that_cannot_be_recovered_does_not_stop_the_others(
    journal: Journal, tmp_path: Path, gates: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine("paused")
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c", peer="p:1", restart_policy={})
    journal.record(b"n" * 16, Role.TARGET, 1, State.RECEIVING, container="d")

    async def fail(_container: str) -> None:
        raise OSError("no")

    monkeypatch.setattr(engine, "unpause", fail)
    await recover(host_with(engine, journal, tmp_path))
    assert engine.calls == ["remove"]
