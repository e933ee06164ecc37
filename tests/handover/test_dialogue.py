"""The control messages of one move: handed to whoever waits, and nothing out of turn passes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamhop.findings import Finding, Severity, findings_to_wire
from streamhop.handover.dialogue import Dialogue
from streamhop.handover.errors import ContentError, MoveError, RefusedError
from streamhop.handover.refusing import refuse
from streamhop_protocol.errors import MalformedError, UnexpectedError
from streamhop_protocol.messages import Failed, Message, Prepared, Ready, Refuse, Started
from streamhop_protocol.messages import State as StateMessage

MOVE = b"m" * 16


class FakeSession:
    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)

    async def receive(self) -> Message:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)


def dialogue(*messages: Message) -> Dialogue:
    session: Any = FakeSession(*messages)
    return Dialogue(session, MOVE, epoch=2)


async def test_answers_wait_for_their_kind_whatever_comes_first() -> None:
    talk = dialogue(Prepared(move=MOVE, epoch=2, image_digest=b"d" * 32, attributes={}), Ready(move=MOVE, epoch=2))
    listening = asyncio.create_task(talk.listen())
    async with asyncio.timeout(5):
        assert isinstance(await talk.answer(Ready), Ready)
        assert isinstance(await talk.answer(Prepared), Prepared)
        with pytest.raises(TimeoutError):
            # It was taken: the next one is waited for.
            await asyncio.wait_for(talk.answer(Ready), 0)
    listening.cancel()


async def test_a_cancelled_wait_loses_no_message() -> None:
    talk = dialogue()
    waiting = asyncio.create_task(talk.answer(Started))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await talk._take(Started(move=MOVE, epoch=2, attributes={}))
    assert isinstance(await talk.answer(Started), Started)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Refuse(move=MOVE, epoch=2, code="refused", reason="no", fix=""), RefusedError),
        (Failed(move=MOVE, epoch=2, code="integrity", reason="bad", fix=""), ContentError),
        (Failed(move=MOVE, epoch=2, code="what-is-this", reason="bad", fix=""), MoveError),
        (Ready(move=b"o" * 16, epoch=2), UnexpectedError),
        (Ready(move=MOVE, epoch=1), UnexpectedError),
    ],
)
async def test_what_ends_the_dialogue(message: Message, error: type[Exception]) -> None:
    with pytest.raises(error):
        await dialogue(message).listen()


async def test_all_reasons_of_a_refusal_are_told() -> None:
    others = [["its pages have 16384 bytes", ""], ["no network n", "create it"]]
    with pytest.raises(RefusedError) as refused:
        await dialogue(Refuse(move=MOVE, epoch=2, code="refused", reason="no", fix="yes", others=others)).listen()
    told = refused.value.as_json()
    assert (told["reason"], told["fix"]) == ("the peer refuses: no", "yes")
    assert told["others"] == [{"reason": reason, "fix": fix} for reason, fix in others]


async def test_a_target_that_will_never_start_it_ends_the_wait_at_once() -> None:
    talk = dialogue(StateMessage(move=MOVE, epoch=2, state="refused"))
    with pytest.raises(MoveError, match="could not start"):
        await talk.listen()


PORT = Finding("target.port", "port 80 is taken", "free it")


async def test_a_refusal_has_its_findings() -> None:
    """Those are what a program reads, where the reasons are for people."""
    said = refuse(MOVE, 2, RefusedError.of_several([PORT, Finding("target.name", "the name is taken")]))
    with pytest.raises(RefusedError) as caught:
        await dialogue(said).listen()
    assert [finding.id for finding in caught.value.findings] == ["target.port", "target.name"]
    assert caught.value.reason == "the peer refuses: port 80 is taken"
    assert [other.reason for other in caught.value.others] == ["the name is taken"]


async def test_a_refusal_without_findings_is_told_by_its_reasons() -> None:
    said = Refuse(move=MOVE, epoch=2, code="refused", reason="no", fix="", others=[["also no", "go away"]])
    with pytest.raises(RefusedError) as caught:
        await dialogue(said).listen()
    assert [(finding.id, finding.fix) for finding in caught.value.findings] == [
        ("peer.refused", ""),
        ("peer.refused", "go away"),
    ]


@pytest.mark.parametrize("warnings", [[], [Finding("kernel.older", "an older kernel", severity=Severity.WARNS)]])
async def test_a_refusal_whose_findings_do_not_refuse_is_told_by_its_reasons_too(warnings: list[Finding]) -> None:
    """P18: a check would find nothing in the way of a container that the peer has refused."""
    attributes = {"findings": findings_to_wire(warnings)}
    said = Refuse(move=MOVE, epoch=2, code="refused", reason="no", fix="", others=[["nor", ""]], attributes=attributes)
    with pytest.raises(RefusedError) as caught:
        await dialogue(said).listen()
    findings = caught.value.findings
    assert [finding.id for finding in findings[:2]] == ["peer.refused", "peer.refused"]
    assert list(findings[2:]) == warnings


async def test_findings_that_are_none_are_the_protocols_error() -> None:
    said = Refuse(move=MOVE, epoch=2, code="refused", reason="no", fix="", attributes={"findings": 7})
    with pytest.raises(MalformedError):
        await dialogue(said).listen()
