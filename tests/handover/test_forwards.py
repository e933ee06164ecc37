"""Ports that are relayed after a move: when they begin and end, whoever restarts, and to whom they yield."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from handover_support import MOVE, written

from streamhop.handover.forwards import NOTED_S, Forwards
from streamhop.handover.journal import Journal
from streamhop.handover.states import Role, State
from streamhop.net.relaying import Port

WEB, DNS = Port("", 80, "tcp"), Port("10.0.0.1", 53, "udp")
OTHER = b"o" * 16


class World:
    """A host that reboots and whose daemon is restarted; ports that are taken, and relays that were opened."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.now = 1000.0
        self.boot = "first"
        self.taken: set[Port] = set()
        self.open: dict[Port, tuple[str, ...]] = {}
        self.forwards = self.daemon()

    def daemon(self) -> Forwards:
        world = self

        class FakeRelay:
            active = 3

            def __init__(self, port: Port, hosts: Sequence[str]) -> None:
                self.port, self.hosts = port, tuple(hosts)

            async def open(self) -> None:
                if self.port in world.taken or self.port in world.open:
                    raise OSError("Address already in use")
                world.open[self.port] = self.hosts

            async def close(self) -> None:
                del world.open[self.port]

        make: Any = FakeRelay
        return Forwards(self.journal, self.boot, lambda: self.now, make)

    async def restart(self) -> None:
        """The daemon ends and another one starts."""
        self.open.clear()
        self.forwards = self.daemon()
        running = asyncio.create_task(self.forwards.run())
        async with asyncio.timeout(5):
            while not self.forwards.rows() and self.journal.forwards.all():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})

    async def promise(self, *ports: Port, seconds: float = 60.0) -> None:
        await self.forwards.promise(MOVE, "web", "edge-b", ["10.0.0.2"], ports or (WEB,), seconds)

    async def moved(self, *ports: Port, seconds: float = 60.0) -> None:
        """A move with a forward that has just been done."""
        await self.promise(*ports, seconds=seconds)
        written(self.journal, Role.SOURCE, State.PRECOPY, State.FREEZING, State.RELEASED, State.DONE)
        self.forwards.ended(MOVE)
        await self.forwards.look()


@pytest.fixture
def world(journal: Journal) -> World:
    return World(journal)


async def test_it_begins_when_the_container_is_gone_and_ends_by_itself(world: World) -> None:
    await world.promise(WEB, DNS)
    for state in (State.PRECOPY, State.FREEZING, State.RELEASED):
        written(world.journal, Role.SOURCE, state)
        await world.forwards.look()
        assert world.open == {}
    world.now += 500
    written(world.journal, Role.SOURCE, State.DONE)
    world.forwards.ended(MOVE)
    await world.forwards.look()
    assert world.open == {WEB: ("10.0.0.2",), DNS: ("10.0.0.2",)}
    world.now += 59.9
    await world.forwards.look()
    assert len(world.open) == 2
    world.now += 0.2
    await world.forwards.look()
    assert (world.open, world.forwards.rows(), world.journal.forwards.all()) == ({}, [], [])


async def test_a_move_that_is_tried_again_keeps_its_promise(world: World) -> None:
    await world.promise()
    written(world.journal, Role.SOURCE, State.PRECOPY, State.ABORTED)
    await world.forwards.look()
    assert [row["begun"] for row in world.forwards.rows()] == [False]


@pytest.mark.parametrize("states", [(), (State.PRECOPY, State.ABORTED)])
async def test_a_container_that_stays_has_nothing_relayed(world: World, states: Sequence[State]) -> None:
    await world.promise()
    if states:
        written(world.journal, Role.SOURCE, *states)
    world.forwards.ended(MOVE)
    await world.forwards.look()
    assert (world.open, world.journal.forwards.all()) == ({}, [])


async def test_a_doubt_that_is_settled_later_begins_it(world: World) -> None:
    await world.promise()
    written(world.journal, Role.SOURCE, State.PRECOPY, State.FREEZING, State.RELEASED)
    world.forwards.ended(MOVE)
    await world.forwards.look()
    assert world.open == {}
    written(world.journal, Role.SOURCE, State.DONE)
    await world.forwards.look()
    assert list(world.open) == [WEB]


async def test_a_daemon_that_starts_goes_on_with_it(world: World) -> None:
    await world.moved(WEB, DNS)
    world.now += 20
    await world.restart()
    await world.forwards.look()
    assert set(world.open) == {WEB, DNS}
    assert [row["left_s"] for row in world.forwards.rows()] == [40.0]
    world.now += 41
    await world.forwards.look()
    assert world.open == {}


async def test_a_daemon_that_ended_before_the_move_was_done_has_promised_too(world: World) -> None:
    await world.promise()
    written(world.journal, Role.SOURCE, State.PRECOPY, State.FREEZING, State.RELEASED)
    await world.restart()
    await world.forwards.look()
    assert world.open == {}
    written(world.journal, Role.SOURCE, State.DONE)
    await world.forwards.look()
    assert list(world.open) == [WEB]


async def test_after_a_boot_it_goes_on_where_it_was_written_down(world: World) -> None:
    await world.moved(seconds=3 * NOTED_S)
    world.now += NOTED_S
    await world.forwards.look()
    world.now, world.boot = 5.0, "second"
    await world.restart()
    await world.forwards.look()
    assert [row["left_s"] for row in world.forwards.rows()] == [2 * NOTED_S]
    world.now += 2 * NOTED_S + 1
    await world.forwards.look()
    assert world.forwards.rows() == []


async def test_a_port_that_is_not_free_yet_is_tried_again(world: World) -> None:
    world.taken.add(WEB)
    await world.moved(WEB, DNS)
    assert list(world.open) == [DNS]
    assert [port["open"] for port in world.forwards.rows()[0]["ports"]] == [False, True]  # type: ignore[attr-defined]
    world.taken.clear()
    await world.forwards.look()
    assert set(world.open) == {WEB, DNS}


async def test_it_can_be_stopped(world: World) -> None:
    await world.moved()
    assert world.forwards.find(MOVE.hex()[:6]) == [MOVE]
    await world.forwards.stop(MOVE)
    assert (world.open, world.journal.forwards.all()) == ({}, [])


# -- containers that come ----------------------------------------------------------------------------------------------


async def test_a_container_that_comes_takes_its_port_for_good(world: World) -> None:
    await world.moved(WEB, DNS)
    assert world.forwards.holds(80, "tcp")
    assert not world.forwards.holds(80, "udp")
    await world.forwards.yield_ports([("127.0.0.1", 80, "tcp"), ("", 443, "tcp")], OTHER)
    assert list(world.open) == [DNS]
    world.journal.record(OTHER, Role.TARGET, 1, State.RECEIVING)
    await world.forwards.look()
    assert list(world.open) == [DNS]
    world.journal.record(OTHER, Role.TARGET, 1, State.OWNED)
    await world.forwards.look()
    assert world.forwards.rows()[0]["ports"] == [{"port": "10.0.0.1:53/udp", "open": True, "active": 3}]
    world.journal.record(OTHER, Role.TARGET, 1, State.ABORTED)  # and removed since
    await world.forwards.look()
    assert list(world.open) == [DNS]


@pytest.mark.parametrize("end", [State.ABORTED, State.REFUSED])
async def test_a_container_that_does_not_start_here_gives_its_port_back(world: World, end: State) -> None:
    await world.moved()
    world.journal.record(OTHER, Role.TARGET, 1, State.RECEIVING)
    await world.forwards.yield_ports([("", 80, "tcp")], OTHER)
    await world.restart()
    await world.forwards.look()
    assert world.open == {}
    world.journal.record(OTHER, Role.TARGET, 1, end)
    await world.forwards.look()
    assert list(world.open) == [WEB]


async def test_nothing_is_left_of_a_forward_all_of_whose_ports_are_taken(world: World) -> None:
    await world.moved()
    await world.forwards.yield_ports([("", 80, "tcp")], OTHER)
    written(world.journal, Role.SOURCE, State.DONE)
    world.journal.record(OTHER, Role.TARGET, 1, State.OPEN)
    await world.forwards.look()
    assert world.journal.forwards.all() == []


async def test_two_forwards_of_one_port_follow_each_other(world: World) -> None:
    await world.moved(seconds=10)
    world.journal.record(OTHER, Role.SOURCE, 1, State.DONE)
    await world.forwards.promise(OTHER, "web2", "edge-c", ["10.0.0.3"], [WEB], 60)
    world.forwards.ended(OTHER)
    await world.forwards.look()
    assert world.open == {WEB: ("10.0.0.2",)}
    world.now += 11
    await world.forwards.look()
    await world.forwards.look()
    assert world.open == {WEB: ("10.0.0.3",)}


async def test_what_runs_ends_its_relays_with_the_daemon(world: World) -> None:
    await world.promise()
    written(world.journal, Role.SOURCE, State.DONE)
    world.forwards.ended(MOVE)
    running = asyncio.create_task(world.forwards.run())
    async with asyncio.timeout(5):
        while not world.open:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    assert world.open == {}
    assert len(world.journal.forwards.all()) == 1
