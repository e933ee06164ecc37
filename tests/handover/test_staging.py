"""Copies ahead of a move: when they are sent, when they give way, when they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with

from streamhop.engine.docker import EngineError
from streamhop.handover import staging as room
from streamhop.handover.background import Background
from streamhop.handover.errors import MoveError, NotRunningError, UnreachableError
from streamhop.handover.journal import Journal
from streamhop.handover.means import Means
from streamhop.handover.offering import KEPT_S_MAX, _kept_s
from streamhop.handover.preflight import SourceContainer
from streamhop.handover.remembered import remembered
from streamhop.handover.staging import StagedCopy, StageRequest, Staging
from streamhop.handover.states import Role, State
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Accept

CONTAINER = "c" * 64
A, B = "10.0.0.1:4711", "10.0.0.2:4711"


class Copies:
    """The staging of a host of which the sending and the dropping are watched."""

    def __init__(self, staging: Staging, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.staging, self.engine = staging, engine
        self.sent: list[str] = []
        self.dropped: list[str] = []
        self.failures: list[BaseException] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.kept_s = 1000.0
        self.trouble: Exception | None = None
        self.container: Any = SourceContainer(CONTAINER, "web", 7, "runc", {}, {}, None)  # type: ignore[arg-type]
        for name in ("_send", "_drop", "_check"):
            monkeypatch.setattr(staging, name, getattr(self, name))

    async def _check(self, _: str) -> SourceContainer:
        if self.trouble is not None:
            raise self.trouble
        if self.engine.status != "running":
            raise NotRunningError("it does not run")
        return self.container

    async def _send(self, copy: StagedCopy) -> None:
        await self._check("")
        self.sent.append(copy.peer.name)
        await self.may_end.wait()
        if self.failures:
            raise self.failures.pop()
        copy.times, copy.kept_s, copy.staged_at = copy.times + 1, self.kept_s, 1e9

    async def _drop(self, copy: StagedCopy) -> None:
        self.dropped.append(copy.peer.name)

    async def stage(self, *peers: str, refresh_s: float | None = None) -> list[StagedCopy]:
        return await self.staging.stage(StageRequest("web", peers, refresh_s))

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - tasks that tell nobody
                await asyncio.sleep(0.001)


@pytest.fixture
async def copies(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Copies]:
    engine = FakeEngine("running")
    host = host_with(engine, journal, tmp_path)
    async with asyncio.TaskGroup() as tasks:
        background = Background(tasks, host.stopping)
        yield Copies(Staging(host, background, Means()), engine, monkeypatch)
        background.stop()


async def test_a_copy_is_sent_to_every_peer_once(copies: Copies) -> None:
    await copies.stage("10.0.0.1", "10.0.0.2", "10.0.0.1")
    await copies.until(lambda: [copy.times for copy in copies.staging.copies()] == [1, 1])
    assert copies.sent == [A, B]


async def test_a_copy_is_refreshed_and_what_failed_is_tried_again(copies: Copies) -> None:
    copies.failures = [UnreachableError("the link is down")]
    (copy,) = await copies.stage("10.0.0.1", refresh_s=0.01)
    await copies.until(lambda: copy.failure is not None)
    await copies.until(lambda: copy.times >= 3)
    assert copy.failure is None


async def test_a_copy_that_is_sent_once_goes_from_the_list_when_it_expires(copies: Copies) -> None:
    copies.kept_s = 0.05
    await copies.stage("10.0.0.1")
    await copies.until(lambda: copies.sent and not copies.staging.copies())
    assert (copies.sent, copies.dropped) == ([A], [])


async def test_one_that_could_not_be_sent_is_listed_for_a_while(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "FAILED_SHOWN_S", 0.05)
    copies.failures = [UnreachableError("nobody there")]
    (copy,) = await copies.stage("10.0.0.1")
    await copies.until(lambda: copy.failure is not None)
    assert copies.staging.copies() == [copy]
    await copies.until(lambda: not copies.staging.copies())


async def test_a_second_request_sends_anew(copies: Copies) -> None:
    (copy,) = await copies.stage("10.0.0.1")
    await copies.until(lambda: copy.times == 1 and copy.sending is None)
    assert await copies.stage("10.0.0.1", refresh_s=500.0) == [copy]
    await copies.until(lambda: copies.sent == [A, A])
    assert copy.refresh_s == 500.0


async def test_a_move_cuts_the_sending_short_and_nothing_is_sent_until_it_has_ended(copies: Copies) -> None:
    copies.may_end.clear()
    (copy,) = await copies.stage("10.0.0.1", refresh_s=0.01)
    await copies.until(lambda: copies.sent)
    async with copies.staging.held_back(CONTAINER, copy.peer):
        sent = len(copies.sent)
        copies.may_end.set()
        await asyncio.sleep(0.05)
        assert (len(copies.sent), copy.times) == (sent, 0)
        with pytest.raises(MoveError, match="being moved"):
            await copies.stage("10.0.0.2")
    await copies.until(lambda: copy.times >= 2)


async def test_a_copy_that_a_move_cut_short_is_sent_after_it_though_it_is_sent_but_once(copies: Copies) -> None:
    copies.may_end.clear()
    (copy,) = await copies.stage("10.0.0.1")
    await copies.until(lambda: copies.sent)
    async with copies.staging.held_back(CONTAINER, copy.peer):
        copies.may_end.set()
        await asyncio.sleep(0.05)
        assert copies.staging.copies() == [copy]
    await copies.until(lambda: copy.times == 1)


async def test_a_move_does_not_wait_for_copies_at_other_peers(copies: Copies) -> None:
    first, second = await copies.stage("10.0.0.1", "10.0.0.2", refresh_s=500.0)
    await copies.until(lambda: first.times and second.times)
    async with asyncio.timeout(5), second.turn, copies.staging.held_back(CONTAINER, first.peer):
        assert first.turn.locked()


async def test_a_container_that_cannot_be_looked_at_after_a_move_keeps_its_copies(copies: Copies) -> None:
    (copy,) = await copies.stage("10.0.0.1")
    await copies.until(lambda: copy.times == 1 and copy.sending is None)
    copies.trouble = EngineError("Docker is away")
    async with copies.staging.held_back(CONTAINER, copy.peer):
        pass
    await asyncio.sleep(0.05)
    assert (copies.staging.copies(), copies.dropped) == ([copy], [])


async def test_nothing_is_begun_by_a_daemon_that_stops(copies: Copies) -> None:
    copies.staging._background.stop()
    with pytest.raises(MoveError, match="is stopping"):
        await copies.stage("10.0.0.1")


async def test_a_container_that_has_gone_takes_its_copies_with_it(copies: Copies) -> None:
    (copy,) = await copies.stage("10.0.0.1")
    await copies.until(lambda: copy.times == 1 and copy.sending is None)
    async with copies.staging.held_back(CONTAINER, copy.peer):
        copies.engine.status = "gone"
    await copies.until(lambda: not copies.staging.copies())
    assert copies.dropped == [A]


async def test_a_container_that_is_paused_keeps_its_copies(copies: Copies) -> None:
    (copy,) = await copies.stage("10.0.0.1", refresh_s=0.01)
    await copies.until(lambda: copy.times >= 1)
    copies.engine.status = "paused"
    await copies.until(lambda: copy.failure is not None)
    copies.engine.status, times = "running", copy.times
    await copies.until(lambda: copy.times > times)
    assert copies.dropped == []


async def test_what_is_unstaged_is_dropped(copies: Copies) -> None:
    await copies.stage("10.0.0.1", "10.0.0.2", refresh_s=500.0)
    await copies.until(lambda: [copy.times for copy in copies.staging.copies()] == [1, 1])
    assert [copy.peer.name for copy in await copies.staging.unstage("web", [B])] == [B]
    for container, peers in (("other", []), ("c", []), ("web", ["10.0.0.9"])):
        with pytest.raises(MoveError, match="no copy of"):
            await copies.staging.unstage(container, peers)
    assert len(await copies.staging.unstage(CONTAINER[:12])) == 1
    assert copies.dropped == [B, A]
    assert copies.staging.copies() == []


async def test_copies_are_bounded(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "COPIES_MAX", 2)
    await copies.stage("10.0.0.1", "10.0.0.2")
    await copies.stage("10.0.0.2")
    with pytest.raises(MoveError, match="more than 2 copies"):
        await copies.stage("10.0.0.2", "10.0.0.3")


async def test_a_bug_in_the_sending_ends_that_copy_alone(copies: Copies) -> None:
    copies.failures = [ZeroDivisionError()]
    await copies.stage("10.0.0.1")
    await copies.until(lambda: copies.sent and not copies.staging.copies())


def test_what_was_staged_here_is_no_move(journal: Journal) -> None:
    journal.record(MOVE, Role.TARGET, 1, State.RECEIVING, staged=True, name="web", peer="p")
    assert remembered(journal.all(), [], []) == []
    journal.forget_ended(1000)
    assert len(journal.all()) == 1
    journal.record(MOVE, Role.TARGET, 1, State.ABORTED)
    journal.forget_ended(1000)
    assert journal.all() == []


@pytest.mark.parametrize(("kept_s", "believed"), [(60, 60.0), (1e13, KEPT_S_MAX)])
async def test_how_long_a_copy_is_kept_is_believed_within_reason(kept_s: float, believed: float) -> None:
    assert _kept_s(Accept(move=MOVE, epoch=1, lacks=[], reused=[], attributes={"kept_s": kept_s})) == believed


@pytest.mark.parametrize("kept_s", [None, True, "60", 0, -1.0, float("nan"), float("inf")])
async def test_what_is_no_time_to_keep_a_copy_is_an_error(kept_s: object) -> None:
    with pytest.raises(UnexpectedError, match="kept_s"):
        _kept_s(Accept(move=MOVE, epoch=1, lacks=[], reused=[], attributes={"kept_s": kept_s}))
