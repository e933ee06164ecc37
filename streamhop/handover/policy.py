"""When to freeze: pure arithmetic on what the rounds so far have shown.

The rule is QEMU's switchover rule (freeze when what is left fits into the downtime limit at the measured
bandwidth), with two additions for slow links: the fixed cost of freezing, dumping and restoring counts too, and
rounds that no longer shrink what is left are not repeated for ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What the user asked for."""

    downtime_s_max: float = 0.5
    rounds_max: int = 8
    seconds_max: float = 600.0
    abort_if_unmet: bool = False
    """End the move instead of freezing when the downtime target cannot be met."""

    auto_converge: bool = False
    """Slow the container down where rounds do not shrink what is left; see :mod:`.converging`."""


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One pass of pre-copy over memory and trees."""

    pages: int
    deferred_pages: int
    raw_bytes: int
    wire_bytes: int
    seconds: float


LEARNT_FROM = 5
FACTOR_MAX = 8.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured or assumed costs that do not depend on how much is sent.

    :param fixed_s: freeze, dump, restore, GO of an empty container.
    :param beside_s: the part of it that goes on at the target while the last difference crosses: the first process is
        made, and its network wired.
    :param per_memory_byte_s: dump, compare and restore, for each byte of memory.
    :param factor: how many times as long these two hosts took for it lately.
    """

    fixed_s: float = 0.35
    beside_s: float = 0.13
    per_memory_byte_s: float = 1.6e-9
    factor: float = 1.0

    def of(self, memory_bytes: int) -> float:
        """Seconds, round trips apart, for a container of so much memory."""
        return self.factor * (self.fixed_s + self.per_memory_byte_s * memory_bytes)

    def transfer_s(self, final_wire_bytes: float, bytes_per_s: float) -> float:
        """Seconds that the last difference adds to the downtime."""
        if bytes_per_s <= 0:
            return 0.0
        return max(0.0, final_wire_bytes / bytes_per_s - self.factor * self.beside_s)


def learn_factor(moves: Sequence[tuple[float, float]]) -> float:
    """:attr:`Costs.factor` from earlier moves between two hosts.

    :param moves: seconds that a factor of 1 says, and seconds that it took, of each; the newest last. Only the last few
        count: hosts get busy and idle again. One that was out of the ordinary does not.
    """
    ratios = sorted(took_s / said_s for said_s, took_s in moves[-LEARNT_FROM:] if said_s > 0)
    if not ratios:
        return 1.0
    return min(max(ratios[len(ratios) // 2], 1 / FACTOR_MAX), FACTOR_MAX)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a freeze now would cost, in seconds from freeze to the first instruction at the target."""

    transfer_s: float
    """Sending what is left; more rounds may shrink it."""

    fixed_s: float
    """Everything else; no round changes it."""

    @property
    def downtime_s(self) -> float:
        """Both."""
        return self.transfer_s + self.fixed_s


class Decision(Enum):
    """What to do after a round."""

    CONTINUE = "continue"
    FREEZE = "freeze"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with what it was based on; shown to the user and kept in the report."""

    decision: Decision
    predicted: Prediction
    reason: str
    stalled: bool = False
    """Whether it rests on nothing but rounds that no longer shrink what is left."""

    @property
    def predicted_downtime_s(self) -> float:
        """From freeze to the first instruction at the target."""
        return self.predicted.downtime_s


PROCESS_IMAGES_BYTES = 60_000
"""What crosses of a small container while frozen, compressed, even if no page has changed."""

ONE_WAY_TRIPS = 3

OPENING_S = 0.03
"""From GO's arrival to the first instruction: the target writes that it has it, asks Docker, and opens the gate."""

_SHRINK_MIN = 0.8
"""A round that leaves more than this share of what the one before left brings little; two in a row end it."""

_ROUND_S_MIN = 0.001
"""A round cannot be timed better than this."""

_TRANSFER_SHARE_MIN = 0.1
"""Below this share of the fixed costs, what another round could save is lost in the noise."""


def predict_final_wire_bytes(rounds: Sequence[RoundResult], page_bytes: int) -> float:
    """Bytes that will cross while frozen, if the container keeps dirtying as it did.

    What was dirtied during round n is what round n+1 found; a freeze now finds what was dirtied during the last round.
    How that grows with a round's length the last rounds show: in proportion, if ever new pages are written to, or not
    at all, if the same ones are again and again. Before there are three rounds nothing is known of it, and what the
    last one found is the bound. Deferred pages are all sent in the end.
    """
    last, deferred = rounds[-1], deferred_wire_bytes(rounds, page_bytes)
    if len(rounds) < 2:
        return last.wire_bytes + deferred
    lasted = _seconds(last) / _seconds(rounds[-2])
    power = growth(rounds)
    if power is None:
        power = 1.0 if lasted > 1 else 0.0
    found = last.wire_bytes * math.pow(lasted, power)
    return min(found, float(rounds[0].wire_bytes)) + deferred


def growth(rounds: Sequence[RoundResult]) -> float | None:
    """By which power of a round's length grows what is dirtied in it, from 0 (not at all) to 1 (in proportion).

    :returns: None if the rounds do not show it.
    """
    if len(rounds) < 3:
        return None
    # The last two rounds found what was dirtied during the two before them.
    times = _seconds(rounds[-3]) / _seconds(rounds[-2])
    if times == 1:
        return None
    bytes_before, bytes_last = max(1, rounds[-2].wire_bytes), max(1, rounds[-1].wire_bytes)
    return min(1.0, max(0.0, math.log(bytes_before / bytes_last) / math.log(times)))


def _seconds(one: RoundResult) -> float:
    """How long a round lasted, in s; one so short that its length is nothing but noise counts as long as that noise."""
    return max(one.seconds, _ROUND_S_MIN)


def deferred_wire_bytes(rounds: Sequence[RoundResult], page_bytes: int) -> float:
    """What the pages that the last of these rounds has put off will take on the wire, if they are like those sent."""
    # The first round is left out where there are others: most of what it sends never changes.
    like = rounds[1:] or rounds
    raw_bytes, wire_bytes = sum(each.raw_bytes for each in like), sum(each.wire_bytes for each in like)
    return rounds[-1].deferred_pages * page_bytes * (wire_bytes / raw_bytes if raw_bytes else 0.5)


def predict_downtime(
    final_wire_bytes: float, bytes_per_s: float, rtt_s: float, memory_bytes: int, costs: Costs
) -> Prediction:
    """What a freeze now would cost.

    Three one-way trips lie inside: last byte out, PREPARED back, RELEASE out; STARTED is not waited for by the service.
    """
    transfer = costs.transfer_s(final_wire_bytes + PROCESS_IMAGES_BYTES, bytes_per_s)
    return Prediction(transfer, costs.of(memory_bytes) + ONE_WAY_TRIPS * rtt_s / 2)


def release_s_max(options: PolicyOptions, rtt_s: float) -> float:
    """How long after the freeze the container may be let go at the latest so that the downtime asked for is kept.

    :returns: infinity if it is only aimed at.
    """
    return max(0.0, options.downtime_s_max - rtt_s / 2 - OPENING_S) if options.abort_if_unmet else math.inf


def decide(
    rounds: Sequence[RoundResult],
    predicted: Prediction,
    options: PolicyOptions,
    elapsed_s: float,
) -> Verdict:
    """What to do after the last of ``rounds``.

    :param rounds: all rounds so far, at least one.
    :param predicted: from :func:`predict_downtime`.
    :param elapsed_s: since the first round began.
    """

    def verdict(decision: Decision, reason: str) -> Verdict:
        return Verdict(decision, predicted, reason)

    enough = Decision.GIVE_UP if options.abort_if_unmet else Decision.FREEZE
    if len(rounds) < 2:
        return verdict(Decision.CONTINUE, "the dirty rate is known after the second round")
    if predicted.downtime_s <= options.downtime_s_max:
        return verdict(Decision.FREEZE, "the predicted downtime meets the target")
    if predicted.transfer_s <= _TRANSFER_SHARE_MIN * predicted.fixed_s:
        return verdict(enough, "what is left costs little beside the fixed costs, which no round changes")
    if len(rounds) >= options.rounds_max:
        return verdict(enough, f"{options.rounds_max} rounds were made")
    if elapsed_s >= options.seconds_max:
        return verdict(enough, f"pre-copy took {elapsed_s:.0f} s")
    if len(rounds) >= 3:
        sizes = [max(1, r.wire_bytes) for r in rounds[-3:]]
        if sizes[1] > _SHRINK_MIN * sizes[0] and sizes[2] > _SHRINK_MIN * sizes[1]:
            return Verdict(enough, predicted, "more rounds no longer shrink what is left", stalled=True)
    return verdict(Decision.CONTINUE, "another round shrinks what is left")
