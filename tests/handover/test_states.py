"""The transition tables keep the promises on which "never two copies" rests."""

from __future__ import annotations

import pytest

from streamhop.handover.states import (
    ENDED,
    SOURCE_NEXT,
    TARGET_NEXT,
    ForbiddenTransitionError,
    Role,
    State,
    StateMachine,
)


def reachable(table: dict[State | None, frozenset[State]], start: State | None) -> set[State]:
    found: set[State] = set()
    frontier = set(table[start])
    while frontier:
        state = frontier.pop()
        found.add(state)
        frontier |= table[state] - found
    return found


def test_the_target_opens_only_after_it_was_prepared_and_owned() -> None:
    assert [state for state, following in TARGET_NEXT.items() if State.OPEN in following] == [State.OWNED]
    assert [state for state, following in TARGET_NEXT.items() if State.OWNED in following] == [State.PREPARED]


def test_a_refusal_is_final() -> None:
    for state in ENDED:
        assert not SOURCE_NEXT.get(state)
        assert not TARGET_NEXT.get(state)
    assert State.OPEN not in reachable(TARGET_NEXT, State.RECEIVING) - reachable(TARGET_NEXT, State.PREPARED)


def test_the_source_goes_back_to_running_only_by_aborting() -> None:
    assert reachable(SOURCE_NEXT, State.RELEASED) == {State.DONE, State.ABORTED}
    assert State.FREEZING not in reachable(SOURCE_NEXT, State.RELEASED)


@pytest.mark.parametrize("role", list(Role))
def test_what_the_table_does_not_have_raises_and_changes_nothing(role: Role) -> None:
    table = SOURCE_NEXT if role is Role.SOURCE else TARGET_NEXT
    for state, following in table.items():
        for wrong in set(State) - following:
            machine = StateMachine(role, state)
            with pytest.raises(ForbiddenTransitionError):
                machine.advance(wrong)
            assert machine.state is state


def test_committed_is_what_cannot_be_taken_back() -> None:
    committed = {state for state in State if StateMachine(Role.SOURCE, state).committed}
    assert committed == {State.RELEASED, State.OWNED, State.OPEN, State.DONE}
