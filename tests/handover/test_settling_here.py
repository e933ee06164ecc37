"""What one host does alone about a move, for every state that its journal can be in."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, POLICY, FakeEngine, host_with, written

from streamhop.engine.docker import EngineError
from streamhop.handover.journal import Journal
from streamhop.handover.settling import recover
from streamhop.handover.settling_here import settle_here
from streamhop.handover.states import Role, State
from streamhop.handover.target_actions import provisional_name

IMAGE = {"web:1": "sha256:1"}


def _failing(*_: Any, **__: Any) -> None:
    raise sqlite3.OperationalError("disk I/O error")


async def test_a_source_found_frozen_is_thawed_and_owes_an_abort(
    journal: Journal, tmp_path: Path, gates: list[int]
) -> None:
    engine = FakeEngine("paused")
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c", peer="p:1", restart_policy=POLICY)
    host = host_with(engine, journal, tmp_path)
    host.dump_dir(MOVE).mkdir(parents=True)
    unsettled = await recover(host)
    assert [(record.state, record.details["owes_abort"]) for record in unsettled] == [(State.ABORTED, True)]
    assert engine.calls == ["unpause", "restart always"]
    assert gates == [7]
    assert not host.dump_dir(MOVE).exists()


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_source_that_is_thawed_tells_its_neighbours_where_it_is(
    journal: Journal, tmp_path: Path, gates: list[int], monkeypatch: pytest.MonkeyPatch, *, keeps: bool
) -> None:
    """The target may have announced the same addresses by then."""
    announced: list[int] = []

    async def announce(pid: int) -> None:
        assert engine.status == "running"
        announced.append(pid)

    monkeypatch.setattr("streamhop.handover.source_actions.announce_addresses", announce)
    engine = FakeEngine("paused")
    details = {"keeps_connections": True} if keeps else {}
    record = written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c", peer="p:1", **details)
    await settle_here(host_with(engine, journal, tmp_path), record)
    assert announced == ([7] if keeps else [])


async def test_a_thaw_that_fails_stays_owed_until_it_is_done(
    journal: Journal, tmp_path: Path, gates: list[int]
) -> None:
    engine = FakeEngine("paused")
    engine.failing.add("unpause")
    record = written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c", peer="p:1")
    host = host_with(engine, journal, tmp_path)
    with pytest.raises(EngineError):
        await settle_here(host, record)
    found = journal.unsettled()
    assert [(record.state, record.details["owes_thaw"]) for record in found] == [(State.ABORTED, True)]
    engine.failing.clear()
    again = await settle_here(host, found[0])
    assert engine.status == "running"
    assert not again.details["owes_thaw"]


async def test_a_thaw_whose_note_fails_half_way_leaves_no_dump(
    journal: Journal, tmp_path: Path, gates: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """P13: simulator seed 6359. The note got to the disk and failed all the same; nobody looks at the move again."""
    record = written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c", peer="p:1")
    host = host_with(FakeEngine("paused"), journal, tmp_path)
    host.dump_dir(MOVE).mkdir(parents=True)
    note = journal.note

    def noted_but_failed(*args: Any, **details: Any) -> None:
        note(*args, **details)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(journal, "note", noted_but_failed)
    with pytest.raises(sqlite3.Error):
        await settle_here(host, record)
    assert not host.dump_dir(MOVE).exists()


async def test_an_abort_that_fails_half_way_leaves_no_dump(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P13: simulator seed 25148. The abort got to the disk and failed all the same; nobody looks at the move again."""
    record = written(journal, Role.SOURCE, State.PRECOPY, container="c", peer="p:1")
    host = host_with(FakeEngine("running"), journal, tmp_path)
    host.dump_dir(MOVE).mkdir(parents=True)
    monkeypatch.setattr(journal, "record", _failing)
    with pytest.raises(sqlite3.Error):
        await settle_here(host, record)
    assert not host.dump_dir(MOVE).exists()


async def test_a_debt_outlives_the_bound_on_ended_moves(journal: Journal, tmp_path: Path, gates: list[int]) -> None:
    written(journal, Role.SOURCE, State.PRECOPY, State.ABORTED, container="c", owes_thaw=True)
    journal.forget_ended(keep=0)
    engine = FakeEngine("paused")
    assert await recover(host_with(engine, journal, tmp_path)) == []
    assert engine.status == "running"
    journal.forget_ended(keep=0)
    assert journal.latest(MOVE, Role.SOURCE) is None


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
    assert journal.unsettled() == []


@pytest.mark.parametrize(
    ("states", "ends"),
    [
        ([State.RECEIVING], State.ABORTED),
        ([State.RECEIVING, State.PREPARED], State.REFUSED),
        ([State.RECEIVING, State.PREPARED, State.OWNED], State.REFUSED),
    ],
)
async def test_a_target_whose_container_never_ran_clears_up(
    journal: Journal, tmp_path: Path, states: list[State], ends: State
) -> None:
    engine = FakeEngine("created")
    written(journal, Role.TARGET, *states, container="c", image_loaded=IMAGE)
    host = host_with(engine, journal, tmp_path)
    host.spool(MOVE).mkdir(parents=True)
    assert await recover(host) == []
    assert engine.calls == ["remove", "rmi web:1"]
    assert host.restores.forgotten == ["c"]  # type: ignore[attr-defined]
    assert not host.spool(MOVE).exists()
    latest = journal.latest(MOVE, Role.TARGET)
    assert latest is not None
    assert latest.state is ends


async def test_a_name_that_stands_for_another_image_by_now_is_kept(journal: Journal, tmp_path: Path) -> None:
    engine = FakeEngine("gone")
    engine.image_id = "sha256:2"
    written(journal, Role.TARGET, State.RECEIVING, container="c", image_loaded=IMAGE)
    await recover(host_with(engine, journal, tmp_path))
    assert engine.calls == ["remove"]


@pytest.mark.parametrize("status", ["running", "paused"])
async def test_a_target_that_got_go_and_ran_is_never_removed(journal: Journal, tmp_path: Path, status: str) -> None:
    engine = FakeEngine(status)
    states = State.RECEIVING, State.PREPARED, State.OWNED
    written(journal, Role.TARGET, *states, container="c", image_loaded=IMAGE, restart_policy=POLICY)
    assert await recover(host_with(engine, journal, tmp_path)) == []
    # One that a crash ended comes up afresh, as its policy has it.
    assert engine.calls == ["restart always", *(["start"] if status == "exited" else [])]
    latest = journal.latest(MOVE, Role.TARGET)
    assert latest is not None
    assert latest.state is State.OPEN


async def test_what_the_runtime_let_go_ran_though_docker_never_heard_of_it(journal: Journal, tmp_path: Path) -> None:
    """P2: simulator seed 20208. dockerd was killed at the first instruction, the disk was full: the source went on."""
    engine = FakeEngine("created")
    host = host_with(engine, journal, tmp_path)
    restores: Any = host.restores
    restores.let_go.add("c")
    states = State.RECEIVING, State.PREPARED, State.OWNED
    written(journal, Role.TARGET, *states, container="c", image_loaded=IMAGE, restart_policy=POLICY)
    assert await recover(host) == []
    assert "remove" not in engine.calls
    latest = journal.latest(MOVE, Role.TARGET)
    assert latest is not None
    assert latest.state is State.OPEN
    assert restores.let_go == set()


async def test_a_target_that_got_go_promises_nothing_while_docker_does_not_say(
    journal: Journal, tmp_path: Path
) -> None:
    engine = FakeEngine("running")
    engine.failing.add("inspect")
    written(journal, Role.TARGET, State.RECEIVING, State.PREPARED, State.OWNED, container="c", image_loaded=IMAGE)
    unsettled = await recover(host_with(engine, journal, tmp_path))
    assert [record.state for record in unsettled] == [State.OWNED]
    assert engine.calls == []


async def test_a_target_that_got_go_promises_nothing_while_the_runtime_is_at_it(
    journal: Journal, tmp_path: Path
) -> None:
    engine = FakeEngine("created")
    host = host_with(engine, journal, tmp_path)
    host.restores.busy = True  # type: ignore[attr-defined]
    written(journal, Role.TARGET, State.RECEIVING, State.PREPARED, State.OWNED, container="c")
    assert [record.state for record in await recover(host)] == [State.OWNED]
    assert engine.calls == []


async def test_a_container_that_its_owner_removed_after_go_counts_as_one_that_ran(
    journal: Journal, tmp_path: Path
) -> None:
    written(journal, Role.TARGET, State.RECEIVING, State.PREPARED, State.OWNED, container="c")
    await recover(host_with(FakeEngine("gone"), journal, tmp_path))
    assert journal.latest(MOVE, Role.TARGET).state is State.OPEN  # type: ignore[union-attr]


async def test_a_removal_after_go_that_was_cut_short_is_finished(journal: Journal, tmp_path: Path) -> None:
    engine = FakeEngine("created")
    engine.failing.add("rmi")
    written(journal, Role.TARGET, State.RECEIVING, State.PREPARED, State.OWNED, container="c", image_loaded=IMAGE)
    host = host_with(engine, journal, tmp_path)
    assert [record.state for record in await recover(host)] == [State.OWNED]
    engine.failing.clear()
    assert await recover(host) == []
    assert journal.latest(MOVE, Role.TARGET).state is State.REFUSED  # type: ignore[union-attr]


async def test_what_is_owed_is_paid_though_the_source_has_finished_since(journal: Journal, tmp_path: Path) -> None:
    engine = FakeEngine("running")
    written(journal, Role.TARGET, State.OPEN, container="c", restart_policy=POLICY, owes_settling_in=True)
    written(journal, Role.TARGET, State.DONE)
    host = host_with(engine, journal, tmp_path)
    host.spool(MOVE).mkdir(parents=True)
    assert await recover(host) == []
    assert engine.calls == ["restart always"]
    assert not host.spool(MOVE).exists()


async def test_a_container_gets_its_restart_policy_after_a_crash_between_open_and_that(
    journal: Journal, tmp_path: Path
) -> None:
    engine = FakeEngine("running")
    written(journal, Role.TARGET, State.RECEIVING, container="c", restart_policy=POLICY)
    written(journal, Role.TARGET, State.PREPARED, State.OWNED)
    written(journal, Role.TARGET, State.OPEN, owes_settling_in=True)
    assert await recover(host_with(engine, journal, tmp_path)) == []
    assert engine.calls == ["restart always"]
    assert journal.unsettled() == []


@pytest.mark.parametrize(("status", "removed"), [("created", True), ("running", False), ("gone", False)])
async def test_a_container_made_but_not_noted_is_removed_only_if_it_never_ran(
    journal: Journal, tmp_path: Path, status: str, *, removed: bool
) -> None:
    engine = FakeEngine(status)
    written(journal, Role.TARGET, State.RECEIVING, name="web")
    await recover(host_with(engine, journal, tmp_path))
    assert (engine.calls == ["remove"]) is removed
    # Never by the name that it was to have: another move's may be called so.
    assert engine.asked == [provisional_name(MOVE)]


async def test_a_target_that_went_down_at_the_start_leaves_it_to_an_operator(journal: Journal, tmp_path: Path) -> None:
    """P1: simulator seed 379. The container ran for a moment, and neither Docker nor the journal had it on disk."""
    engine = FakeEngine("created")
    states = State.RECEIVING, State.PREPARED, State.OWNED
    written(journal, Role.TARGET, *states, container="c", image_loaded=IMAGE, boot="an earlier one")
    host = host_with(engine, journal, tmp_path)
    assert await recover(host) == []
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    assert (record.state, record.lost, record.forgettable) == (State.OWNED, True, False)
    assert engine.calls == []
    journal.record(MOVE, Role.TARGET, 2, State.ABORTED, owes_removal=True)
    assert await recover(host) == []
    assert engine.calls == ["remove", "rmi web:1"]


async def test_a_start_that_was_seen_to_fail_before_the_reboot_is_no_doubt(journal: Journal, tmp_path: Path) -> None:
    engine = FakeEngine("created")
    details = {"container": "c", "boot": "an earlier one", "never_started": True}
    written(journal, Role.TARGET, State.RECEIVING, State.PREPARED, State.OWNED, **details)
    assert await recover(host_with(engine, journal, tmp_path)) == []
    assert journal.latest(MOVE, Role.TARGET).state is State.REFUSED  # type: ignore[union-attr]


@pytest.mark.parametrize(("policy", "starts"), [("always", True), ("unless-stopped", True), ("on-failure", True)])
@pytest.mark.parametrize("role", Role)
async def test_a_crash_while_restarts_were_forbidden_is_followed_by_the_restart(
    journal: Journal, tmp_path: Path, gates: list[int], role: Role, policy: str, *, starts: bool
) -> None:
    """P3: simulator seeds 2 (source) and 176 (target), where the host went down in between."""
    engine = FakeEngine("exited")
    state, debt = (State.ABORTED, "owes_thaw") if role is Role.SOURCE else (State.OPEN, "owes_settling_in")
    written(journal, role, state, container="c", restart_policy={"Name": policy}, **{debt: True})
    await recover(host_with(engine, journal, tmp_path))
    assert engine.calls == ["start"] * starts + [f"restart {policy}"]


async def test_what_its_owner_stopped_before_restarts_were_forbidden_stays_stopped(
    journal: Journal, tmp_path: Path, gates: list[int]
) -> None:
    engine = FakeEngine("exited")
    engine.restart = "always"
    written(journal, Role.SOURCE, State.ABORTED, container="c", restart_policy=POLICY, owes_thaw=True)
    await recover(host_with(engine, journal, tmp_path))
    assert engine.calls == ["restart always"]


async def test_what_its_user_stopped_while_restarts_were_forbidden_stays_stopped(
    journal: Journal, tmp_path: Path, gates: list[int]
) -> None:
    engine = FakeEngine("exited")
    engine.stopped_by_user = True
    engine.failing.add("events")
    written(journal, Role.SOURCE, State.ABORTED, container="c", restart_policy=POLICY, owes_thaw=True)
    # Until Docker says which of the two it was, neither the start nor the policy.
    assert len(await recover(host_with(engine, journal, tmp_path))) == 1
    assert engine.calls == []
    engine.failing.clear()
    await recover(host_with(engine, journal, tmp_path))
    assert engine.calls == ["restart always"]


async def test_one_move_that_cannot_be_settled_does_not_stop_the_others(
    journal: Journal, tmp_path: Path, gates: list[int]
) -> None:
    engine = FakeEngine("paused")
    engine.failing.add("unpause")
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c", peer="p:1", restart_policy={})
    journal.record(b"n" * 16, Role.TARGET, 1, State.RECEIVING, container="d")
    unsettled = await recover(host_with(engine, journal, tmp_path))
    assert [record.move for record in unsettled] == [MOVE]
    assert engine.calls == ["remove"]


async def test_a_record_that_makes_no_sense_does_not_keep_the_daemon_down(
    journal: Journal, tmp_path: Path, gates: list[int]
) -> None:
    """P14: the other moves are settled all the same."""
    engine = FakeEngine("paused")
    journal.record(b"n" * 16, Role.SOURCE, 1, State.FREEZING)
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c", peer="p:1", restart_policy={})
    unsettled = await recover(host_with(engine, journal, tmp_path))
    assert {record.move for record in unsettled} == {b"n" * 16, MOVE}
    assert engine.calls == ["unpause"]
