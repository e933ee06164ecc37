"""What is kept of a session while a recording is read. Bounded, whatever the recording holds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STREAMS_MAX = 20_000
"""Of all sessions together."""
MILESTONES_MAX = 1_000
FAULTS_MAX = 200
SILENCES_KEPT = 5
SILENCE_S_MIN = 0.1
BINS_MAX = 600
BIN_NS_FIRST = 10_000_000


@dataclass(slots=True)
class StreamSummary:
    """One stream."""

    id: int
    from_dialer: bool
    kind: str = "?"
    """``?`` if its OPEN is not in the recording."""
    attributes: dict[str, Any] = field(default_factory=dict)
    began_ns: int = 0
    last_ns: int = 0
    """When the last of its frames passed."""
    ended_ns: int | None = None
    """When END passed."""
    outcome: str = "open"
    """``open``, ``ended`` (END, but no DONE yet), ``done``, or ``reset`` and the code."""
    frames: int = 0
    chunks: int = 0
    wire_bytes: int = 0
    raw_bytes: int = 0
    wire_by_codec: Counter[str] = field(default_factory=Counter)
    codec: str = "none"
    """Of the chunk that is on its way; fragments may travel in another order, so this is a good guess."""
    seqs: int = 0
    seq_max: int = 0

    @property
    def missing(self) -> int:
        """Numbers up to the highest one that are not in the recording, those that came twice apart."""
        return max(0, self.seq_max + 1 - self.seqs)

    @property
    def seconds(self) -> float:
        """From its first frame to its last."""
        return (self.last_ns - self.began_ns) / 1e9

    @property
    def bytes_per_s(self) -> float | None:
        """Rate on the wire; None if it was over too soon to tell."""
        return self.wire_bytes / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Milestone:
    """A message about a move."""

    at_ns: int
    name: str
    from_dialer: bool
    move: str
    told: str = ""
    """Code, or state."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as the protocol wants it.

    :param code: of the specification; ``missing`` for numbers of a stream that are not in the recording.
    """

    at_ns: int
    connection: int
    from_dialer: bool
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Silence:
    """A time in which nothing but upkeep passed."""

    at_ns: int
    seconds: float


class Bins:
    """Bytes by kind over time, in bins that grow wider as time goes on, so that there are never too many."""

    def __init__(self) -> None:
        self.width_ns = BIN_NS_FIRST
        self.by_kind: dict[str, Counter[int]] = {}

    def add(self, at_ns: int, kind: str, size: int) -> None:
        """Count bytes."""
        while at_ns // self.width_ns >= BINS_MAX:
            self.width_ns *= 2
            for kind_of, bins in self.by_kind.items():
                wider: Counter[int] = Counter()
                for number, count in bins.items():
                    wider[number // 2] += count
                self.by_kind[kind_of] = wider
        self.by_kind.setdefault(kind, Counter())[at_ns // self.width_ns] += size


@dataclass(slots=True)
class SessionSummary:
    """One session, or the connections that belong to none."""

    number: int | None
    dialer: str = ""
    acceptor: str = ""
    connections: set[int] = field(default_factory=set)
    began_ns: int | None = None
    last_ns: int = 0
    frames: Counter[bool] = field(default_factory=Counter)
    """By whether the dialer sent them."""
    wire_bytes: Counter[bool] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    streams: dict[int, StreamSummary] = field(default_factory=dict)
    streams_left_out: int = 0
    milestones: list[Milestone] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    faults_left_out: int = 0
    silences: list[Silence] = field(default_factory=list)
    """The longest, longest first."""
    bins: Bins = field(default_factory=Bins)
    again_frames: int = 0
    """Frames whose payload had passed before, as far as digests tell."""
    again_bytes: int = 0
    spoke_ns: int | None = None
    """When something other than upkeep last passed."""

    def fault(self, fault: Fault) -> None:
        """Note what is wrong."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(fault)
        else:
            self.faults_left_out += 1

    def spoke(self, at_ns: int) -> None:
        """Something other than upkeep passed."""
        if self.spoke_ns is not None and (seconds := (at_ns - self.spoke_ns) / 1e9) >= SILENCE_S_MIN:
            self.silences.append(Silence(self.spoke_ns, seconds))
            self.silences.sort(key=lambda silence: -silence.seconds)
            del self.silences[SILENCES_KEPT:]
        self.spoke_ns = at_ns


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """One round of pre-copy, or what crossed while frozen (``final``)."""

    name: str
    began_ns: int
    ended_ns: int
    memory_wire_bytes: int
    memory_raw_bytes: int
    tree_wire_bytes: int

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (self.ended_ns - self.began_ns) / 1e9


def rounds_of(session: SessionSummary) -> list[RoundSummary]:
    """The rounds as the attributes of streams tell them."""
    groups: dict[str, list[StreamSummary]] = {}
    for stream in session.streams.values():
        number = stream.attributes.get("round")
        if stream.kind == "final":
            groups.setdefault("final", []).append(stream)
        elif stream.kind in ("memory", "tree") and isinstance(number, int):
            groups.setdefault(str(number), []).append(stream)
    return [_round(name, groups[name]) for name in sorted(groups, key=lambda name: (name == "final", name.zfill(9)))]


def _round(name: str, streams: list[StreamSummary]) -> RoundSummary:
    memory = [stream for stream in streams if not _is_tree(stream)]
    return RoundSummary(
        name,
        min(stream.began_ns for stream in streams),
        max(stream.last_ns for stream in streams),
        sum(stream.wire_bytes for stream in memory),
        sum(stream.raw_bytes for stream in memory),
        sum(stream.wire_bytes for stream in streams if _is_tree(stream)),
    )


def _is_tree(stream: StreamSummary) -> bool:
    return stream.kind == "tree" or stream.attributes.get("part") == "tree"


@dataclass(frozen=True, slots=True)
class Moments:
    """When a move came to its turning points; None for what the recording does not tell."""

    frozen_ns: int | None = None
    """From a daemon's trace, else when the first stream of the final difference was opened."""
    go_ns: int | None = None
    started_ns: int | None = None

    @property
    def frozen_s(self) -> float | None:
        """From the freeze to STARTED."""
        if self.frozen_ns is None or self.started_ns is None:
            return None
        return (self.started_ns - self.frozen_ns) / 1e9


def moments_of(session: SessionSummary, frozen: Mapping[str, int] | None = None) -> Moments:
    """The turning points of the (last) move of a session.

    :param frozen: when each move froze its container, as a daemon's trace says.
    """
    frozen_ns = frozen.get(session.milestones[-1].move) if frozen and session.milestones else None
    if frozen_ns is None:
        frozen_ns = min((s.began_ns for s in session.streams.values() if s.kind == "final"), default=None)
    at = {milestone.name: milestone.at_ns for milestone in session.milestones}
    return Moments(frozen_ns, at.get("RELEASE"), at.get("STARTED"))
