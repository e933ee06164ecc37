"""Copies ahead of a move: when they are sent, when they give way, when they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with

from streamhop.handover import staging as room
from streamhop.handover.background import Background
from streamhop.handover.errors import MoveError, NotRunningError, UnreachableError
from streamhop.handover.journal import Journal
from streamhop.handover.means import Means
from streamhop.handover.preflight import SourceContainer
from streamhop.handover.remembered import remembered
from streamhop.handover.staging import StagedCopy, StageRequest, Staging
from streamhop.handover.states import Role, State

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
        self.container: Any = SourceContainer(CONTAINER, "web", 7, "runc", {}, {}, None)  # type: ignore[arg-type]
        for name in ("_send", "_drop", "_check"):
            monkeypatch.setattr(staging, name, getattr(self, name))

    async def _check(self, _: str) -> SourceContainer:
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
    async with copies.staging.held_back(CONTAINER):
        sent = len(copies.sent)
        copies.may_end.set()
        await asyncio.sleep(0.05)
        assert (len(copies.sent), copy.times) == (sent, 0)
        with pytest.raises(MoveError, match="being moved"):
            await copies.stage("10.0.0.2")
    await copies.until(lambda: copy.times >= 2)


async def test_a_container_that_has_gone_takes_its_copies_with_it(copies: Copies) -> None:
    (copy,) = await copies.stage("10.0.0.1")
    await copies.until(lambda: copy.times == 1 and copy.sending is None)
    async with copies.staging.held_back(CONTAINER):
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
    assert await copies.staging.unstage("other") == []
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
