"""What a move counted: bytes by kind and codec, rounds, phases; and the report it ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamhop.findings import Finding, warning
from streamhop.telemetry.events import EventLog, Timeline

from .policy import Costs, RoundResult, Verdict


@dataclass(slots=True)
class Tally:
    """Counts kept while a move runs; all bytes are as they are on the wire unless named raw."""

    timeline: Timeline = field(default_factory=Timeline)
    wire_by_kind: Counter[str] = field(default_factory=Counter)
    wire_by_codec: Counter[str] = field(default_factory=Counter)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    layers_sent: int = 0
    layers_reused: int = 0
    pages_held: int = 0
    """Pages that the target had from an earlier attempt."""

    blocks_held: int = 0
    """Blocks of files likewise."""

    reconnects: int = 0
    throttle_percent_max: int = 0
    """Of its CPU that the container did without, at most."""

    throttled_s: float = 0.0
    """How long it did without some."""

    wire_bytes: int = 0
    downtime_s: float | None = None
    """None if the peer said too late that it runs there to tell."""

    predicted_downtime_s: float | None = None
    transfer_s: float = 0.0
    """What of the predicted downtime is sending."""

    link_bytes_per_s: float = 0.0
    """What the link delivered before the freeze."""

    usual_fixed_s: float | None = None
    """What freeze, dump and restore usually take, sending apart: with a factor of 1, see :class:`.Costs`."""

    target_timings: dict[str, float] = field(default_factory=dict)

    @property
    def fixed_s(self) -> float | None:
        """The part of the downtime that was not sending."""
        if self.downtime_s is None or not self.link_bytes_per_s:
            return None
        return self.downtime_s - Costs().transfer_s(self.wire_by_kind["memory_final"], self.link_bytes_per_s)

    def add_round(self, number: int, result: RoundResult, verdict: Verdict) -> None:
        """Note one round of pre-copy and what was decided after it."""
        self.predicted_downtime_s = round(verdict.predicted_downtime_s, 4)
        self.rounds.append(
            {
                "number": number,
                "pages": result.pages,
                "deferred_pages": result.deferred_pages,
                "bytes": result.raw_bytes,
                "wire_bytes": result.wire_bytes,
                "seconds": round(result.seconds, 4),
                "predicted_downtime_s": self.predicted_downtime_s,
                "decision": verdict.decision.value,
                "reason": verdict.reason,
            }
        )

    def report(self, names: tuple[str, str], source: str, target: str) -> dict[str, Any]:
        """The report of a finished move, as ``--format json`` prints it.

        :param names: what the container is called at the source, and at the target.
        """
        kinds = ("layers", "writable_layer", "volumes", "memory_precopy", "memory_final")
        return {
            **_moved(names, source, target),
            "total_s": round(self.timeline.elapsed_s(), 4),
            "downtime_s": _rounded(self.downtime_s),
            "predicted_downtime_s": self.predicted_downtime_s,
            "fixed_s": _rounded(self.fixed_s),
            "usual_fixed_s": _rounded(self.usual_fixed_s),
            "rounds": self.rounds,
            "bytes": {
                **{kind: self.wire_by_kind[kind] for kind in kinds},
                "wire": self.wire_bytes,
                "by_codec": dict(self.wire_by_codec),
            },
            "layers_sent": self.layers_sent,
            "layers_reused": self.layers_reused,
            "pages_held": self.pages_held,
            "blocks_held": self.blocks_held,
            "reconnects": self.reconnects,
            "throttle_percent_max": self.throttle_percent_max,
            "throttled_s": round(self.throttled_s, 4),
            "timeline": self.timeline.phases(),
            "target_timeline": self.target_timings,
            "health": None,
        }


def report_without_figures(names: tuple[str, str], source: str, target: str) -> dict[str, Any]:
    """The report of a move whose figures went with the daemon that made it: the same keys, without values."""
    return {
        **_moved(names, source, target),
        "total_s": None,
        "downtime_s": None,
        "predicted_downtime_s": None,
        "fixed_s": None,
        "usual_fixed_s": None,
        "rounds": [],
        "bytes": None,
        "layers_sent": None,
        "layers_reused": None,
        "pages_held": None,
        "blocks_held": None,
        "reconnects": None,
        "throttle_percent_max": None,
        "throttled_s": None,
        "timeline": [],
        "target_timeline": {},
        "health": None,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _moved(names: tuple[str, str], source: str, target: str) -> dict[str, Any]:
    return {
        "outcome": "moved",
        "exit_code": 0,
        "runs_at": "target",
        "container": names[0],
        "container_at_target": names[1],
        "source": source,
        "target": target,
    }


def tell_warnings(events: EventLog, side: str, findings: Sequence[Finding]) -> None:
    """Remark on what the preflight has warned of, and where more is told.

    :param side: whose host it was found on, ``source`` or ``target``.
    """
    if warned := warning(findings):
        named = ", ".join(dict.fromkeys(finding.id for finding in warned))
        events.emit("remark", text=f"the preflight warns at the {side}: {named}; `streamhop check` tells more")
