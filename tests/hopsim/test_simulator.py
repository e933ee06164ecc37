"""The simulator: seeds pass, a seed is the same run every time, and what is wrong with the handover is found."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hopsim.cli import coverage, run_batch
from hopsim.simulation import planned
from streamhop.handover import settling_here
from streamhop.handover.host import MoveJournal
from streamhop.handover.incoming import IncomingMove
from streamhop.handover.journal import Journal
from streamhop.handover.retreating import Retreat
from streamhop.handover.states import State

SEEDS = 300
MUTANT_SEEDS_MAX = 400
BATCH = 10

Mutate = Callable[[pytest.MonkeyPatch], None]


def test_seeds_pass() -> None:
    """P1, P2, P6, P16, P17: at most one copy runs, a complete one survives, none is let go late, nothing is left."""
    failed = {outcome.seed: outcome.violations for outcome in run_batch(range(1, SEEDS + 1)) if outcome.violations}
    assert failed == {}


def test_a_seed_is_the_same_run_in_another_process() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "hopsim.cli", "--seed", "11", "--number", "1", "--trace"]
    runs = [
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": salt}).stdout
        for salt in ("1", "2")
    ]
    first, second = ([line for line in run.splitlines() if b"seeds/s" not in line] for run in runs)
    assert first == second
    assert len(first) > 15


def test_the_coverage_has_a_row_for_each_kind_and_a_column_for_each_state() -> None:
    struck = run_batch(range(1, 31))
    total = sum((outcome.struck for outcome in struck), start=struck[0].struck - struck[0].struck)
    table = coverage(total, 1).splitlines()
    assert table[0].split() == ["source", "is", "-", "precopy", "freezing", "released", "aborted", "done"]
    assert len(table) > 10


# -- mutants: each is a handover that breaks a promise -----------------------------------------------------------------


def thaws_after_released(patch: pytest.MonkeyPatch) -> None:
    """A source that takes the container back when the target does not say that it started."""
    give_up = Retreat.give_up

    async def mutant(self: Any, dialogue: Any, cause: BaseException) -> Any:
        error = await give_up(self, dialogue, cause)
        if self._journal.state is State.RELEASED and not self.runs_there:
            await settling_here.thaw(self._host.engine, self._container)
        return error

    patch.setattr(Retreat, "give_up", mutant)


def starts_without_go(patch: pytest.MonkeyPatch) -> None:
    """A target that gets tired of waiting for GO."""
    await_go = IncomingMove._await_go

    async def mutant(self: IncomingMove, digest: bytes) -> None:
        try:
            async with asyncio.timeout(5):
                await await_go(self, digest)
        except TimeoutError:
            return

    patch.setattr(IncomingMove, "_await_go", mutant)


def thaws_before_the_abort_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A source that thaws at once when a write failed: RELEASED may be on disk all the same."""
    give_up = Retreat.give_up

    async def mutant(self: Any, dialogue: Any, cause: BaseException) -> Any:
        if self._journal.state is State.FREEZING:
            await settling_here.thaw(self._host.engine, self._container)
        return await give_up(self, dialogue, cause)

    patch.setattr(Retreat, "give_up", mutant)


def sends_go_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A source that takes a failed write of RELEASED for a written one."""
    enter = MoveJournal.enter

    async def mutant(self: MoveJournal, state: State, **details: Any) -> None:
        if state is not State.RELEASED:
            await enter(self, state, **details)
            return
        writing = asyncio.ensure_future(enter(self, state, **details))
        await asyncio.sleep(0)
        self._machine.advance(state)
        writing.add_done_callback(lambda task: task.cancelled() or task.exception())

    patch.setattr(MoveJournal, "enter", mutant)


def says_refused_before_it_is_cleared_up(patch: pytest.MonkeyPatch) -> None:
    """A target that forgets the container of a move that failed."""

    async def mutant(*_: Any) -> None:
        return

    patch.setattr(settling_here, "_remove", mutant)


def lets_dockerd_restart_the_source(patch: pytest.MonkeyPatch) -> None:
    """A source whose restart policy stays as it is after RELEASED."""

    async def mutant(*_: Any) -> None:
        return

    patch.setattr("streamhop.handover.outgoing.forbid_restart", mutant)


def forgets_what_got_go(patch: pytest.MonkeyPatch) -> None:
    """A target that takes a container for which GO came for one that never ran."""

    async def mutant(*_: Any) -> bool:
        return False

    patch.setattr(settling_here, "_may_have_run", mutant)


def does_not_settle_debts(patch: pytest.MonkeyPatch) -> None:
    """A daemon that does not look into its journal when it starts."""
    patch.setattr(Journal, "unsettled", lambda _: [])


def keeps_the_container_slow(patch: pytest.MonkeyPatch) -> None:
    """A source that forgets the CPU quota of a container that was slowed down for a move that failed."""
    patch.setattr(settling_here, "give_back_cpu", lambda *_: None)


def lets_go_however_late(patch: pytest.MonkeyPatch) -> None:
    """A source for which the downtime that the user allows is but a prediction's."""
    patch.setattr("streamhop.handover.outgoing.release_s_max", lambda *_: math.inf)


@pytest.mark.parametrize(
    ("mutate", "complaint", "needs"),
    [
        (thaws_after_released, "two copies run|rollback", None),
        (starts_without_go, "two copies run|rollback", None),
        (thaws_before_the_abort_is_durable, "two copies run|rollback", ("journal", "a")),
        (sends_go_before_it_is_durable, "two copies run|rollback", ("journal and power", "a")),
        (says_refused_before_it_is_cleared_up, "left", None),
        (lets_dockerd_restart_the_source, "two copies run|rollback", None),
        (forgets_what_got_go, "rollback|last complete copy", None),
        (does_not_settle_debts, "no rest", None),
        (keeps_the_container_slow, "left slowed down", None),
        (lets_go_however_late, "let go too late", None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_handover_that_breaks_its_promise_is_caught(
    mutate: Mutate, complaint: str, needs: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """P1, P2, P6: each within so many seeds; ``needs`` leaves out those without the one fault that can show it."""
    mutate(monkeypatch)
    kinds = complaint.split("|")
    seeds = (seed for seed in itertools.count(1) if needs is None or needs in planned(seed, tmp_path))
    for _ in range(MUTANT_SEEDS_MAX // BATCH):
        violations = [text for outcome in run_batch(itertools.islice(seeds, BATCH)) for text in outcome.violations]
        if any(kind in text for kind in kinds for text in violations):
            return
    pytest.fail(f"none of {MUTANT_SEEDS_MAX} seeds found it")
