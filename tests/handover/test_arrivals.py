"""Moves to this host: what a daemon that stops takes in, and what can be claimed."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with, make_unwritable, written

from streamhop.handover.arrivals import INCOMING_MAX, INCOMING_PER_PEER_MAX, Arrivals
from streamhop.handover.background import Background
from streamhop.handover.errors import MoveError
from streamhop.handover.journal import Journal
from streamhop.handover.means import Means
from streamhop.handover.settlements import Settlements
from streamhop.handover.states import Role, State
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Finish, Offer, Query, Refuse


class Arriving:
    """A host's arrivals, and a session that offers a move and keeps what it is answered."""

    def __init__(self, journal: Journal, tmp_path: Path, tasks: asyncio.TaskGroup) -> None:
        host = host_with(FakeEngine("gone"), journal, tmp_path)
        self.background = Background(tasks, host.stopping)
        self.arrivals = Arrivals(host, self.background, Settlements(host, self.background), Means())
        self.said: list[Any] = []

    async def offer(self, epoch: int = 1, peer: str = "edge-a") -> None:
        async def send(message: object) -> None:
            self.said.append(message)

        session: Any = SimpleNamespace(send=send, peer_reference=peer, peer_name=peer)
        await self.arrivals._dispatch(session, Offer(move=MOVE, epoch=epoch, manifest={}))


async def test_a_daemon_that_stops_takes_nothing_in(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        arriving.background.stop()
        await arriving.offer()
    assert [type(message) for message in arriving.said] == [Refuse]
    assert "stopping" in arriving.said[0].reason


async def test_what_is_over_is_waited_for_no_more(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        await arriving.offer()
        assert MOVE in arriving.arrivals
        # A manifest of nothing is refused.
        await arriving.arrivals.wait(MOVE)
        assert MOVE not in arriving.arrivals
    assert [type(message) for message in arriving.said] == [Refuse]


async def test_one_peer_does_not_take_every_place(journal: Journal, tmp_path: Path) -> None:
    """P10: others find a place for a move while one peer offers as many as it can."""
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        for number in range(INCOMING_PER_PEER_MAX):
            move = bytes([number]) * 16
            waiting: Any = SimpleNamespace(id=move, leftovers=lambda: ())
            arriving.arrivals._incoming[move] = waiting
            arriving.arrivals._ended[move] = asyncio.Event()
            arriving.arrivals._offered_by[move] = "edge-a"
        await arriving.offer()
        assert "from the same host" in arriving.said.pop().reason
        await arriving.offer(peer="edge-c")
        assert MOVE in arriving.arrivals
        await arriving.arrivals.wait(MOVE)
        await arriving.arrivals._hand_to_journal(arriving.arrivals._incoming[bytes(16)])
        await arriving.offer()
        assert MOVE in arriving.arrivals
        await arriving.arrivals.wait(MOVE)
    assert INCOMING_PER_PEER_MAX < INCOMING_MAX


async def test_what_does_not_wait_for_go_cannot_be_claimed(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(MoveError, match="waits for GO"):
            await Arriving(journal, tmp_path, tasks).arrivals.claim(MOVE)


async def test_an_offer_of_a_higher_epoch_by_the_same_peer_is_another_attempt(journal: Journal, tmp_path: Path) -> None:
    """P5: what was aborted may be tried again, once, by who offered it."""
    journal.record(MOVE, Role.TARGET, 1, State.RECEIVING, peer="edge-a")
    journal.record(MOVE, Role.TARGET, 1, State.ABORTED)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        with pytest.raises(UnexpectedError, match="over"):
            await arriving.offer()
        with pytest.raises(UnexpectedError, match="over"):
            await arriving.offer(epoch=2, peer="edge-c")
        await arriving.offer(epoch=2)
        await arriving.arrivals.wait(MOVE)
    assert [type(message) for message in arriving.said] == [Refuse]


@pytest.mark.parametrize("state", [State.RECEIVING, State.PREPARED, State.OWNED, State.OPEN])
async def test_what_is_not_aborted_is_not_offered_again(journal: Journal, tmp_path: Path, state: State) -> None:
    """P1: the image of an earlier attempt may yet be started."""
    journal.record(MOVE, Role.TARGET, 1, state, peer="edge-a")
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(UnexpectedError, match="over"):
            await Arriving(journal, tmp_path, tasks).offer(epoch=2)


async def test_an_attempt_that_has_not_noticed_yet_gives_way(journal: Journal, tmp_path: Path) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        gave_way: list[int] = []

        def give_way(_session: object, offer: Offer) -> None:
            gave_way.append(offer.epoch)
            tasks.create_task(arriving.arrivals._hand_to_journal(waiting))

        # Its link is dead; it ends when it is told to.
        waiting: Any = SimpleNamespace(id=MOVE, give_way=give_way, leftovers=lambda: ())
        arriving.arrivals._incoming[MOVE] = waiting
        arriving.arrivals._ended[MOVE] = asyncio.Event()
        await arriving.offer(epoch=2)
        await arriving.arrivals.wait(MOVE)
    assert gave_way == [2]
    assert [type(message) for message in arriving.said] == [Refuse]


async def test_a_journal_that_cannot_be_written_ends_the_session_without_an_answer(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P10: simulator seed 37. A full disk is no bug: the peer hears nothing false, and asks again."""
    written(journal, Role.TARGET, State.OPEN, peer="edge-a")
    make_unwritable(journal, monkeypatch, State.DONE)
    said: list[Any] = []

    async def send(message: object) -> None:
        said.append(message)

    async def receive() -> Finish:
        return Finish(move=MOVE, epoch=1)

    session: Any = SimpleNamespace(send=send, receive=receive, peer_reference="edge-a", peer_name="edge-a")
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(10):
        await Arriving(journal, tmp_path, tasks).arrivals.on_session(session)
    assert said == []
    assert "the journal cannot be used" in caplog.text


async def test_what_cannot_be_read_at_the_end_of_a_move_is_settled_all_the_same(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P16: simulator seeds 41, 76, 166. The disk failed just then, and nothing was done about it any more."""
    written(journal, Role.TARGET, State.RECEIVING, peer="edge-a")
    settled: list[bytes] = []

    def unreadable(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        monkeypatch.setattr(journal, "latest", unreadable)
        monkeypatch.setattr(arriving.arrivals._settlements, "settle", lambda move, _: settled.append(move))
        waiting: Any = SimpleNamespace(id=MOVE, leftovers=lambda: ())
        arriving.arrivals._incoming[MOVE] = waiting
        arriving.arrivals._ended[MOVE] = asyncio.Event()
        await arriving.arrivals._hand_to_journal(waiting)
    assert settled == [MOVE]
    assert MOVE not in arriving.arrivals


async def test_what_came_while_a_move_ended_is_answered_from_the_journal(journal: Journal, tmp_path: Path) -> None:
    """P2: a source in doubt would wait for its answer to no end, and nobody runs meanwhile."""
    written(journal, Role.TARGET, State.OPEN, peer="edge-a")
    said: list[Any] = []

    async def send(message: object) -> None:
        said.append(message)

    session: Any = SimpleNamespace(send=send, peer_reference="edge-a", peer_name="edge-a")
    strange: Any = SimpleNamespace(send=send, peer_reference="mallory", peer_name="mallory")
    came = [
        (session, Query(move=MOVE)),
        (strange, Query(move=MOVE)),
        (session, Finish(move=MOVE, epoch=1)),
        (session, Finish(move=MOVE, epoch=1)),
        (session, Query(move=MOVE)),
    ]
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        arriving = Arriving(journal, tmp_path, tasks)
        ended: Any = SimpleNamespace(id=MOVE, leftovers=lambda: iter(came))
        arriving.arrivals._incoming[MOVE] = ended
        arriving.arrivals._ended[MOVE] = asyncio.Event()
        await arriving.arrivals._hand_to_journal(ended)
    assert [message.state for message in said] == ["open", "done"]
