"""The guard: dismissed it does nothing; left alone it thaws what was not released, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from handover_support import MOVE, POLICY, FakeEngine, host_with, written

from streamhop.handover.guard import guarded
from streamhop.handover.guard_process import DISMISSED
from streamhop.handover.journal import Journal
from streamhop.handover.states import Role, State
from streamhop.handover.taking_over import take_over


@pytest.mark.parametrize(
    ("states", "debts", "thawed"),
    [
        ([State.PRECOPY], {}, False),
        ([State.PRECOPY, State.FREEZING], {}, True),
        ([State.PRECOPY, State.FREEZING, State.ABORTED], {"owes_thaw": True}, True),
        ([State.PRECOPY, State.FREEZING, State.ABORTED], {"owes_thaw": False}, False),
        ([State.PRECOPY, State.FREEZING, State.RELEASED], {}, False),
        ([State.PRECOPY, State.FREEZING, State.RELEASED, State.DONE], {}, False),
    ],
)
async def test_only_what_was_frozen_and_not_released_goes_on(
    journal: Journal, tmp_path: Path, gates: list[int], states: list[State], debts: dict[str, bool], *, thawed: bool
) -> None:
    engine = FakeEngine("paused")
    written(journal, Role.SOURCE, *states, container="c", peer="p:1", restart_policy=POLICY, **debts)
    await take_over(host_with(engine, journal, tmp_path), MOVE)
    assert (engine.status == "running") is thawed
    if thawed:
        record = journal.latest(MOVE, Role.SOURCE)
        assert record is not None
        assert (record.state, record.details["owes_thaw"]) == (State.ABORTED, False)


def test_a_guard_that_is_dismissed_ends_without_a_word(journal: Journal, tmp_path: Path) -> None:
    written(journal, Role.SOURCE, State.PRECOPY, State.FREEZING, container="c")
    command = [sys.executable, "-m", "streamhop.handover.guard_process", str(journal.path), str(tmp_path), MOVE.hex()]
    ended = subprocess.run(command, input=DISMISSED, capture_output=True, timeout=60, check=True)
    assert ended.stderr == b""
    assert [record.state for record in journal.unsettled()] == [State.FREEZING]


async def test_a_guard_is_gone_when_the_move_is(journal: Journal, tmp_path: Path) -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    async with guarded(host_with(FakeEngine("running"), journal, tmp_path), MOVE):
        assert children.read_text() != before
    assert children.read_text() == before
