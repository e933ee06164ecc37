"""What a daemon's trace tells of the decision when to freeze: the verdict, and all that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from streamhop.telemetry.trace import Trace

from .policy import Costs, PolicyOptions, RoundResult, Verdict, growth


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was measured by then, in the units of the names."""

    elapsed_s: float
    link_bytes_per_s: float
    rtt_s: float | None
    memory_bytes: int
    final_wire_bytes: float
    """Predicted."""


def tell_verdict(
    trace: Trace,
    move: bytes,
    verdict: Verdict,
    rounds: Sequence[RoundResult],
    inputs: Inputs,
    options: PolicyOptions,
    costs: Costs,
) -> None:
    """Write down what was decided after the last of ``rounds``."""
    trace.emit(
        "policy:verdict",
        move=move,
        decision=verdict.decision.value,
        reason=verdict.reason,
        stalled=verdict.stalled,
        predicted=asdict(verdict.predicted),
        round=len(rounds) - 1,
        last_round=asdict(rounds[-1]),
        growth=growth(rounds),
        inputs=asdict(inputs),
        options=asdict(options),
        costs=asdict(costs),
    )
