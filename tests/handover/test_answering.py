"""Answers from the journal: only to the peer whose move it is, and only of the epoch that it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with, written

from streamhop.handover.answering import answer_from_journal
from streamhop.handover.journal import Journal
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


@pytest.mark.parametrize(("peer", "epoch"), [("mallory", 2), ("edge-a", 1)])
@pytest.mark.parametrize("kind", [Finish, Abort])
async def test_another_peer_and_another_epoch_change_nothing(
    journal: Journal, tmp_path: Path, kind: type[Finish | Abort], peer: str, epoch: int
) -> None:
    journal.record(MOVE, Role.TARGET, 2, State.OPEN, peer="edge-a")
    more: Any = {"code": "failed", "reason": ""} if kind is Abort else {}
    with pytest.raises(UnexpectedError):
        await answer(journal, tmp_path, kind(move=MOVE, epoch=epoch, **more), peer)
    assert journal.latest(MOVE, Role.TARGET).state is State.OPEN  # type: ignore[union-attr]


async def test_only_an_operator_ends_a_move_that_was_lost_with_the_host(journal: Journal, tmp_path: Path) -> None:
    """P1: simulator seed 379."""
    written(journal, Role.TARGET, State.OWNED, peer="edge-a", lost=True)
    assert await answer(journal, tmp_path, ABORT) == [says("owned")]
    theirs = Abort(move=MOVE, epoch=2, code="failed", reason="")
    assert await answer(journal, tmp_path, theirs) == [Aborted(move=MOVE, epoch=2)]
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    assert (record.state, record.epoch, record.unsettled) == (State.REFUSED, 2, True)


async def test_what_is_no_question_is_refused(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(UnexpectedError):
        await answer(journal, tmp_path, Offer(move=MOVE, epoch=1, manifest={}))
