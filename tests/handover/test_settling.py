"""The source's questions about a move in doubt: only the target's durable word ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from streamhop.config import Config
from streamhop.handover import settling
from streamhop.handover.host import Host
from streamhop.handover.journal import Journal, Record
from streamhop.handover.settling import settle
from streamhop.handover.states import Role, State
from streamhop_protocol.messages import Abort, Aborted, Finish, Message, Query, Release, Started
from streamhop_protocol.messages import State as StateMessage

MOVE, DIGEST = b"m" * 16, b"d" * 32


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


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the source's container."""
    calls: list[str] = []

    def note(name: str) -> Any:
        async def action(*_: Any) -> None:
            calls.append(name)

        return action

    for name in ("remove_moved", "thaw", "allow_restart"):
        monkeypatch.setattr(settling, name, note(name))
    monkeypatch.setattr(settling, "RETRY_S", (0.0,))
    return calls


async def settled(
    journal: Journal, peer: FakePeer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: State
) -> State:
    monkeypatch.setattr(settling, "dial", peer.dial)
    details = {"container": "c", "peer": "p:1", "image_digest": DIGEST.hex(), "owes_abort": state is State.ABORTED}
    journal.record(MOVE, Role.SOURCE, 1, state, **details)
    host = Host(Config(state_dir=tmp_path), None, journal, None)  # type: ignore[arg-type]
    return await settle(host, Record(MOVE, Role.SOURCE, 1, state, details))


@pytest.mark.parametrize(
    "answers",
    [
        [says(State.OPEN)],
        [says(State.DONE)],
        [says(State.PREPARED), STARTED],
        [None, says(State.OWNED), None, says(State.OPEN)],
        [says("unknown"), says(State.OPEN)],
    ],
)
async def test_it_runs_there_so_the_copy_here_goes(
    journal: Journal,
    done: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answers: list[Message | None],
) -> None:
    peer = FakePeer(*answers)
    assert await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED) is State.DONE
    assert done == ["remove_moved"]
    assert isinstance(peer.heard[0], Query)
    assert isinstance(peer.heard[-1], Finish)
    assert journal.unfinished() == []


async def test_a_prepared_target_is_sent_the_same_go_again(
    journal: Journal, done: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peer = FakePeer(says(State.PREPARED), STARTED)
    await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED)
    assert Release(move=MOVE, epoch=1, image_digest=DIGEST) in peer.heard


@pytest.mark.parametrize("state", [State.REFUSED, State.ABORTED])
async def test_it_never_starts_there_so_it_goes_on_here(
    journal: Journal, done: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: State
) -> None:
    peer = FakePeer(None, says(state))
    assert await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED) is State.ABORTED
    assert done == ["thaw", "allow_restart"]


async def test_an_abort_is_told_until_it_is_heard(
    journal: Journal, done: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peer = FakePeer(None, None, Aborted(move=MOVE, epoch=1))
    assert await settled(journal, peer, monkeypatch, tmp_path, State.ABORTED) is State.ABORTED
    assert isinstance(peer.heard[0], Abort)
    assert done == []
    assert journal.unfinished() == []


async def test_an_answer_about_another_move_is_none(
    journal: Journal, done: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = StateMessage(move=b"o" * 16, epoch=1, state="open")
    peer = FakePeer(other, says(State.REFUSED))
    assert await settled(journal, peer, monkeypatch, tmp_path, State.RELEASED) is State.ABORTED
    assert done == ["thaw", "allow_restart"]
