"""Answers from the journal: only to the peer whose move it is, and only of the epoch that it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with, written

from streamhop.engine.docker import EngineError
from streamhop.handover.answering import answer_from_journal
from streamhop.handover.journal import Journal
from streamhop.handover.kept import Label
from streamhop.handover.settling_here import settle_here
from streamhop.handover.states import Role, State
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import Abort, Aborted, Finish, Message, MoveMessage, Offer, Query, Release
from streamhop_protocol.messages import State as StateMessage


class FakeSession:
    def __init__(self, peer_reference: str) -> None:
        self.peer_reference = peer_reference
        self.said: list[Message] = []

    async def send(self, message: Message) -> None:
        self.said.append(message)


async def answer(journal: Journal, tmp_path: Path, message: MoveMessage, peer: str = "edge-a") -> list[Message]:
    session: Any = FakeSession(peer)
    await answer_from_journal(host_with(FakeEngine("running"), journal, tmp_path), session, message)
    said: list[Message] = session.said
    return said


ABORT = Abort(move=MOVE, epoch=1, code="failed", reason="")
ABORTED = Aborted(move=MOVE, epoch=1)


def says(name: str) -> StateMessage:
    return StateMessage(move=MOVE, epoch=1, state=name)


@pytest.mark.parametrize(
    ("state", "message", "answered"),
    [
        (None, Query(move=MOVE), [says("unknown")]),
        (None, ABORT, [ABORTED]),
        (State.ABORTED, ABORT, [ABORTED]),
        (State.REFUSED, ABORT, [ABORTED]),
        (State.OPEN, ABORT, [says("open")]),
        (State.OPEN, Release(move=MOVE, epoch=1, image_digest=b"d" * 32), [says("open")]),
        (State.OPEN, Query(move=MOVE), [says("open")]),
        (State.OWNED, Query(move=MOVE), [says("owned")]),
        (State.OPEN, Finish(move=MOVE, epoch=1), []),
        (None, Finish(move=MOVE, epoch=1), []),
    ],
)
async def test_what_the_journal_says_is_answered(
    journal: Journal, tmp_path: Path, state: State | None, message: MoveMessage, answered: list[Message]
) -> None:
    if state is not None:
        written(journal, Role.TARGET, state, peer="edge-a")
    assert await answer(journal, tmp_path, message) == answered


async def test_a_finish_is_written_once(journal: Journal, tmp_path: Path) -> None:
    written(journal, Role.TARGET, State.OPEN, peer="edge-a")
    for _ in range(2):
        await answer(journal, tmp_path, Finish(move=MOVE, epoch=1))
    assert journal.latest(MOVE, Role.TARGET).state is State.DONE  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "peer", "epoch"),
    [(Finish, "mallory", 2), (Abort, "mallory", 2), (Abort, "mallory", 3), (Finish, "edge-a", 1)],
)
async def test_another_peer_and_another_epoch_change_nothing(
    journal: Journal, tmp_path: Path, kind: type[Finish | Abort], peer: str, epoch: int
) -> None:
    journal.record(MOVE, Role.TARGET, 2, State.OPEN, peer="edge-a")
    more: Any = {"code": "failed", "reason": ""} if kind is Abort else {}
    with pytest.raises(UnexpectedError):
        await answer(journal, tmp_path, kind(move=MOVE, epoch=epoch, **more), peer)
    assert journal.latest(MOVE, Role.TARGET).state is State.OPEN  # type: ignore[union-attr]


async def test_a_source_that_was_away_can_finish_what_was_claimed(journal: Journal, tmp_path: Path) -> None:
    """P2: else it would ask for ever, and the target never forget the move."""
    journal.record(MOVE, Role.TARGET, 2, State.OPEN, peer="edge-a", claimed=True)
    assert await answer(journal, tmp_path, Finish(move=MOVE, epoch=1)) == []
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    assert (record.state, record.epoch) == (State.DONE, 2)


@pytest.mark.parametrize(("code", "left"), [("cancelled", 0), ("failed", 1)])
async def test_of_what_was_cancelled_nothing_is_kept(journal: Journal, tmp_path: Path, code: str, left: int) -> None:
    """P13: also if the source could say so only later."""
    kept = host_with(FakeEngine("running"), journal, tmp_path).kept
    label = Label("edge-a", "web", "sha256:1")
    kept.begin(tmp_path / "spools" / "one", label)
    (tmp_path / "spools" / "one" / "pages").mkdir()
    kept.end(tmp_path / "spools" / "one")
    written(journal, Role.TARGET, State.RECEIVING, State.ABORTED, peer="edge-a", kept=label.key)
    abort = Abort(move=MOVE, epoch=1, code=code, reason="")
    assert await answer(journal, tmp_path, abort) == [ABORTED]
    assert len(kept.all()) == left


async def test_a_source_that_was_away_hears_that_an_operator_claimed_the_move(journal: Journal, tmp_path: Path) -> None:
    journal.record(MOVE, Role.TARGET, 2, State.OPEN, peer="edge-a")
    assert await answer(journal, tmp_path, ABORT) == [StateMessage(move=MOVE, epoch=2, state="open")]
    assert journal.latest(MOVE, Role.TARGET).state is State.OPEN  # type: ignore[union-attr]


@pytest.mark.parametrize(("health", "said"), [(None, "none"), ({"Status": "unhealthy"}, "unhealthy")])
async def test_a_question_about_what_runs_here_is_answered_with_its_health(
    journal: Journal, tmp_path: Path, health: dict[str, str] | None, said: str
) -> None:
    written(journal, Role.TARGET, State.OPEN, peer="edge-a", container="c")
    engine, session = FakeEngine("running"), FakeSession("edge-a")
    engine.health = health
    asked: Any = session
    await answer_from_journal(host_with(engine, journal, tmp_path), asked, Query(move=MOVE))
    engine.failing.add("inspect")
    await answer_from_journal(host_with(engine, journal, tmp_path), asked, Query(move=MOVE))
    assert session.said == [StateMessage(move=MOVE, epoch=1, state="open", attributes={"health": said}), says("open")]


@pytest.mark.parametrize("state", [State.OWNED, State.OPEN])
async def test_a_target_that_was_away_gives_way_to_a_higher_epoch(
    journal: Journal, tmp_path: Path, state: State
) -> None:
    """P1: what an operator reclaimed at the source does not go on here."""
    written(journal, Role.TARGET, state, peer="edge-a", container="c")
    engine = FakeEngine("running")
    session: Any = FakeSession("edge-a")
    abort = Abort(move=MOVE, epoch=2, code="failed", reason="")
    host = host_with(engine, journal, tmp_path)
    await answer_from_journal(host, session, abort)
    assert session.said == [Aborted(move=MOVE, epoch=2)]
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    assert (record.state, record.epoch, record.unsettled) == (State.ABORTED, 2, True)
    engine.failing.add("remove")
    with pytest.raises(EngineError):
        await settle_here(host, record)
    engine.failing.clear()
    record = await settle_here(host, record)
    assert engine.status == "gone"
    assert (record.state, record.unsettled) == (State.ABORTED, False)


async def test_only_an_operator_ends_a_move_that_was_lost_with_the_host(journal: Journal, tmp_path: Path) -> None:
    """P1: simulator seed 379."""
    written(journal, Role.TARGET, State.OWNED, peer="edge-a", lost=True)
    assert await answer(journal, tmp_path, ABORT) == [says("owned")]
    theirs = Abort(move=MOVE, epoch=2, code="failed", reason="")
    assert await answer(journal, tmp_path, theirs) == [Aborted(move=MOVE, epoch=2)]
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    assert (record.state, record.epoch, record.unsettled) == (State.ABORTED, 2, True)


async def test_what_is_no_question_is_refused(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(UnexpectedError):
        await answer(journal, tmp_path, Offer(move=MOVE, epoch=1, manifest={}))
