"""The source when a move ends otherwise than planned: what is said is true, and nothing is left frozen."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import MOVE, POLICY, FakeEngine, host_with, make_unwritable

from streamhop.config import Address
from streamhop.handover import outgoing, retreating
from streamhop.handover.errors import (
    CancelledMoveError,
    EndedError,
    InDoubtError,
    MoveError,
    NoConvergenceError,
    PausedError,
    StillFrozenError,
    StoppedError,
    UnreachableError,
)
from streamhop.handover.journal import Journal
from streamhop.handover.outgoing import OutgoingMove
from streamhop.handover.policy import Decision, PolicyOptions, Prediction, Verdict
from streamhop.handover.report import Tally
from streamhop.handover.source_actions import freeze
from streamhop.handover.states import Role, State
from streamhop.net import SessionLost
from streamhop.peering import PeerDirectory, PeerTarget
from streamhop.telemetry.events import EventLog
from streamhop_protocol.messages import Abort, Aborted, Message, Release
from streamhop_protocol.messages import State as StateMessage


class FakeSession:
    """A peer that says nothing by itself, and ABORTED to an ABORT."""

    peer_name, rtt_s, wire_bytes_sent = "edge-b", 0.01, 1000

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.answers: asyncio.Queue[Message] = asyncio.Queue()
        self.lost = False
        self.closing, self.may_close = asyncio.Event(), asyncio.Event()
        self.may_close.set()

    async def close(self) -> None:
        self.closing.set()
        await self.may_close.wait()

    async def send(self, message: Message) -> None:
        if self.lost:
            raise SessionLost("gone")
        self.heard.append(message)
        if isinstance(message, Abort):
            self.answers.put_nowait(Aborted(move=message.move, epoch=1))

    async def receive(self) -> Message:
        if self.lost:
            raise SessionLost("gone")
        return await self.answers.get()


class Source:
    """A move whose course is ``course``; the journal, engine and undoing are the real ones."""

    def __init__(
        self, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, course: Callable[[], Awaitable[None]]
    ) -> None:
        self.engine, self.session, self.journal = FakeEngine("running"), FakeSession(), journal
        manifest = SimpleNamespace(request=SimpleNamespace(name="web"))
        container: Any = SimpleNamespace(id="c", name="web", restart_policy=POLICY, manifest=manifest, volumes={})
        self.move: Any = OutgoingMove(
            host_with(self.engine, journal, tmp_path),
            MOVE,
            container,
            PeerTarget("edge-b", (Address("127.0.0.1", 4711),)),
            PolicyOptions(),
            EventLog(),
            Tally(),
        )

        async def dial(*_: Any, **__: Any) -> FakeSession:
            return self.session

        async def move(*_: Any) -> None:
            await course()

        monkeypatch.setattr(PeerDirectory, "dial", dial)
        monkeypatch.setattr(retreating, "ABORT_ANSWER_S", 0.1)
        self.move._move = move

    async def enter(self, *states: State) -> None:
        for state in states:
            if state is State.FREEZING:
                self.engine.status = "paused"
            await self.move._journal.enter(state, container="c", peer="127.0.0.1:4711", restart_policy=POLICY)

    @property
    def state(self) -> State:
        record = self.journal.latest(self.move.id, Role.SOURCE)
        assert record is not None
        return record.state


@pytest.mark.parametrize(
    ("status", "init_pid", "released"),
    [("paused", 7, True), ("exited", 7, True), ("running", 7, False), ("running", 8, False), ("paused", 8, False)],
)
async def test_what_runs_again_at_the_source_is_not_released(
    journal: Journal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gates: list[int],
    status: str,
    init_pid: int,
    *,
    released: bool,
) -> None:
    """P1: simulator seed 9119. dockerd was restarted while the container was frozen, and started it afresh."""

    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        source.engine.status = status
        await source.move._release(source.session, dialogue, b"d" * 32)

    class Answering:
        async def answer(self, _: object) -> None:
            raise SessionLost("released")

    dialogue: Any = Answering()
    source = Source(journal, tmp_path, monkeypatch, course)
    source.move._container.init_pid = init_pid
    with pytest.raises(InDoubtError if released else MoveError):
        await source.move.run()
    assert source.state is (State.RELEASED if released else State.ABORTED)
    assert any(isinstance(message, Release) for message in source.session.heard) is released


async def test_a_lost_link_while_frozen_thaws_and_owes_the_abort(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        source.session.lost = True
        raise SessionLost("the peer closed it")

    source = Source(journal, tmp_path, monkeypatch, course)
    with pytest.raises(UnreachableError):
        await source.move.run()
    assert source.engine.calls == ["unpause", "restart always"]
    assert [record.details["owes_abort"] for record in journal.unsettled()] == [True]


async def test_a_cancel_during_the_undoing_does_not_change_what_is_said(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    undoing, go_on = asyncio.Event(), asyncio.Event()

    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        raise SessionLost("the peer closed it")

    source = Source(journal, tmp_path, monkeypatch, course)
    unpause = source.engine.unpause

    async def slow(container: str) -> None:
        undoing.set()
        await go_on.wait()
        await unpause(container)

    monkeypatch.setattr(source.engine, "unpause", slow)
    running = asyncio.create_task(source.move.run())
    await undoing.wait()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(UnreachableError):
        await running
    assert source.engine.status == "running"


@pytest.mark.parametrize("state", [State.FREEZING, State.RELEASED])
async def test_a_cancel_while_the_session_is_closed_does_not_change_what_is_said(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int], state: State
) -> None:
    """P8: simulator seed 4801. A daemon that was stopped after GO said that the container runs here."""

    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        if state is State.RELEASED:
            await source.enter(State.RELEASED)
        raise SessionLost("the peer closed it")

    source = Source(journal, tmp_path, monkeypatch, course)
    source.session.may_close.clear()
    running = asyncio.create_task(source.move.run())
    await source.session.closing.wait()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    source.session.may_close.set()
    with pytest.raises(InDoubtError if state is State.RELEASED else UnreachableError):
        await running


async def test_a_thaw_that_fails_is_said_and_the_target_still_hears_the_abort(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        source.engine.failing.add("unpause")
        raise OSError("something")

    source = Source(journal, tmp_path, monkeypatch, course)
    with pytest.raises(StillFrozenError, match="unpause fails"):
        await source.move.run()
    assert [type(message) for message in source.session.heard] == [Abort]
    assert [record.details["owes_thaw"] for record in journal.unsettled()] == [True]


async def test_without_a_durable_abort_nothing_is_thawed_and_nobody_is_told(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        raise OSError("something")

    source = Source(journal, tmp_path, monkeypatch, course)
    make_unwritable(journal, monkeypatch, State.ABORTED)
    with pytest.raises(StillFrozenError, match="disk is full"):
        await source.move.run()
    assert source.engine.calls == []
    assert source.session.heard == []
    assert source.state is State.FREEZING


async def test_a_move_that_is_done_is_reported_as_done_whatever_comes_after(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING, State.RELEASED)
        await source.move._journal.enter(State.DONE, owes_finish=True)
        raise SessionLost("the peer closed it")

    source = Source(journal, tmp_path, monkeypatch, course)
    assert (await source.move.run())["outcome"] == "moved"
    assert len(journal.unsettled()) == 1


async def test_after_the_commit_any_failure_is_a_doubt(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING, State.RELEASED)
        assert source.move.committed
        raise asyncio.CancelledError

    source = Source(journal, tmp_path, monkeypatch, course)
    with pytest.raises(InDoubtError):
        await source.move.run()
    assert source.engine.calls == []


async def test_a_cancel_before_the_commit_is_a_cancel(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    frozen = asyncio.Event()

    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        frozen.set()
        await asyncio.Event().wait()

    source = Source(journal, tmp_path, monkeypatch, course)
    running = asyncio.create_task(source.move.run())
    await frozen.wait()
    running.cancel()
    with pytest.raises(CancelledMoveError):
        await running
    assert source.engine.status == "running"


async def test_a_target_that_never_gets_ready_does_not_hold_the_container(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        async with source.move._frozen_no_longer_than_bearable(source.session):
            await asyncio.Event().wait()

    monkeypatch.setattr(outgoing, "FROZEN_GRACE_S", 0.05)
    source = Source(journal, tmp_path, monkeypatch, course)
    with pytest.raises(NoConvergenceError, match="was not ready"):
        await source.move.run()
    assert source.engine.status == "running"


KEEPS_TO = PolicyOptions(downtime_s_max=0.4, abort_if_unmet=True)


async def test_a_freeze_ends_when_the_downtime_asked_for_cannot_be_kept_any_more(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    """P6: long before a target that is only slow would be given up."""

    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        async with source.move._frozen_no_longer_than_bearable(source.session) as limit:
            source.move._note_freeze(source.session, limit, frozen=True)
            await asyncio.Event().wait()

    source = Source(journal, tmp_path, monkeypatch, course)
    source.move._options = KEEPS_TO
    began = time.monotonic()
    with pytest.raises(NoConvergenceError, match=r"the 0.4 s asked for could not be kept"):
        await source.move.run()
    assert time.monotonic() - began < outgoing.FROZEN_GRACE_S / 2
    assert source.engine.status == "running"


async def test_only_the_freeze_that_holds_counts(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P6: what a container has been frozen for before it went on for a moment is not of this downtime."""
    source = Source(journal, tmp_path, monkeypatch, _nothing)
    source.move._options = KEEPS_TO
    asked_s = KEEPS_TO.downtime_s_max
    async with source.move._frozen_no_longer_than_bearable(source.session) as limit:
        for _ in range(3):
            source.move._note_freeze(source.session, limit, frozen=True)
            await asyncio.sleep(0.4 * asked_s)
            source.move._note_freeze(source.session, limit, frozen=False)
            await asyncio.sleep(asked_s)
        source.move._note_freeze(source.session, limit, frozen=True)
    source.move._check_in_time(source.session)


@pytest.mark.parametrize(
    ("frozen_s", "abort", "released"), [(1.0, True, True), (1.98, True, False), (9.0, True, False), (9.0, False, True)]
)
async def test_what_would_come_too_late_is_not_released(
    journal: Journal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gates: list[int],
    frozen_s: float,
    *,
    abort: bool,
    released: bool,
) -> None:
    """P6: 1.98 s of 2 s leave no time for GO to arrive and the gate to open."""

    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        source.move._retreat.frozen_at = time.monotonic() - frozen_s
        await source.move._release(source.session, dialogue, b"d" * 32)

    class Answering:
        async def answer(self, _: object) -> None:
            raise SessionLost("released")

    dialogue: Any = Answering()
    source = Source(journal, tmp_path, monkeypatch, course)
    source.move._container.init_pid = 7
    source.move._options = PolicyOptions(downtime_s_max=2.0, abort_if_unmet=abort)
    with pytest.raises(InDoubtError if released else NoConvergenceError) as caught:
        await source.move.run()
    assert caught.value.exit_code == (21 if released else 14)
    assert source.state is (State.RELEASED if released else State.ABORTED)
    assert source.engine.status == ("paused" if released else "running")
    assert any(isinstance(message, Release) for message in source.session.heard) is released


@pytest.mark.parametrize(("asked_s", "said"), [(0.001, "the 0.001 s asked"), (0.25, "0.25 s"), (1200.0, "1200 s")])
def test_a_downtime_that_cannot_be_met_is_told_with_all_its_digits(asked_s: float, said: str) -> None:
    verdict = Verdict(Decision.GIVE_UP, Prediction(0.004, 0.45), "8 rounds were made")
    assert said in outgoing._unmet(verdict, asked_s).reason


async def test_a_go_whose_promise_seemed_to_fail_is_a_doubt(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    record = journal.record

    def durable_but_raises(move: bytes, role: Role, epoch: int, state: State, **details: Any) -> None:
        record(move, role, epoch, state, **details)
        if state is State.RELEASED:
            raise sqlite3.OperationalError("disk I/O error")

    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING, State.RELEASED)

    source = Source(journal, tmp_path, monkeypatch, course)
    monkeypatch.setattr(journal, "record", durable_but_raises)
    with pytest.raises(InDoubtError):
        await source.move.run()
    assert source.engine.calls == []
    assert source.session.heard == []


async def test_a_copy_that_cannot_be_removed_does_not_make_a_move_fail(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING, State.RELEASED)
        source.move._retreat.runs_there = True
        raise OSError("Docker is gone")

    source = Source(journal, tmp_path, monkeypatch, course)
    assert (await source.move.run())["outcome"] == "moved"
    assert [found.state for found in journal.unsettled()] == [State.RELEASED]


async def test_what_was_never_frozen_is_not_said_to_be(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY)
        raise SessionLost("gone")

    source = Source(journal, tmp_path, monkeypatch, course)
    make_unwritable(journal, monkeypatch, State.ABORTED)
    with pytest.raises(UnreachableError):
        await source.move.run()


async def test_a_container_that_somebody_else_paused_stays_paused(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def close_gate(_pid: int) -> None:
        pass

    async def course() -> None:
        await source.enter(State.PRECOPY, State.FREEZING)
        assert not await freeze(source.engine, "c", 7)  # type: ignore[arg-type]
        await source.move._journal.note(paused_by_others=True)
        raise PausedError("somebody paused it")

    monkeypatch.setattr("streamhop.handover.source_actions.close_gate", close_gate)
    source = Source(journal, tmp_path, monkeypatch, course)
    with pytest.raises(PausedError):
        await source.move.run()
    assert source.engine.status == "paused"
    assert gates == [7]


async def test_a_container_that_was_stopped_meanwhile_is_not_said_to_run(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    async def course() -> None:
        await source.enter(State.PRECOPY)
        source.engine.status = "exited"
        raise OSError("process 7 is gone")

    source = Source(journal, tmp_path, monkeypatch, course)
    with pytest.raises(EndedError) as caught:
        await source.move.run()
    assert caught.value.runs_at == "ended"


class SilentSession:
    """A peer that was last heard of when this was made."""

    rtt_s = 0.0

    def __init__(self) -> None:
        self._heard_at = time.monotonic()
        self.pings = 0

    @property
    def silence_s(self) -> float:
        return time.monotonic() - self._heard_at

    def ping(self) -> None:
        self.pings += 1

    def hears(self) -> None:
        self._heard_at = time.monotonic()


async def test_a_daemon_that_got_no_processor_does_not_take_that_for_the_peers_silence(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "SILENCE_S_MAX", 0.3)
    source = Source(journal, tmp_path, monkeypatch, course=lambda: asyncio.sleep(0))
    session = SilentSession()
    watching = asyncio.create_task(source.move._watch_silence(session))
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251 - the whole loop stands still, as on a host that is overloaded
    # The watch's timer is due first; only then is what came meanwhile read.
    asyncio.get_running_loop().call_later(0.02, session.hears)
    await asyncio.sleep(0.15)
    assert not watching.done()
    with pytest.raises(UnreachableError, match="while the container was frozen"):
        await asyncio.wait_for(watching, 5)


async def test_that_it_runs_there_is_written_down_before_the_copy_here_goes(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int]
) -> None:
    """P2: an operator who reclaimed it then would have it removed at both ends."""
    source = Source(journal, tmp_path, monkeypatch, _nothing)
    await source.enter(State.PRECOPY, State.FREEZING, State.RELEASED)
    known: list[bool] = []

    async def remove(*_: Any, **__: Any) -> None:
        record = journal.latest(MOVE, Role.SOURCE)
        assert record is not None
        known.append(bool(record.details.get("runs_there")))

    monkeypatch.setattr(source.engine, "remove", remove)
    dialogue: Any = SimpleNamespace(answer=_done)
    await source.move._finish(source.session, dialogue)
    assert known == [True]
    assert source.state is State.DONE


@pytest.mark.parametrize("heard", [True, False])
async def test_a_cancel_that_could_not_be_told_is_owed(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int], *, heard: bool
) -> None:
    """P13: the target keeps what came for another attempt, unless it hears that nobody wants one."""

    async def course() -> None:
        await source.enter(State.PRECOPY)
        source.session.lost = not heard
        raise asyncio.CancelledError

    source = Source(journal, tmp_path, monkeypatch, course)
    with pytest.raises(CancelledMoveError):
        await source.move.run()
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    owed = (record.details.get("owes_abort", False), record.details.get("abort_code"))
    assert owed == ((False, None) if heard else (True, "cancelled"))


@pytest.mark.parametrize("heard", [True, False])
async def test_a_daemon_that_stops_is_no_cancel(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[int], *, heard: bool
) -> None:
    """Nobody has decided against the move: what came may serve the next attempt."""

    async def course() -> None:
        await source.enter(State.PRECOPY)
        source.session.lost = not heard
        source.move._host.stopping.set()
        raise asyncio.CancelledError

    source = Source(journal, tmp_path, monkeypatch, course)
    with pytest.raises(StoppedError):
        await source.move.run()
    await source.move.forgo()
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert (record.state, record.details.get("abort_code")) == (State.ABORTED, None)


async def _nothing() -> None:
    return


async def _done(_: object) -> StateMessage:
    return StateMessage(move=MOVE, epoch=1, state="done")
