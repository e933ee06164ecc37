"""When to slow a container down whose memory changes faster than the link carries it, and how far. Pure.

The rule and the numbers are those of QEMU's auto-converge (migration/ram.c: migration_trigger_throttle,
mig_throttle_guest_down): if what got dirty in a period is more than half of what was sent in it, twice in a row, the
guest loses 20 % of its CPU, from then on 10 % more each time, and never more than 99 %.

A period is a round. What got dirty in it is what the next round finds; both are counted as they are on the wire, since
that is what the link has to carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .policy import Decision, RoundResult, Verdict, deferred_wire_bytes

FIRST_PERCENT = 20
STEP_PERCENT = 10
PERCENT_MAX = 99

DIRTY_SHARE_MAX = 0.5
PERIODS = 2
"""So many in a row have to be above that share."""

SETTLING_ROUNDS = 3
"""Rounds that show what the last step has brought: one was read before it, two tell whether they shrink."""

ROUNDS_MAX = 40
"""Rounds of a move that may lower the CPU, unless the user says otherwise: each step takes two, and there are nine."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """How far a container is slowed down, and what that rests on.

    :param percent: of its CPU that it does without.
    :param high_periods: with too much dirt, in a row, since the last step.
    :param rounds: since the last step.
    """

    percent: int = 0
    high_periods: int = 0
    rounds: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether there is no further step, and the last one has shown what it brings."""
        return self.percent == PERCENT_MAX and self.rounds >= SETTLING_ROUNDS


def steps() -> tuple[int, ...]:
    """Every ``percent`` that there is, but 0."""
    return (*range(FIRST_PERCENT, PERCENT_MAX, STEP_PERCENT), PERCENT_MAX)


def next_throttle(throttle: Throttle, rounds: Sequence[RoundResult], page_bytes: int) -> Throttle:
    """After the last of ``rounds``, of which there may be none before it."""
    if len(rounds) < 2:
        return throttle
    sent, found = rounds[-2], rounds[-1]
    dirtied_bytes = found.wire_bytes + deferred_wire_bytes(rounds, page_bytes)
    if dirtied_bytes <= DIRTY_SHARE_MAX * sent.wire_bytes:
        return Throttle(throttle.percent, 0, throttle.rounds + 1)
    if throttle.high_periods + 1 < PERIODS or throttle.percent == PERCENT_MAX:
        return Throttle(throttle.percent, throttle.high_periods + 1, throttle.rounds + 1)
    return Throttle(min(throttle.percent + STEP_PERCENT, PERCENT_MAX) if throttle.percent else FIRST_PERCENT)


def converge(
    throttle: Throttle, verdict: Verdict, rounds: Sequence[RoundResult], page_bytes: int
) -> tuple[Throttle, Verdict]:
    """What becomes of the throttle and of the policy's verdict after the last of ``rounds``.

    Nothing changes where the target is met, where what is left costs next to nothing, and where the user's patience
    is at its end. Rounds that no longer shrink what is left go on as long as a slower container may change that.
    """
    if verdict.decision is not Decision.CONTINUE and not verdict.stalled:
        return throttle, verdict
    throttle = next_throttle(throttle, rounds, page_bytes)
    if verdict.stalled and not throttle.exhausted:
        verdict = replace(verdict, decision=Decision.CONTINUE, reason="a slower container dirties less")
    return throttle, verdict
