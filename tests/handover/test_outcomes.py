"""How a move ended, told by a daemon that did not see it: the journal says where it runs, whatever was told before."""

from __future__ import annotations

from typing import Any

import pytest
from handover_support import MOVE

from streamhop.handover.errors import (
    CancelledMoveError,
    InDoubtError,
    MoveError,
    RefusedError,
    StillFrozenError,
    UnreachableError,
)
from streamhop.handover.journal import Record
from streamhop.handover.outcomes import WHY, outcome_of_arrival, outcome_of_departure
from streamhop.handover.report import Tally, report_without_figures
from streamhop.handover.states import Role, State

MOVED = Tally().report(("web", "web2"), "edge-a", "edge-b")
IN_DOUBT = InDoubtError("GO was sent").as_json()
FROZEN = StillFrozenError("Docker would not").as_json()
CANCELLED = CancelledMoveError("it was cancelled").as_json()
REFUSED = RefusedError("no room").as_json()


def record(state: State, role: Role = Role.SOURCE, **details: Any) -> Record:
    return Record(MOVE, role, 1, state, {"name": "web", "new_name": "web2", "peer": "edge-b", **details})


@pytest.mark.parametrize(
    ("state", "debts", "told", "exit_code", "runs_at"),
    [
        (None, {}, None, 1, "source"),
        (None, {}, UnreachableError("gone").as_json(), 10, "source"),
        (State.PRECOPY, {}, None, 1, "source"),
        (State.FREEZING, {}, None, 1, "frozen"),
        (State.FREEZING, {}, FROZEN, 1, "frozen"),
        (State.ABORTED, {}, None, 1, "source"),
        (State.ABORTED, {}, CANCELLED, 20, "source"),
        (State.ABORTED, {}, REFUSED, 13, "source"),
        (State.ABORTED, {"owes_abort": True}, REFUSED, 13, "source"),
        (State.ABORTED, {"owes_thaw": True}, REFUSED, 1, "frozen"),
        (State.ABORTED, {}, FROZEN, 1, "source"),
        (State.ABORTED, {}, IN_DOUBT, 1, "source"),
        (State.ABORTED, {"reclaimed": True}, IN_DOUBT, 1, "source"),
        (State.ABORTED, {"claimed_there": True}, None, 0, "target"),
        (State.RELEASED, {}, None, 21, "nowhere"),
        (State.RELEASED, {}, IN_DOUBT, 21, "nowhere"),
        (State.RELEASED, {}, MOVED, 0, "target"),
        (State.DONE, {}, None, 0, "target"),
        (State.DONE, {"owes_finish": True}, IN_DOUBT, 0, "target"),
        (State.DONE, {}, MOVED, 0, "target"),
    ],
)
def test_where_it_runs_is_what_the_journal_says(
    state: State | None, debts: dict[str, bool], told: dict[str, Any] | None, exit_code: int, runs_at: str
) -> None:
    found = outcome_of_departure(None if state is None else record(state, **debts), told, "edge-a", "edge-b")
    assert (found["exit_code"], found["runs_at"]) == (exit_code, runs_at)


def test_what_was_told_is_told_again_with_its_figures() -> None:
    assert outcome_of_departure(record(State.DONE), MOVED, "edge-a", "edge-b") == MOVED
    assert outcome_of_departure(record(State.ABORTED), REFUSED, "edge-a", "edge-b") == REFUSED


def test_a_report_without_figures_has_the_same_keys() -> None:
    found = outcome_of_departure(record(State.DONE), None, "edge-a", "edge-b")
    assert found == report_without_figures(("web", "web2"), "edge-a", "edge-b")
    assert list(found) == list(MOVED)


def test_a_doubt_names_the_move_that_may_be_reclaimed() -> None:
    told = outcome_of_departure(record(State.RELEASED), None, "edge-a", "edge-b")
    assert f"reclaim {MOVE.hex()[:8]}`" in told["fix"]


def test_a_failure_after_a_doubt_says_why() -> None:
    assert "reclaimed" in outcome_of_departure(record(State.ABORTED, reclaimed=True), IN_DOUBT, "a", "b")["reason"]
    assert "after GO" in outcome_of_departure(record(State.ABORTED), IN_DOUBT, "a", "b")["reason"]
    assert "thawed since" in outcome_of_departure(record(State.ABORTED), FROZEN, "a", "b")["reason"]
    assert outcome_of_departure(record(State.ABORTED), None, "a", "b")["code"] == MoveError.code


def test_what_did_not_come_here_says_why_if_that_is_known() -> None:
    why = RefusedError("no room").as_json()
    for details, reason, exit_code in (
        ({WHY: why}, "no room", 13),
        ({}, "did not come", 1),
        ({"owes_removal": False}, "reclaimed", 1),
    ):
        told = outcome_of_arrival(record(State.ABORTED, Role.TARGET, **details), "edge-a", "edge-b")
        assert told is not None
        assert reason in told["reason"]
        assert told["exit_code"] == exit_code


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (State.RECEIVING, None),
        (State.PREPARED, None),
        (State.OWNED, None),
        (State.OPEN, "moved"),
        (State.DONE, "moved"),
        (State.ABORTED, "failed"),
        (State.REFUSED, "failed"),
    ],
)
def test_what_came_here(state: State, outcome: str | None) -> None:
    found = outcome_of_arrival(record(state, Role.TARGET), "edge-a", "edge-b")
    assert (found and found["outcome"]) == outcome
