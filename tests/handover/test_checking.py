"""A check collects what both sides find, and says why a side has said nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import FakeEngine, host_with, written

from hopsim.content import manifest
from streamhop.findings import Finding, Severity, findings_to_wire
from streamhop.handover import checking
from streamhop.handover.checking import CheckRequest, CheckResult, check
from streamhop.handover.errors import MoveError, NotRunningError, RefusedError, UnreachableError
from streamhop.handover.journal import Journal
from streamhop.handover.means import Means
from streamhop.handover.offering import CHECK, FINDINGS
from streamhop.handover.preflight import SourceContainer
from streamhop.handover.refusing import refuse
from streamhop.handover.source_checks import SourceCheck
from streamhop.handover.states import Role, State
from streamhop_protocol.messages import Accept, Message, Offer, Refuse

REFUSES = Finding("container.device", "it has a device", "run it without", "a why", "a page")
WARNS = Finding("kernel.older", "an older kernel", severity=Severity.WARNS)
PORT = Finding("target.port", "port 80 is taken", "free it")

Answer = Callable[[Offer], Message]


class FakeSession:
    """A peer that answers one question."""

    def __init__(self, answer: Answer | None) -> None:
        self.answer = answer
        self.offers: list[Any] = []
        self.closed = False
        self._said: asyncio.Queue[Message] = asyncio.Queue()

    async def send(self, message: Message) -> None:
        self.offers.append(message)
        if self.answer is not None:
            assert isinstance(message, Offer)
            self._said.put_nowait(self.answer(message))

    async def receive(self) -> Message:
        return await self._said.get()

    async def close(self) -> None:
        self.closed = True


class Checking:
    """A host whose container has the findings of a test, and whose peer answers as a test wants."""

    def __init__(self, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = FakeEngine("running")
        self.host = host_with(self.engine, journal, tmp_path)
        self.findings: list[Finding] = []
        self.offerable = True
        self.means: Any = Means()
        self.session = FakeSession(accept())
        self.unreachable: MoveError | None = None
        inspect = self.engine.inspect_container

        async def named(name: str) -> dict[str, Any]:
            return {**await inspect(name), "Name": "/web"}

        async def inspected(*_: object) -> SourceCheck:
            described = manifest("web", None, {"Name": "no"})
            container = SourceContainer("c" * 64, "web", 7, "runc", {}, {}, described)
            return SourceCheck(self.findings, container if self.offerable else None)

        async def reach(*_: object) -> Any:
            if self.unreachable is not None:
                raise self.unreachable
            return self.session

        monkeypatch.setattr(self.engine, "inspect_container", named)
        monkeypatch.setattr(self.means, "inspect_as_source", inspected)
        monkeypatch.setattr(checking, "reach", reach)

    async def __call__(self) -> CheckResult:
        async with asyncio.timeout(10):
            return await check(self.host, self.means, CheckRequest("web", "10.0.0.2"))


def accept(*findings: Finding, lacks: list[str] | None = None) -> Answer:
    attributes = {FINDINGS: findings_to_wire(findings)}
    return lambda offer: Accept(offer.move, offer.epoch, lacks or [], [], attributes)


def refuse_for(*findings: Finding) -> Answer:
    return lambda offer: refuse(offer.move, offer.epoch, RefusedError.of_several(findings))


@pytest.fixture
def checks(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checking:
    return Checking(journal, tmp_path, monkeypatch)


async def test_nothing_in_the_way_is_0(checks: Checking) -> None:
    result = await checks()
    assert (result.exit_code, result.as_json()["findings"]) == (0, [])
    (offer,) = checks.session.offers
    assert offer.attributes == {CHECK: True}
    assert checks.session.closed
    assert (result.layer_bytes, result.lacking_bytes) == (1000, 0)


async def test_what_is_lacking_is_counted_and_what_is_no_layer_of_the_image_is_not(checks: Checking) -> None:
    digest = manifest("web", None, {"Name": "no"}).image.layers[0].digest
    checks.session.answer = accept(lacks=[digest, digest, "sha256:" + "ff" * 32])
    assert (await checks()).lacking_bytes == 1000


async def test_warnings_of_both_sides_are_still_0(checks: Checking) -> None:
    checks.findings, checks.session.answer = [WARNS], accept(WARNS)
    result = await checks()
    rows = result.as_json()["findings"]
    assert result.exit_code == 0
    assert [(row["side"], row["host"]) for row in rows] == [("source", "here"), ("target", "10.0.0.2:4711")]


async def test_all_that_both_sides_have_against_it_is_told(checks: Checking) -> None:
    checks.findings, checks.session.answer = [REFUSES, WARNS], refuse_for(PORT, REFUSES)
    result = await checks()
    assert result.exit_code == 12
    assert result.source_findings == [REFUSES, WARNS]
    assert list(result.target_findings) == [PORT, REFUSES]
    assert result.target_failure is None


async def test_a_peer_that_tells_no_findings_is_told_by_its_reasons(checks: Checking) -> None:
    checks.session.answer = lambda offer: refuse(offer.move, offer.epoch, RefusedError("no room", "make some"))
    result = await checks()
    (finding,) = result.target_findings
    assert (finding.id, finding.fix) == ("peer.refused", "make some")
    assert "no room" in finding.reason
    assert result.exit_code == 12


@pytest.mark.parametrize("told", [[], [WARNS]])
async def test_a_refusal_is_one_whatever_its_findings_say(checks: Checking, told: list[Finding]) -> None:
    attributes = {FINDINGS: findings_to_wire(told)}
    checks.session.answer = lambda offer: Refuse(offer.move, offer.epoch, "refused", "no", "", attributes=attributes)
    result = await checks()
    assert result.exit_code == 12
    assert [finding.id for finding in result.target_findings] == ["peer.refused", *(each.id for each in told)]


async def test_a_peer_that_cannot_be_asked_does_not_hide_what_was_found_here(checks: Checking) -> None:
    checks.unreachable = UnreachableError("nobody answers")
    result = await checks()
    assert result.exit_code == 10
    assert result.as_json()["target_failure"]["code"] == "unreachable"
    checks.findings = [REFUSES]
    assert (await checks()).exit_code == 12


@pytest.mark.parametrize("said", [[], {}, [{"id": "x"}], [{}] * 1000, "yes"])
async def test_a_peer_that_talks_nonsense_is_a_failure_and_no_finding(checks: Checking, said: Any) -> None:
    checks.session.answer = lambda offer: Accept(offer.move, offer.epoch, [], [], {FINDINGS: said})
    result = await checks()
    assert (result.target_failure is None) == (said == [])
    assert list(result.target_findings) == []
    assert result.exit_code == (0 if said == [] else 1)
    assert checks.session.closed


async def test_a_peer_that_says_nothing_is_not_waited_for_for_ever(
    checks: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "ANSWER_S_MAX", 0.05)
    checks.session.answer = None
    assert (await checks()).exit_code == 10
    assert checks.session.closed


async def test_with_nothing_to_offer_the_peer_is_not_asked(checks: Checking) -> None:
    checks.findings, checks.offerable = [REFUSES], False
    result = await checks()
    assert (result.asked, result.exit_code, checks.session.offers) == (False, 12, [])


async def test_a_container_that_is_moved_already_is_a_finding(checks: Checking, journal: Journal) -> None:
    written(journal, Role.SOURCE, State.PRECOPY, container="c" * 64)
    result = await checks()
    assert [finding.id for finding in result.source_findings] == ["container.moving"]
    assert (result.asked, result.exit_code) == (False, 12)


async def test_a_container_that_is_not_there_is_an_error(checks: Checking) -> None:
    checks.engine.status = "gone"
    with pytest.raises(NotRunningError):
        await checks()


def test_a_result_is_json_that_scripts_can_rely_on() -> None:
    """P18."""
    result = CheckResult("web", "edge-a", "edge-b", [REFUSES], [WARNS], UnreachableError("gone"))
    assert list(result.as_json()) == [
        "container",
        "source",
        "target",
        "exit_code",
        "findings",
        "target_asked",
        "target_failure",
        "memory_bytes",
        "layer_bytes",
        "lacking_bytes",
    ]
    assert list(result.as_json()["findings"][0]) == [
        "id",
        "severity",
        "what",
        "why",
        "reference",
        "fix",
        "side",
        "host",
    ]


async def test_the_whole_way_over_a_dialogue_to_another_hosts_answer(
    checks: Checking, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one side sends the other understands: source's question, target's real answer."""
    from streamhop.handover import admitting

    async def checked(*_: object) -> list[Finding]:
        return [PORT]

    there = host_with(FakeEngine("gone"), journal, tmp_path / "there")
    means: Any = Means()
    monkeypatch.setattr(means, "check_as_target", checked)

    class Wire(FakeSession):
        async def send(self, message: Any) -> None:
            session: Any = SimpleNamespace(send=self._heard, peer_name="edge-a", peer_reference="edge-a")
            await admitting.Checks(there, means).answer(session, message)

        async def _heard(self, message: Message) -> None:
            self._said.put_nowait(message)

    checks.session = Wire(None)
    result = await checks()
    assert [finding.id for finding in result.target_findings] == ["target.port"]
