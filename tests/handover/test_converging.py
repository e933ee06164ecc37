"""When a container is slowed down, and how far: QEMU's rule, by rounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop.handover.converging import (
    PERCENT_MAX,
    ROUNDS_MAX,
    SETTLING_ROUNDS,
    Throttle,
    converge,
    next_throttle,
    steps,
)
from streamhop.handover.policy import Decision, PolicyOptions, Prediction, RoundResult, Verdict, decide

PAGE = 4096
LEFT = Prediction(transfer_s=10.0, fixed_s=0.5)


def round_of(wire: int, deferred: int = 0) -> RoundResult:
    return RoundResult(pages=1, deferred_pages=deferred, raw_bytes=wire, wire_bytes=wire, seconds=1.0)


def after(throttle: Throttle, *wire: int) -> Throttle:
    """The throttle after rounds of these sizes, each judged in turn."""
    rounds = [round_of(size) for size in wire]
    for count in range(2, len(rounds) + 1):
        throttle = next_throttle(throttle, rounds[:count], PAGE)
    return throttle


def test_the_steps_are_those_of_qemu() -> None:
    assert steps() == (20, 30, 40, 50, 60, 70, 80, 90, 99)


@pytest.mark.parametrize(
    ("sizes", "percent", "high_periods"),
    [
        ([100], 0, 0),
        ([100, 51], 0, 1),
        ([100, 50], 0, 0),
        ([100, 51, 26], 20, 0),
        ([100, 51, 25], 0, 0),
        ([100, 51, 25, 13], 0, 1),
        ([100, 100, 100, 100], 20, 1),
        ([100, 100, 100, 100, 100], 30, 0),
        ([100] * 19, 99, 0),
        ([100] * 25, 99, 6),
    ],
)
def test_two_periods_in_a_row_make_a_step(sizes: list[int], percent: int, high_periods: int) -> None:
    found = after(Throttle(), *sizes)
    assert (found.percent, found.high_periods) == (percent, high_periods)


def test_pages_that_were_put_off_count_as_dirty() -> None:
    sent, found = round_of(100 * PAGE), round_of(PAGE, deferred=60)
    assert next_throttle(Throttle(high_periods=1), [sent, found], PAGE).percent == 20


@given(st.lists(st.integers(0, 1_000_000), min_size=1, max_size=60))
def test_it_never_gets_less_and_never_skips_a_step(sizes: list[int]) -> None:
    percents = [after(Throttle(), *sizes[:count]).percent for count in range(1, len(sizes) + 1)]
    ladder = (0, *steps())
    assert percents[0] == 0
    for before, now in pairwise(percents):
        assert ladder.index(now) - ladder.index(before) in (0, 1)


@given(
    st.lists(st.integers(0, 1_000_000), min_size=1, max_size=10), st.sampled_from((Decision.FREEZE, Decision.GIVE_UP))
)
def test_a_verdict_that_does_not_rest_on_the_dirty_rate_stays(sizes: list[int], decision: Decision) -> None:
    """The target is met, what is left costs nothing, or the user's patience is at its end."""
    verdict = Verdict(decision, LEFT, "because")
    throttle = Throttle(20, 1, 3)
    assert converge(throttle, verdict, [round_of(size) for size in sizes], PAGE) == (throttle, verdict)


@given(st.lists(st.integers(1, 1_000_000), min_size=2, max_size=10))
def test_a_container_whose_downtime_meets_the_target_is_not_slowed_down(sizes: list[int]) -> None:
    rounds = [round_of(size) for size in sizes]
    met = decide(rounds, Prediction(0.0, 0.4), PolicyOptions(auto_converge=True), 1.0)
    assert converge(Throttle(high_periods=1), met, rounds, PAGE)[0].percent == 0


@pytest.mark.parametrize("abort", [True, False])
def test_rounds_go_on_until_the_last_step_has_shown_what_it_brings(*, abort: bool) -> None:
    options = PolicyOptions(rounds_max=ROUNDS_MAX, abort_if_unmet=abort, auto_converge=True)
    throttle, rounds = Throttle(), []
    for _ in range(ROUNDS_MAX):
        rounds.append(round_of(1000))
        throttle, verdict = converge(throttle, decide(rounds, LEFT, options, 1.0), rounds, PAGE)
        if verdict.decision is not Decision.CONTINUE:
            break
    assert verdict.decision is (Decision.GIVE_UP if abort else Decision.FREEZE)
    assert (throttle.percent, throttle.rounds) == (PERCENT_MAX, SETTLING_ROUNDS)
    assert len(rounds) < ROUNDS_MAX


def test_a_container_that_dirties_less_when_it_is_slower_converges() -> None:
    """Its memory changes at twice the link's rate; the target is met with a tenth of what is left at first."""
    options = PolicyOptions(downtime_s_max=1.0, rounds_max=ROUNDS_MAX, abort_if_unmet=True, auto_converge=True)
    throttle, left, rounds = Throttle(), 10_000_000.0, []
    while True:
        rounds.append(round_of(int(left)))
        left = min(10_000_000.0, left * 2.0 * (100 - throttle.percent) / 100)
        predicted = Prediction(left / 2_500_000, 0.5)
        throttle, verdict = converge(throttle, decide(rounds, predicted, options, 1.0), rounds, PAGE)
        if verdict.decision is not Decision.CONTINUE:
            break
    assert verdict.decision is Decision.FREEZE
    assert 50 < throttle.percent < PERCENT_MAX
