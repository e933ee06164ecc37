"""The target's answers: what it would say to a move it says to a check, and forgets the question."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with

from hopsim.content import manifest
from streamhop.engine.docker import EngineError
from streamhop.findings import Finding, Severity, findings_from_wire
from streamhop.handover import admitting
from streamhop.handover.admitting import CHECKS_MAX, CHECKS_PER_PEER_MAX, admission_findings
from streamhop.handover.arrivals import Arrivals
from streamhop.handover.background import Background
from streamhop.handover.checking import ANSWER_S_MAX
from streamhop.handover.host import Host
from streamhop.handover.journal import Journal
from streamhop.handover.manifest import Manifest
from streamhop.handover.means import Means
from streamhop.handover.offering import CHECK, FINDINGS, STAGE
from streamhop.handover.settlements import Settlements
from streamhop.handover.target_policy import policy_of
from streamhop_protocol.messages import Accept, Offer, Refuse, decode_message, encode_message

PORT = Finding("target.port", "port 80 is taken", "free it", "one owner")
OLDER = Finding("kernel.older", "an older kernel", severity=Severity.WARNS)


class FakeMeans(Means):
    """Finds what it is told to find."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.asked = 0
        self.wait: asyncio.Event | None = None
        self.held: frozenset[str] = frozenset()
        self.trouble: Exception | None = None

    async def check_as_target(self, host: Host, manifest: Manifest, policy: object) -> list[Finding]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        if self.wait is not None:
            await self.wait.wait()
        return list(self.findings)

    async def held_layers(self, engine: object, manifest: Manifest) -> frozenset[str]:
        return self.held


class Target:
    """A host that is asked, and what it answers."""

    def __init__(self, journal: Journal, tmp_path: Path, tasks: asyncio.TaskGroup) -> None:
        self.journal, self.place = journal, tmp_path
        self.host = host_with(FakeEngine("gone"), journal, tmp_path)
        self.means = FakeMeans()
        background = Background(tasks, self.host.stopping)
        self.arrivals = Arrivals(self.host, background, Settlements(self.host, background), self.means)
        self.said: list[Any] = []

    async def ask(self, sent: dict[str, Any] | None = None, *, peer: str = "edge-a", stage: bool = False) -> Any:
        async def send(message: Any) -> None:
            assert decode_message(*encode_message(message)) == message
            self.said.append(message)

        await self.ask_for(peer, send, sent, stage=stage)
        return self.said[-1]

    async def ask_for(self, peer: str, send: Any, sent: dict[str, Any] | None = None, *, stage: bool = False) -> None:
        session: Any = SimpleNamespace(send=send, peer_reference=peer, peer_name=peer)
        offered = manifest("web", None, {"Name": "no"}).to_wire() if sent is None else sent
        offer = Offer(
            move=MOVE, epoch=1, manifest=offered, attributes={CHECK: True, **({STAGE: True} if stage else {})}
        )
        await self.arrivals._dispatch(session, offer)


@pytest.fixture
async def target(journal: Journal, tmp_path: Path) -> Any:
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        yield Target(journal, tmp_path, tasks)


async def test_a_check_is_answered_and_forgotten(target: Target) -> None:
    before = sorted(target.place.rglob("*"))
    target.means.findings = [OLDER]
    answer = await target.ask()
    assert isinstance(answer, Accept)
    assert findings_from_wire(answer.attributes[FINDINGS]) == [OLDER]
    assert len(answer.lacks) == len(manifest("web", None, {"Name": "no"}).image.layers)
    assert target.journal.all() == []
    assert MOVE not in target.arrivals
    assert sorted(target.place.rglob("*")) == before
    # The same question again, by the same ID: nobody remembers the first one.
    assert isinstance(await target.ask(), Accept)


async def test_layers_that_are_there_are_not_lacking(target: Target) -> None:
    target.means.held = frozenset(layer.digest for layer in manifest("web", None, {"Name": "no"}).image.layers)
    answer = await target.ask()
    assert (answer.lacks, answer.reused) == ([], sorted(target.means.held))


async def test_what_refuses_is_told_with_all_findings(target: Target) -> None:
    target.means.findings = [OLDER, PORT]
    answer = await target.ask()
    assert isinstance(answer, Refuse)
    assert (answer.code, answer.reason, answer.fix, answer.others) == ("refused", PORT.reason, PORT.fix, None)
    assert findings_from_wire(answer.attributes[FINDINGS]) == [PORT, OLDER]
    assert target.journal.all() == []


async def test_policy_comes_first_and_tells_no_more(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: a peer that may send nothing learns nothing of this host."""
    closed = replace(policy_of(target.host.config, "edge-a"), accept=False)
    monkeypatch.setattr(admitting, "policy_of", lambda *_: closed)
    target.means.findings = [PORT]
    answer = await target.ask()
    assert [finding.id for finding in findings_from_wire(answer.attributes[FINDINGS])] == ["policy.accept"]
    assert target.means.asked == 0


async def test_a_manifest_that_is_none_is_refused(target: Target) -> None:
    answer = await target.ask({})
    assert isinstance(answer, Refuse)
    assert FINDINGS not in answer.attributes
    assert target.means.asked == 0


async def test_a_docker_that_does_not_answer_is_told(target: Target) -> None:
    target.means.trouble = EngineError("Docker does not answer")
    answer = await target.ask()
    assert isinstance(answer, Refuse)
    assert "does not answer" in answer.reason


async def test_a_check_stays_one_whatever_else_it_says(target: Target) -> None:
    assert isinstance(await target.ask(stage=True), Accept)
    assert target.journal.all() == []
    assert MOVE not in target.arrivals


async def settled() -> None:
    """Each task gets as far as it can."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_few_are_looked_into_at_once_and_fewer_of_one_peer(target: Target) -> None:
    """P10: a peer that asks and asks does not make this host run programs without a bound, nor keep others out."""
    target.means.wait = asyncio.Event()
    asking = [asyncio.create_task(target.ask()) for _ in range(5)]
    await settled()
    assert target.means.asked == CHECKS_PER_PEER_MAX < CHECKS_MAX
    asking += [asyncio.create_task(target.ask(peer=f"edge-{number}")) for number in range(5)]
    await settled()
    assert target.means.asked == CHECKS_MAX
    target.means.wait.set()
    await asyncio.gather(*asking)
    assert target.means.asked == 10
    assert len(target.arrivals._checks._places_of) == 0


async def test_peers_that_read_no_answer_keep_nobody_waiting(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """P10: what is looked into is bounded, what waits for its reader takes none of that."""

    async def nobody_reads(_: object) -> None:
        await asyncio.Event().wait()

    names = [f"mallory-{number}" for number in range(CHECKS_MAX * 2)]
    unread = [asyncio.create_task(target.ask_for(name, nobody_reads)) for name in names]
    await settled()
    assert isinstance(await target.ask(), Accept)
    assert not any(task.done() for task in unread)
    for task in unread:
        task.cancel()
    await asyncio.gather(*unread, return_exceptions=True)
    monkeypatch.setattr(admitting, "SEND_S_MAX", 0.01)
    async with asyncio.timeout(10):
        await target.ask_for("mallory", nobody_reads)


async def test_what_takes_too_long_is_told_before_the_peer_gives_up(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert admitting.LOOK_S_MAX + admitting.SEND_S_MAX < ANSWER_S_MAX
    monkeypatch.setattr(admitting, "LOOK_S_MAX", 0.01)
    target.means.wait = asyncio.Event()
    async with asyncio.timeout(10):
        answer = await target.ask()
    assert isinstance(answer, Refuse)
    assert "has not looked into it" in answer.reason
    target.means.wait.set()
    monkeypatch.undo()
    assert isinstance(await target.ask(), Accept), "its place is free again"


async def test_what_is_staged_needs_a_target_that_keeps(journal: Journal, tmp_path: Path) -> None:
    host, means = host_with(FakeEngine("gone"), journal, tmp_path), FakeMeans()
    host = replace(host, config=replace(host.config, kept_s_max=0))
    offered, policy = manifest("web", None, {"Name": "no"}), policy_of(host.config, "edge-a")
    findings = await admission_findings(host, means, offered, policy, staged=True)
    assert [finding.id for finding in findings] == ["policy.staging"]
    assert await admission_findings(host, means, offered, policy) == []
