"""The failure matrix is complete, repeatable, and counts by what the journals say."""

from __future__ import annotations

import pytest

from faults.cells import HOLDS, LONG_OUTAGE_S, Cell, End, Fault, Step, all_cells, allowed_ends, choose_cells, plan_run
from faults.cells import step_of as at


def test_every_fault_meets_every_step() -> None:
    assert len(all_cells()) == len(set(all_cells())) == len(Fault) * len(Step) == 66


def test_cells_are_chosen_by_fault_by_step_or_by_both() -> None:
    assert choose_cells("") == all_cells()
    assert choose_cells("link-both:3") == [Cell(Fault.LINK_BOTH, Step.RELEASED)]
    assert [str(cell) for cell in choose_cells("source-host")] == [f"source-host:{number}" for number in range(6)]
    assert {cell.fault for cell in choose_cells(":4, :4")} == set(Fault)
    assert len(choose_cells(":4, :4")) == len(Fault)
    for nonsense in ("no-such-fault", "link-both:6", "link-both:x"):
        with pytest.raises(ValueError):
            choose_cells(nonsense)


def test_a_run_is_decided_by_its_seed() -> None:
    cell = Cell(Fault.TARGET_HOST, Step.OWNED)
    assert plan_run(cell, 7, 3) == plan_run(cell, 7, 3)
    seeds = {plan_run(each, seed, index).seed for each in all_cells() for seed in (0, 1) for index in range(15)}
    assert len(seeds) == 66 * 2 * 15


def test_the_runs_of_a_cell_use_every_hold_and_every_restart_policy() -> None:
    for cell in all_cells():
        made = [plan_run(cell, 0, index) for index in range(40)]
        assert {plan.hold for plan in made} == set(HOLDS[cell.step])
        assert {plan.policy for plan in made} == {"no", "always", "unless-stopped"}
        assert {plan.image_there for plan in made} == {True, False}


def test_some_runs_last_until_the_user_is_told_of_a_doubt() -> None:
    long_runs = {cell for cell in all_cells() if plan_run(cell, 0, 4).outage_s == LONG_OUTAGE_S}
    assert Cell(Fault.LINK_BOTH, Step.RELEASED) in long_runs
    assert {cell.step for cell in long_runs} == {Step.RELEASED, Step.OWNED}


def test_holds_are_inside_their_steps() -> None:
    """Where a daemon stands still, the journals say the step; the other side is where the protocol has it by then."""
    before = {"prepared": "receiving", "released": "freezing", "owned": "prepared", "open": "owned", "done": None}
    other = {
        Step.PRECOPY: {"source": "receiving", "target": None},
        Step.FROZEN: {"source": "receiving", "target": "freezing"},
        Step.PREPARED: {"source": "prepared", "target": "freezing"},
        Step.RELEASED: {"source": "prepared", "target": "released"},
        Step.OWNED: {"source": "open", "target": "released"},
        Step.DONE: {"source": "open", "target": "done"},
    }
    for step, holds in HOLDS.items():
        for hold in holds:
            state = hold.state if hold.moment == "after" else before[hold.state]
            if state is None:
                state = "released" if hold.side == "source" else "open"
            states = (state, other[step][hold.side])
            assert at(*(states if hold.side == "source" else reversed(states))) is step, hold


@pytest.mark.parametrize(
    ("source", "target"),
    [(None, None), ("aborted", "receiving"), ("freezing", "refused"), ("released", "refused"), ("aborted", None)],
)
def test_a_move_that_is_not_under_way_is_at_no_step(source: str | None, target: str | None) -> None:
    assert at(source, target) is None


def test_memory_may_be_lost_only_with_the_host_or_the_docker_that_ran_it() -> None:
    for cell in all_cells():
        ends = allowed_ends(cell.fault, cell.step)
        assert ends
        assert not ends & {End.TWO, End.GONE}
        crash_of_source = cell.fault in (Fault.SOURCE_HOST, Fault.SOURCE_DOCKERD)
        crash_of_target = cell.fault in (Fault.TARGET_HOST, Fault.TARGET_DOCKERD)
        assert crash_of_source or not ends & {End.COLD_SOURCE, End.ENDED_SOURCE}
        assert crash_of_target or not ends & {End.COLD_TARGET, End.ENDED_TARGET}
        assert cell.step is not Step.DONE or not ends & {End.SOURCE, End.COLD_SOURCE, End.FROZEN_SOURCE}
