"""P16: an image that came with a failed move goes; but never from under another move, whichever way that one ends."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from handover_support import FakeEngine, host_with

from streamhop.engine.docker import EngineError
from streamhop.handover.host import Host
from streamhop.handover.journal import Journal
from streamhop.handover.settling import recover
from streamhop.handover.settling_here import settle_here
from streamhop.handover.states import Role, State

FIRST, SECOND, THIRD = b"1" * 16, b"2" * 16, b"3" * 16
WEB = {"web:1": "sha256:1"}


def arriving(journal: Journal, move: bytes, layers: Iterable[str], *states: State, **details: object) -> None:
    """A move to this host that counts on ``layers``."""
    for state in (State.RECEIVING, *states):
        journal.record(move, Role.TARGET, 1, state, layers=list(layers), container="c", **details)


async def fails(host: Host, move: bytes) -> None:
    """What happens here when a move ends that never ran."""
    record = host.journal.latest(move, Role.TARGET)
    assert record is not None
    await settle_here(host, record)


async def succeeds(host: Host, move: bytes) -> None:
    """What happens here when a move's container runs."""
    for state in (State.PREPARED, State.OWNED):
        host.journal.record(move, Role.TARGET, 1, state)
    host.journal.record(move, Role.TARGET, 1, State.OPEN, owes_settling_in=True)
    await fails(host, move)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine("created")


@pytest.fixture
def host(engine: FakeEngine, journal: Journal, tmp_path: Path) -> Host:
    return host_with(engine, journal, tmp_path)


def removed(engine: FakeEngine) -> list[str]:
    return [call for call in engine.calls if call.startswith("rmi")]


async def test_an_image_stays_while_another_move_counts_on_it_and_goes_with_that_one(
    engine: FakeEngine, host: Host, journal: Journal
) -> None:
    arriving(journal, FIRST, ["base", "web"], image_loaded=WEB)
    arriving(journal, SECOND, ["base", "web"], image_loaded={})
    await fails(host, FIRST)
    assert removed(engine) == []
    await fails(host, SECOND)
    assert removed(engine) == ["rmi web:1"]


async def test_an_image_stays_for_good_once_another_move_of_it_has_succeeded(
    engine: FakeEngine, host: Host, journal: Journal
) -> None:
    arriving(journal, FIRST, ["base", "web"], image_loaded=WEB)
    arriving(journal, SECOND, ["base", "web"], image="sha256:1", image_loaded={})
    await fails(host, FIRST)
    await succeeds(host, SECOND)
    assert removed(engine) == []
    arriving(journal, THIRD, ["base", "web"], image="sha256:1", image_loaded={})
    await fails(host, THIRD)
    assert removed(engine) == []


async def test_an_image_of_which_only_layers_were_needed_goes_when_they_are_in_use(
    engine: FakeEngine, host: Host, journal: Journal
) -> None:
    arriving(journal, FIRST, ["base", "web"], image_loaded=WEB)
    arriving(journal, SECOND, ["base", "other"], image="sha256:2", image_loaded={"other:1": "sha256:2"})
    await fails(host, FIRST)
    assert removed(engine) == []
    await succeeds(host, SECOND)
    assert removed(engine) == ["rmi web:1"]


async def test_a_move_without_a_common_layer_keeps_nothing(engine: FakeEngine, host: Host, journal: Journal) -> None:
    arriving(journal, FIRST, ["base", "web"], image_loaded=WEB)
    arriving(journal, SECOND, ["other"], image_loaded={})
    await fails(host, FIRST)
    assert removed(engine) == ["rmi web:1"]


async def test_nothing_is_left_to_a_move_that_is_giving_back_itself(
    engine: FakeEngine, host: Host, journal: Journal
) -> None:
    arriving(journal, FIRST, ["base"], image_loaded=WEB)
    arriving(journal, SECOND, ["base"], gives_back=True)
    await fails(host, FIRST)
    assert removed(engine) == ["rmi web:1"]


async def test_a_removal_that_failed_finds_a_move_that_came_meanwhile(
    engine: FakeEngine, host: Host, journal: Journal
) -> None:
    arriving(journal, FIRST, ["base"], image_loaded=WEB)
    engine.failing.add("rmi")
    with pytest.raises(EngineError):
        await fails(host, FIRST)
    engine.failing.clear()
    arriving(journal, SECOND, ["base"], image="sha256:1", image_loaded={})
    await fails(host, FIRST)
    assert removed(engine) == []
    await fails(host, SECOND)
    assert removed(engine) == ["rmi web:1"]


async def test_a_daemon_that_starts_removes_it_with_the_last_of_the_moves_it_finds(
    engine: FakeEngine, host: Host, journal: Journal
) -> None:
    arriving(journal, FIRST, ["base"], image_loaded=WEB)
    arriving(journal, SECOND, ["base"], State.PREPARED)
    assert await recover(host) == []
    assert engine.calls == ["remove", "remove", "rmi web:1"]
    assert journal.unsettled() == []
