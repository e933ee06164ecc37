"""A container gets exactly its own quota back, whoever pays, however often; and nobody else's is touched."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import MOVE, POLICY, FakeEngine, host_with, written

from streamhop.engine.cpu_quota import CpuCgroup, CpuQuotaError, CpuQuotas
from streamhop.handover.braking import FREEZING_LOOKED_AT_S, Brake
from streamhop.handover.converging import steps
from streamhop.handover.cpu_debts import give_back, lower, owe
from streamhop.handover.errors import PreflightError
from streamhop.handover.host import Host, MoveJournal
from streamhop.handover.journal import Journal
from streamhop.handover.policy import Decision, PolicyOptions, Prediction, RoundResult, Verdict
from streamhop.handover.preflight import check_cpu_quota, find_container
from streamhop.handover.report import Tally
from streamhop.handover.settling import recover
from streamhop.handover.states import OWES_CPU, Role, State
from streamhop.handover.taking_over import take_over
from streamhop.telemetry.events import EventLog

OWN = "150000"
GROUP = "cpu.cfs_quota_us"


class Quotas(CpuQuotas):
    """Of a container that has used a whole CPU since the last look; calls named in ``failing`` are refused."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.failing: set[str] = set()
        self.looks = 0

    def find(self, container: str, init_pid: int) -> CpuCgroup:
        if "find" in self.failing:
            raise CpuQuotaError("no cgroup is called after the container")
        return CpuCgroup(self.directory, self.directory, self.directory)

    def used_s(self, cgroup: CpuCgroup) -> float:
        self.looks += 1
        return self.looks * 1e6

    def write(self, directory: Path, quota_us: int | None) -> None:
        if "write" in self.failing:
            raise OSError(22, "Invalid argument")
        super().write(directory, quota_us)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """The cgroup of a container with a quota of its own."""
    directory = tmp_path / "group"
    directory.mkdir()
    (directory / "cpu.cfs_period_us").write_text("100000")
    (directory / GROUP).write_text(OWN)
    return directory


@pytest.fixture
def host(journal: Journal, tmp_path: Path, group: Path) -> Host:
    found = host_with(FakeEngine("running"), journal, tmp_path)
    object.__setattr__(found, "cpu", Quotas(group))
    return found


def quota(group: Path) -> str:
    return (group / GROUP).read_text()


def debt_of(group: Path, used_cpus: float = 1.0) -> dict[str, Any]:
    return owe(CpuQuotas(), CpuCgroup(group, group, group), used_cpus)


@pytest.mark.parametrize(
    ("own", "used_cpus", "base_us"),
    [("-1", 0.5, 50_000), ("-1", 3.0, 300_000), (OWN, 0.5, 50_000), (OWN, 3.0, 150_000), ("-1", 0.0, 1000)],
)
def test_what_is_taken_is_a_share_of_what_is_used(group: Path, own: str, used_cpus: float, base_us: int) -> None:
    (group / GROUP).write_text(own)
    assert debt_of(group, used_cpus)["base_us"] == base_us


@pytest.mark.parametrize("own", ["-1", OWN, "1000"])
@pytest.mark.parametrize("percent", steps())
def test_what_was_taken_is_given_back_and_again(group: Path, own: str, percent: int) -> None:
    (group / GROUP).write_text(own)
    debt = debt_of(group)
    lower(CpuQuotas(), debt, percent)
    assert quota(group) == str(max(1000, debt["base_us"] * (100 - percent) // 100))
    for _ in range(2):
        give_back(CpuQuotas(), debt)
        assert quota(group) == own


def test_a_quota_that_somebody_has_set_since_stays(group: Path) -> None:
    debt = debt_of(group)
    lower(CpuQuotas(), debt, 20)
    (group / GROUP).write_text("70001")
    give_back(CpuQuotas(), debt)
    assert quota(group) == "70001"


def test_a_container_that_has_ended_needs_nothing(group: Path) -> None:
    debt = debt_of(group)
    for path in group.iterdir():
        path.unlink()
    group.rmdir()
    give_back(CpuQuotas(), debt)


# -- whoever settles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([State.PRECOPY], "running"),
        ([State.PRECOPY, State.FREEZING], "paused"),
        ([State.PRECOPY, State.ABORTED], "running"),
        ([State.PRECOPY, State.FREEZING, State.RELEASED], "paused"),
    ],
)
@pytest.mark.parametrize("by", ["daemon", "guard"])
async def test_the_next_daemon_and_the_guard_give_it_back(
    journal: Journal, host: Host, group: Path, gates: list[int], states: list[State], status: str, by: str
) -> None:
    engine: Any = host.engine
    engine.status = status
    debt = debt_of(group)
    lower(host.cpu, debt, 60)
    written(journal, Role.SOURCE, *states, container="c", peer="p:1", restart_policy=POLICY, **{OWES_CPU: debt})
    await (recover(host) if by == "daemon" else take_over(host, MOVE))
    assert quota(group) == OWN
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert record.details[OWES_CPU] is None
    # What was released stays frozen all the same.
    assert engine.status == ("paused" if State.RELEASED in states else "running")


async def test_a_quota_that_cannot_be_given_back_stays_owed(
    journal: Journal, host: Host, group: Path, gates: list[int]
) -> None:
    debt = debt_of(group)
    lower(host.cpu, debt, 60)
    written(journal, Role.SOURCE, State.PRECOPY, container="c" * 64, peer="p:1", **{OWES_CPU: debt})
    quotas: Any = host.cpu
    quotas.failing.add("write")
    await recover(host)
    assert [record.state for record in journal.unsettled()] == [State.ABORTED]
    # Another move would take the lowered one for the container's own.
    with pytest.raises(PreflightError, match="yet to give back"):
        await find_container(host, "web")
    quotas.failing.clear()
    assert await recover(host) == []
    assert quota(group) == OWN
    await find_container(host, "web")


async def test_a_quota_that_cannot_be_written_is_said_before_the_move(host: Host) -> None:
    container: Any = SimpleNamespace(id="c", init_pid=7)
    await check_cpu_quota(host, container)
    quotas: Any = host.cpu
    quotas.failing.add("find")
    with pytest.raises(PreflightError, match="no cgroup is called") as caught:
        await check_cpu_quota(host, container)
    assert "--auto-converge" in caught.value.fix


# -- the brake of a move -----------------------------------------------------------------------------------------------


class Braked:
    """A move in pre-copy whose memory changes too fast."""

    def __init__(self, journal: Journal, host: Host, *, asked: bool = True) -> None:
        self.events, self.tally = EventLog(), Tally()
        written(journal, Role.SOURCE, State.PRECOPY, container="c", peer="p:1")
        container: Any = SimpleNamespace(id="c", name="web", init_pid=7, manifest=SimpleNamespace(page_size=4096))
        moves = MoveJournal(journal, MOVE, Role.SOURCE, 1, State.PRECOPY)
        options = PolicyOptions(auto_converge=asked)
        self.brake = Brake(host, moves, container, options, self.events, self.tally)
        self.rounds: list[RoundResult] = []

    async def round(
        self, decision: Decision = Decision.CONTINUE, *, stalled: bool = False, alone: bool = True
    ) -> Verdict:
        self.rounds.append(RoundResult(1, 0, 1000, 1000, 1.0))
        verdict = self.brake.judge(Verdict(decision, Prediction(9.0, 0.5), "", stalled), self.rounds, alone=alone)
        await self.brake.apply()
        return verdict

    async def told(self) -> Sequence[Any]:
        self.events.close()
        return [event.get("percent", event.get("text")) async for event in self.events.follow()]


async def test_the_container_is_slowed_down_and_let_go_at_the_freeze(journal: Journal, host: Host, group: Path) -> None:
    braked = Braked(journal, host)
    seen = []
    for _ in range(5):
        await braked.round()
        seen.append(quota(group))
    # It uses more than its quota of 1.5 CPUs, so that is what it is a share of.
    assert seen == [OWN, OWN, "120000", "120000", "105000"]
    assert [bool(record.details[OWES_CPU]) for record in journal.unsettled()] == [True]
    await braked.brake.release()
    assert quota(group) == OWN
    assert [record.details[OWES_CPU] for record in journal.unsettled()] == [None]
    assert await braked.told() == [20, 30, 0]
    assert braked.tally.throttle_percent_max == 30
    assert braked.tally.throttled_s > 0


async def test_the_debt_is_on_disk_before_anything_is_changed(
    journal: Journal, host: Host, group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    braked = Braked(journal, host)

    def full(*_: Any, **__: Any) -> None:
        assert quota(group) == OWN
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(journal, "note", full)
    await braked.round()
    await braked.round()
    with pytest.raises(sqlite3.Error):
        await braked.round()
    assert quota(group) == OWN


async def test_where_the_kernel_refuses_the_move_goes_on_without(journal: Journal, host: Host, group: Path) -> None:
    quotas: Any = host.cpu
    quotas.failing.add("write")
    braked = Braked(journal, host)
    for _ in range(3):
        await braked.round()
    verdict = await braked.round(Decision.GIVE_UP, stalled=True)
    assert verdict.decision is Decision.GIVE_UP
    assert quota(group) == OWN
    assert await braked.told() == ["the container's CPU quota cannot be lowered: Invalid argument"]


async def test_a_move_that_may_not_slow_it_down_does_not_look_at_the_quota(
    journal: Journal, host: Host, group: Path
) -> None:
    braked = Braked(journal, host, asked=False)
    for _ in range(5):
        verdict = await braked.round(Decision.FREEZE, stalled=True)
        assert verdict.decision is Decision.FREEZE
    await braked.brake.release()
    quotas: Any = host.cpu
    assert (quotas.looks, quota(group)) == (0, OWN)
    assert await braked.told() == []


async def test_a_container_does_not_pay_for_the_layers_of_its_image(journal: Journal, host: Host, group: Path) -> None:
    braked = Braked(journal, host)
    for _ in range(5):
        assert (await braked.round(Decision.GIVE_UP, stalled=True, alone=False)).decision is Decision.CONTINUE
    assert (await braked.round(Decision.FREEZE, stalled=True, alone=False)).decision is Decision.FREEZE
    assert quota(group) == OWN


async def test_what_cannot_be_given_back_at_the_freeze_stays_owed(journal: Journal, host: Host, group: Path) -> None:
    braked = Braked(journal, host)
    for _ in range(3):
        await braked.round()
    quotas: Any = host.cpu
    quotas.failing.add("write")
    await braked.brake.release()
    assert [bool(record.details[OWES_CPU]) for record in journal.unsettled()] == [True]
    quotas.failing.clear()
    assert await recover(host) == []
    assert quota(group) == OWN


async def test_the_quota_is_back_while_the_container_is_being_frozen(journal: Journal, host: Host, group: Path) -> None:
    """A process without CPU cannot be frozen; one with all of its CPU dirties memory until it is."""
    (group / "freezer.state").write_text("THAWED")
    braked = Braked(journal, host)
    for _ in range(3):
        await braked.round()
    async with asyncio.timeout(5), braked.brake.released():
        for _ in range(3):
            await asyncio.sleep(FREEZING_LOOKED_AT_S)
        assert quota(group) == "120000"
        (group / "freezer.state").write_text("FREEZING")
        while quota(group) != OWN:  # noqa: ASYNC110 - a file tells nobody that it has changed
            await asyncio.sleep(FREEZING_LOOKED_AT_S)
    assert [record.details[OWES_CPU] for record in journal.unsettled()] == [None]
