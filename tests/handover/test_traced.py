"""What a daemon's trace tells of a move: the verdict with all that it rests on, and every state that is promised."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from streamhop.handover.host import MoveJournal
from streamhop.handover.journal import Journal
from streamhop.handover.policy import Costs, PolicyOptions, RoundResult, decide, predict_downtime
from streamhop.handover.states import Role, State
from streamhop.handover.traced import Inputs, tell_verdict
from streamhop.telemetry.trace import Trace

MOVE = bytes(range(16))


def events(file: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()][1:]


def test_a_verdict_can_be_reached_again_from_what_is_told() -> None:
    rounds = [RoundResult(1000, 0, 4_096_000, 400_000, 2.0), RoundResult(100, 5, 409_600, 40_000, 0.2)]
    options, costs = PolicyOptions(downtime_s_max=0.9), Costs(factor=1.5)
    predicted = predict_downtime(60_000.0, 2_500_000.0, 0.05, 1_000_000, costs)
    verdict = decide(rounds, predicted, options, 2.2)
    file = io.BytesIO()
    inputs = Inputs(2.2, 2_500_000.0, 0.05, 1_000_000, 60_000.0)
    tell_verdict(Trace(file, "edge-a"), MOVE, verdict, rounds, inputs, options, costs)
    (event,) = events(file)
    data = event["data"]
    assert event["name"] == "policy:verdict"
    assert (data["decision"], data["reason"], data["round"]) == (verdict.decision.value, verdict.reason, 1)
    told = data["inputs"]
    again = predict_downtime(
        told["final_wire_bytes"],
        told["link_bytes_per_s"],
        told["rtt_s"],
        told["memory_bytes"],
        Costs(**data["costs"]),
    )
    assert (
        decide([rounds[0], RoundResult(**data["last_round"])], again, PolicyOptions(**data["options"]), 2.2) == verdict
    )
    assert data["move"] == {"hex": MOVE.hex()}


async def test_every_state_that_is_promised_is_told_once_it_is_on_disk(tmp_path: Path) -> None:
    file, journal = io.BytesIO(), Journal(tmp_path / "journal.sqlite")
    moves = MoveJournal(journal, MOVE, Role.SOURCE, 1, trace=Trace(file, "edge-a"))
    await moves.enter(State.PRECOPY, container="c")
    await moves.enter(State.FREEZING)
    journal.close()
    assert [(event["name"], event["data"]["state"], event["data"]["role"]) for event in events(file)] == [
        ("move:state", "precopy", "source"),
        ("move:state", "freezing", "source"),
    ]
