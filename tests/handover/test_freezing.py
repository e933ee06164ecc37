"""A container that is caught in the middle of a vfork goes on for a moment and is frozen again, so many times."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import FakeEngine

from streamhop.engine.processes import ProcessRef
from streamhop.handover import freezing
from streamhop.handover.errors import MoveError
from streamhop.handover.freezing import FREEZES_MAX, freeze_to_dump
from streamhop.telemetry.events import EventLog

FIRST, SHELL, COMMAND = ProcessRef(107, 1), ProcessRef(120, 7), ProcessRef(131, 12)
CONTAINER: Any = SimpleNamespace(id="c", init_pid=7)


class Vforking:
    """A container that is caught so many times when it is frozen, and is over it when it has been looked at again."""

    def __init__(self, engine: FakeEngine, caught: int, lasting_looks: int = 1) -> None:
        self.engine = engine
        self.left = caught
        self.lasting_looks = lasting_looks
        self.looks_while_running = 0

    async def processes(self, init_pid: int) -> Sequence[ProcessRef]:
        assert self.engine.status == "paused"
        return [FIRST, SHELL, COMMAND]

    async def sharing_memory(self, processes: Sequence[ProcessRef]) -> Sequence[tuple[ProcessRef, ProcessRef]]:
        if self.engine.status == "paused":
            self.left -= 1
            self.looks_while_running = 0
            return [(SHELL, COMMAND)] if self.left >= 0 else []
        self.looks_while_running += 1
        return [(SHELL, COMMAND)] if self.looks_while_running < self.lasting_looks else []


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Notes the gate among the calls."""
    engine = FakeEngine("running")

    async def close_gate(_: int) -> None:
        engine.calls.append("close")

    async def open_gate(_: int) -> None:
        engine.calls.append("open")

    monkeypatch.setattr("streamhop.handover.source_actions.close_gate", close_gate)
    monkeypatch.setattr("streamhop.handover.source_actions.open_gate", open_gate)
    return engine


async def freeze(engine: FakeEngine, means: Vforking) -> tuple[Sequence[ProcessRef] | None, EventLog]:
    log = EventLog()

    def note(frozen: bool) -> None:
        engine.calls.append("downtime begins" if frozen else "downtime ends")

    fakes: Any = engine, means
    return await freeze_to_dump(fakes[0], CONTAINER, fakes[1], log, note), log


FREEZE, THAW = ["downtime begins", "close", "pause"], ["downtime ends", "open", "unpause"]


@pytest.mark.parametrize("caught", [0, 1, 3])
async def test_it_is_frozen_until_it_holds_and_only_that_is_downtime(engine: FakeEngine, caught: int) -> None:
    found, log = await freeze(engine, Vforking(engine, caught, lasting_looks=3))
    assert found == [FIRST, SHELL, COMMAND]
    assert engine.calls == (FREEZE + THAW) * caught + FREEZE
    assert engine.status == "paused"
    log.close()
    told = [event["text"] async for event in log.follow() if event["event"] == "remark"]
    assert len(told) == caught
    assert all("process 7 waits for its child 12" in text for text in told)


async def test_one_that_is_always_caught_is_given_up(engine: FakeEngine) -> None:
    with pytest.raises(MoveError, match=r"frozen 20 times .* in the middle of a vfork \(process 7 waits") as caught:
        await freeze(engine, Vforking(engine, 10**6))
    assert caught.value.runs_at == "source"
    assert engine.calls.count("pause") == FREEZES_MAX
    assert engine.status == "paused", "whoever undoes the move thaws it"


async def test_it_is_given_up_when_it_takes_too_long(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "FREEZING_S_MAX", 0.0)
    with pytest.raises(MoveError, match="frozen 1 times"):
        await freeze(engine, Vforking(engine, 1))


async def test_a_vfork_that_is_not_over_is_not_waited_for_for_ever(engine: FakeEngine) -> None:
    assert (await freeze(engine, Vforking(engine, 1, lasting_looks=10**6)))[0] is not None


async def test_a_container_that_somebody_pauses_in_between_is_theirs(engine: FakeEngine) -> None:
    means = Vforking(engine, 2)
    look = means.sharing_memory

    async def look_and_pause(processes: Sequence[ProcessRef]) -> Sequence[tuple[ProcessRef, ProcessRef]]:
        found = await look(processes)
        if engine.status == "running":
            engine.status = "paused"
        return found

    means.sharing_memory = look_and_pause  # type: ignore[method-assign]
    assert (await freeze(engine, means))[0] is None


async def test_a_cancel_waits_for_what_docker_is_about(engine: FakeEngine) -> None:
    pausing, go_on = asyncio.Event(), asyncio.Event()
    pause = engine.pause

    async def slow(container: str) -> None:
        pausing.set()
        await go_on.wait()
        await pause(container)

    engine.pause = slow  # type: ignore[method-assign]
    task = asyncio.create_task(freeze(engine, Vforking(engine, 0)))
    await pausing.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.status == "paused"
