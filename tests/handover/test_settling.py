"""The source's questions about a move in doubt: only the target's durable word ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

import pytest
from handover_support import MOVE, POLICY, FakeEngine, host_with, written

from streamhop.handover import settling
from streamhop.handover.journal import Journal
from streamhop.handover.settling import recover, settle
from streamhop.handover.states import Role, State
from streamhop.peering import PeerDirectory
from streamhop_protocol.messages import Abort, Aborted, Finish, Message, Query, Release, Started
from streamhop_protocol.messages import State as StateMessage

DIGEST = b"d" * 32


class FakePeer:
    """Answers in turn; ``None`` means that it cannot be reached this time."""

    def __init__(self, *answers: Message | None) -> None:
        self.answers = list(answers)
        self.heard: list[Message] = []

    async def dial(self, *_: Any, **__: Any) -> FakePeer:
        if self.answers and self.answers[0] is None:
            self.answers.pop(0)
            raise ConnectionRefusedError("refused")
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def send(self, message: Message) -> None:
        self.heard.append(message)

    async def receive(self) -> Message:
        answer = self.answers.pop(0)
        assert answer is not None
        return answer


def says(state: State | str) -> StateMessage:
    return StateMessage(move=MOVE, epoch=1, state=state.value if isinstance(state, State) else state)


STARTED = Started(move=MOVE, epoch=1, attributes={})


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "RETRY_S", (0.0,))


async def settled(
    journal: Journal, peer: FakePeer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: State, **details: Any
) -> tuple[State | None, FakeEngine]:
    """How a move of a frozen container ends, and what was done to it."""
    monkeypatch.setattr(PeerDirectory, "dial", peer.dial)
    engine = FakeEngine("paused")
    known = {"container": "c", "peer": "p:1", "image_digest": DIGEST.hex(), "restart_policy": POLICY}
    written(journal, Role.SOURCE, state, **known, **details)
    async with asyncio.timeout(10):
        return await settle(host_with(engine, journal, tmp_path), MOVE, Role.SOURCE), engine


@pytest.mark.parametrize(
    "answers",
    [
        [says(State.OPEN), says(State.DONE)],
        [says(State.DONE), says(State.DONE)],
        [says(State.PREPARED), STARTED, says(State.DONE)],
        [None, says(State.OWNED), None, says(State.OPEN), says(State.OPEN), says(State.DONE)],
        [says("unknown"), says(State.OPEN), says("unknown")],
    ],
)
async def test_it_runs_there_so_the_copy_here_goes(
    journal: Journal,
    gates: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answers: list[Message | None],
) -> None:
    peer = FakePeer(*answers)
    state, engine = await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED)
    assert state is State.DONE
    assert engine.calls == ["kill", "remove"]
    assert isinstance(peer.heard[0], Query)
    assert isinstance(peer.heard[-2], Finish)
    assert journal.unsettled() == []


async def test_where_connections_went_along_the_copy_here_goes_without_a_word(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed: list[int] = []

    async def close_gate(pid: int) -> None:
        closed.append(pid)

    monkeypatch.setattr("streamhop.handover.source_actions.close_gate", close_gate)
    peer = FakePeer(says(State.OPEN), says(State.DONE))
    _, engine = await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED, keeps_connections=True)
    assert engine.calls == ["kill", "remove"]
    assert (gates, closed) == ([], [7])


async def test_a_prepared_target_is_sent_the_same_go_again(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peer = FakePeer(says(State.PREPARED), STARTED, says(State.DONE))
    await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED)
    assert Release(move=MOVE, epoch=1, image_digest=DIGEST) in peer.heard


@pytest.mark.parametrize("state", [State.REFUSED, State.ABORTED])
async def test_it_never_starts_there_so_it_goes_on_here(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: State
) -> None:
    peer = FakePeer(None, says(state))
    ended, engine = await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED)
    assert ended is State.ABORTED
    assert engine.calls == ["unpause", "restart always"]
    assert gates == [7]


async def test_an_abort_is_told_until_it_is_heard(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peer = FakePeer(None, None, Aborted(move=MOVE, epoch=1))
    ended, engine = await settled(journal, peer, monkeypatch, tmp_path, State.ABORTED, owes_abort=True)
    assert ended is State.ABORTED
    assert isinstance(peer.heard[0], Abort)
    assert engine.calls == []
    assert journal.unsettled() == []


async def test_a_finish_is_told_until_it_is_heard(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peer = FakePeer(None, says(State.OPEN), says(State.DONE))
    ended, engine = await settled(journal, peer, monkeypatch, tmp_path, State.DONE, owes_finish=True)
    assert ended is State.DONE
    assert [type(message) for message in peer.heard] == [Finish, Query, Finish, Query]
    assert engine.calls == []


async def test_an_answer_about_another_move_is_none(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = StateMessage(move=b"o" * 16, epoch=1, state="open")
    peer = FakePeer(other, says(State.REFUSED))
    ended, engine = await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED)
    assert ended is State.ABORTED
    assert engine.status == "running"


async def test_a_source_that_was_away_learns_that_the_move_was_claimed(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """P1: the copy of a source that an operator had fenced off goes when it is back."""
    peer = FakePeer(StateMessage(move=MOVE, epoch=2, state="owned"), StateMessage(move=MOVE, epoch=2, state="open"))
    state, engine = await settled(journal, peer, monkeypatch, tmp_path, State.ABORTED, owes_abort=True)
    assert state is State.ABORTED
    assert engine.status == "gone"
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert (record.details["claimed_there"], record.unsettled) == (True, False)


async def test_without_a_higher_epoch_nothing_here_is_removed(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peer = FakePeer(says(State.OPEN), Aborted(move=MOVE, epoch=1))
    state, engine = await settled(journal, peer, monkeypatch, tmp_path, State.ABORTED, owes_abort=True)
    assert state is State.ABORTED
    assert "remove" not in engine.calls


CLAIMED = StateMessage(move=MOVE, epoch=2, state="open")


@pytest.mark.parametrize(
    ("answers", "calls"),
    [
        ([None, CLAIMED], ["remove"]),
        ([None, Aborted(move=MOVE, epoch=1)], ["start", "restart always"]),
    ],
    ids=["claimed there", "not wanted there"],
)
@pytest.mark.parametrize(("state", "details"), [(State.FREEZING, {}), (State.ABORTED, {"owes_thaw": True})])
async def test_a_host_that_went_down_with_it_frozen_asks_before_it_starts_it_again(
    journal: Journal,
    gates: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answers: list[Message | None],
    calls: list[str],
    state: State,
    details: dict[str, Any],
) -> None:
    """P1: an operator may have claimed what was prepared at the target while this host was away."""
    monkeypatch.setattr(PeerDirectory, "dial", FakePeer(*answers).dial)
    engine = FakeEngine("exited")
    host = host_with(engine, journal, tmp_path)
    known = {"container": "c", "peer": "p:1", "restart_policy": POLICY, "boot": "the one before", "owes_abort": True}
    written(journal, Role.SOURCE, state, **known, **details)
    (record,) = await recover(host)
    assert (record.move, engine.calls) == (MOVE, [])
    async with asyncio.timeout(10):
        assert await settle(host, MOVE, Role.SOURCE) is State.ABORTED
    assert engine.calls == calls
    assert journal.unsettled() == []


async def test_a_peer_that_does_not_answer_keeps_it_down_for_a_while_only(
    journal: Journal, gates: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settling, "PEER_FIRST_S_MAX", 0.2)
    peer = FakePeer(*[None] * 1000)
    monkeypatch.setattr(PeerDirectory, "dial", peer.dial)
    engine = FakeEngine("exited")
    written(
        journal, Role.SOURCE, State.FREEZING, container="c", peer="p:1", restart_policy=POLICY, boot="the one before"
    )
    settling_it = asyncio.create_task(settle(host_with(engine, journal, tmp_path), MOVE, Role.SOURCE))
    async with asyncio.timeout(10):
        while "start" not in engine.calls:  # noqa: ASYNC110 - what is waited for has no event that a test could see
            await asyncio.sleep(0)
        peer.answers = [Aborted(move=MOVE, epoch=1)]
        assert await settling_it is State.ABORTED
    assert engine.calls == ["start", "restart always"]
