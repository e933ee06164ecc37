"""The target around GO: what may run is never removed, whatever fails; what never ran is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, POLICY, FakeEngine, host_with, make_unwritable, written

from streamhop.engine.restores import RestoreFailed
from streamhop.findings import Finding
from streamhop.handover.errors import MoveError, RefusedError
from streamhop.handover.incoming import IncomingMove
from streamhop.handover.journal import Journal
from streamhop.handover.outcomes import outcome_of_arrival
from streamhop.handover.states import Role, State
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Finish, Message, Offer, Refuse, Release, Started, decode_message, encode_message
from streamhop_protocol.messages import State as StateMessage


class FakeSession:
    peer_reference = "edge-a"

    def __init__(self) -> None:
        self.said: list[Message] = []

    async def send(self, message: Message) -> None:
        self.said.append(message)


class FakePending:
    """A restore that waits for GO; ``on_go`` is what happens then."""

    def __init__(self, on_go: Callable[[], Any]) -> None:
        self.on_go = on_go

    async def go(self) -> None:
        outcome = self.on_go()
        if outcome is not None:
            await outcome

    async def refuse(self, reason: str) -> None:
        pass

    def discard(self) -> None:
        pass


class Target:
    """A move to this host that has just received GO, and the session it came over."""

    def __init__(self, journal: Journal, tmp_path: Path, on_go: Callable[[], Any]) -> None:
        self.journal = journal
        self.engine = FakeEngine("created")
        self.session = FakeSession()
        session: Any = self.session
        offer = Offer(move=MOVE, epoch=1, manifest={})
        self.move: Any = IncomingMove(host_with(self.engine, journal, tmp_path), session, offer)
        pending = FakePending(on_go)

        async def admitted() -> None:
            await self.move._journal.enter(State.RECEIVING, restart_policy=POLICY)

        async def received(_: object) -> tuple[FakePending, bytes]:
            await self.move._journal.note(container="c", image_loaded={"web:1": "sha256:1"})
            await self.move._journal.enter(State.PREPARED)
            self.move._pending = pending
            self.move._starting = asyncio.ensure_future(asyncio.sleep(0))
            return pending, b"d" * 32

        async def go_came(_: bytes) -> None:
            pass

        self.move._admit, self.move._receive, self.move._await_go = admitted, received, go_came

    def starts(self) -> None:
        self.engine.status = "running"

    @property
    def state(self) -> State:
        record = self.journal.latest(MOVE, Role.TARGET)
        assert record is not None
        return record.state


async def test_a_start_as_planned_ends_here_without_waiting_for_the_source(journal: Journal, tmp_path: Path) -> None:
    target = Target(journal, tmp_path, on_go=lambda: target.starts())
    async with asyncio.timeout(5):
        await target.move.run()
    assert target.state is State.OPEN
    assert target.engine.calls == ["restart always"]
    assert [type(message) for message in target.session.said] == [Started]
    assert journal.unsettled() == []


async def test_a_finish_that_came_early_is_not_lost(journal: Journal, tmp_path: Path) -> None:
    target = Target(journal, tmp_path, on_go=lambda: target.starts())
    finish = Finish(move=MOVE, epoch=1)
    target.move.take(target.session, finish)
    await target.move.run()
    assert list(target.move.leftovers()) == [(target.session, finish)]


async def test_a_runtime_that_dies_after_the_start_leaves_it_running(journal: Journal, tmp_path: Path) -> None:
    def start_and_die() -> None:
        target.starts()
        raise RestoreFailed("the runtime went away")

    target = Target(journal, tmp_path, on_go=start_and_die)
    await target.move.run()
    assert target.state is State.OPEN
    assert "remove" not in target.engine.calls
    assert [type(message) for message in target.session.said] == [Started]


async def test_a_runtime_that_dies_before_the_start_is_cleared_up_and_said(journal: Journal, tmp_path: Path) -> None:
    def die() -> None:
        raise RestoreFailed("the runtime went away")

    target = Target(journal, tmp_path, on_go=die)
    await target.move.run()
    assert target.state is State.REFUSED
    assert target.engine.calls == ["remove", "rmi web:1"]
    assert target.session.said == [StateMessage(move=MOVE, epoch=1, state="refused")]
    told = outcome_of_arrival(written(journal, Role.TARGET), "edge-a", "here")
    assert told is not None
    assert told["reason"] == "the runtime went away"


async def test_go_is_not_followed_while_docker_does_not_answer(journal: Journal, tmp_path: Path) -> None:
    """P1: it would run, and Docker would say that it never did."""
    target = Target(journal, tmp_path, on_go=lambda: target.starts())
    target.engine.failing.add("version")
    await target.move.run()
    assert target.state is State.REFUSED
    assert target.engine.status == "gone"
    assert target.session.said == [StateMessage(move=MOVE, epoch=1, state="refused")]


async def test_a_daemon_told_to_stop_in_the_middle_of_the_start_keeps_what_it_starts(
    journal: Journal, tmp_path: Path
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def start() -> None:
        began.set()
        await go_on.wait()
        target.starts()

    target = Target(journal, tmp_path, on_go=start)
    running = asyncio.create_task(target.move.run())
    await began.wait()
    running.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert target.state is State.OPEN
    assert "remove" not in target.engine.calls


async def test_a_journal_that_cannot_be_written_after_the_start_removes_nothing_and_says_nothing(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(journal, tmp_path, on_go=lambda: target.starts())
    make_unwritable(journal, monkeypatch, State.OPEN)
    await target.move.run()
    assert target.engine.calls == []
    assert target.session.said == []
    assert [found.state for found in journal.unsettled()] == [State.OWNED]


async def test_docker_that_does_not_say_whether_it_runs_leaves_it_open(journal: Journal, tmp_path: Path) -> None:
    def die() -> None:
        target.engine.failing.add("inspect")
        raise RestoreFailed("the runtime went away")

    target = Target(journal, tmp_path, on_go=die)
    await target.move.run()
    assert target.engine.calls == []
    assert target.session.said == []
    assert [found.state for found in journal.unsettled()] == [State.OWNED]


def wait_for_go(target: Target) -> asyncio.Event:
    """Let a move really wait for GO; returns what is set when it does."""
    prepared = asyncio.Event()
    received = target.move._receive

    async def receive(manifest: object) -> Any:
        pending, digest = await received(manifest)
        target.move._digest = digest
        target.move._starting = asyncio.get_running_loop().create_future()
        prepared.set()
        return pending, digest

    target.move._receive = receive
    del target.move._await_go
    return prepared


@pytest.mark.parametrize("fails", ["docker", "journal"])
async def test_what_is_claimed_and_cannot_be_started_is_not_lost(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """P2: the source is lost, what waits here is the only copy."""
    target = Target(journal, tmp_path, on_go=lambda: target.starts())
    prepared = wait_for_go(target)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(target.move.run())
        await prepared.wait()
        if fails == "docker":
            target.engine.failing.add("version")
            with pytest.raises(MoveError, match="Docker"):
                await target.move.claim()
            target.engine.failing.clear()
        else:
            refused = make_unwritable(journal, monkeypatch, State.OWNED)
            await target.move.claim()
            while not refused:  # noqa: ASYNC110 - done by a thread
                await asyncio.sleep(0.01)
            monkeypatch.undo()
        assert (target.state, target.engine.calls) == (State.PREPARED, [])
        await target.move.claim()
        while target.state is not State.OPEN:  # noqa: ASYNC110 - the journal has no event
            await asyncio.sleep(0.01)
        target.move._starting.set_result(None)


async def test_a_claim_starts_it_and_voids_the_sources_word(journal: Journal, tmp_path: Path) -> None:
    target = Target(journal, tmp_path, on_go=lambda: target.starts())
    prepared = wait_for_go(target)
    with pytest.raises(MoveError, match="waits for GO"):
        await target.move.claim()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(target.move.run())
        await prepared.wait()
        await target.move.claim()
        with pytest.raises(UnexpectedError, match="epoch"):
            target.move.take(target.session, Release(move=MOVE, epoch=1, image_digest=b"d" * 32))
        while target.state is not State.OPEN:  # noqa: ASYNC110 - the journal has no event
            await asyncio.sleep(0.01)
        target.move._starting.set_result(None)
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    assert (record.state, record.epoch) == (State.OPEN, 2)


async def test_a_disk_too_full_to_begin_leaves_no_spool(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P16: simulator seed 3670. Neither the first record could be written, nor the journal be read afterwards."""
    target = Target(journal, tmp_path, on_go=lambda: None)

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def admit() -> None:
        target.move._spool.mkdir(parents=True)
        await target.move._journal.enter(State.RECEIVING)

    monkeypatch.setattr(journal, "latest", full)
    make_unwritable(journal, monkeypatch, State.RECEIVING)
    target.move._admit = admit
    await target.move.run()
    assert not target.move._spool.exists()
    assert [type(message) for message in target.session.said] == [Refuse]


async def test_a_refusal_tells_all_reasons_as_far_as_a_message_holds_them(journal: Journal, tmp_path: Path) -> None:
    error = RefusedError.of_several(
        [Finding("target.port", "port 80 is taken", "free it"), Finding("target.name", "\N{SNOWMAN}" * 5000, "no fix")]
    )
    said = Target(journal, tmp_path, on_go=lambda: None).move._last_word(None, error, error)
    assert decode_message(*encode_message(said)) == said
    assert (said.reason, said.fix) == ("port 80 is taken", "free it")
    ((reason, fix),) = said.others
    assert (len(reason.encode()), fix) == (4095, "no fix")
