"""Which figures must hold, and whether they do. Pure.

Every limit is a number of the paper (Ma et al., IEEE TMC 18(9), 2018), a physical floor, or a ratio to a rival in the
same run. A figure that was not measured is not judged; one whose move failed does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .figures import Row, figure, grouped
from .scenarios import BY_NAME, PODMAN, RSYNC, STREAMHOP, Family, Link

PAPER_DOWNTIME_S = {5: 48.1, 10: 27.9, 15: 20.9, 20: 17.3, 45: 12.6, 100: 10.1, 500: 10.3}
"""OpenFace: downtime by Mbit/s."""

VISION_FIXED_S = 0.5
VISION_FLOORS = 1.1
VISION_S_MAX = {100: 2.5, 500: 1.0}
QUIET_SHARE_OF_PAPER = 0.1
BUSYBOX_S_MAX = 0.6
PODMAN_SHARE_MAX = 0.1
RSYNC_SHARE_MAX = 0.2
PODMAN_BYTES_MAX = 1.25
BUSY_MIN = 0.95
BUSY_MBIT = (5.0, 100.0)
BUSY_RTT_MS = 50.0
FINAL_FLOORS = 1.15
IDLE_S_MAX = 0.30
IDLE_S_PER_GB_MAX = 1.0
IPERF_SHARE_MIN = 0.5
SCP_SHARE_MIN = 1.5
LAG_MS_MAX = 20.0
LAG_MB = 1024
PREDICTION_WITHIN = 0.25
PREDICTION_SHARE_MIN = 0.9

SESSION_TLS, SESSION_PLAIN, SESSION_HELD = "session-tls", "session", "session-held"
IPERF, SCP, NC = "iperf3", "scp", "nc"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One promise: a figure, its limit, and whether it holds."""

    id: str
    figure: float | None
    """``None``: the move failed."""

    limit: float
    unit: str
    holds: bool

    @property
    def at_least(self) -> bool:
        """Whether the limit is a least one."""
        return self.unit.endswith("(at least)")

    def line(self) -> str:
        """For a person."""
        word = "pass" if self.holds else "FAIL"
        shown = "no figure" if self.figure is None else f"{self.figure:.4g}"
        sign = ">=" if self.at_least else "<="
        return f"{word}  {self.id}: {shown} {sign} {self.limit:.4g} {self.unit.removesuffix(' (at least)')}"


def encode_verdicts(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """What ``bench.json`` holds."""
    return [asdict(verdict) for verdict in verdicts]


def _most(name: str, value: float | None, limit: float, unit: str) -> Verdict:
    return Verdict(name, _rounded(value), round(limit, 4), unit, value is not None and value <= limit)


def _least(name: str, value: float | None, limit: float, unit: str) -> Verdict:
    return Verdict(name, _rounded(value), round(limit, 4), f"{unit} (at least)", value is not None and value >= limit)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """All that can be said from these rows, promise by promise."""
    return [
        *_paper(rows),
        *_rivals(rows),
        *_link_busy(rows),
        *_final_bytes(rows),
        *_idle(rows),
        *_wire(rows),
        *_prediction(rows),
        *_loop_lag(rows),
    ]


def _at(link: Link) -> str:
    return "unshaped" if link.mbit_per_s is None else f"{link.mbit_per_s:g}mbit"


def _own(rows: Iterable[Row], *families: Family) -> Iterator[tuple[str, Link, list[Row]]]:
    """streamhop's rows of these families, repeats together."""
    for (scenario, link, who), group in grouped(rows).items():
        if who == STREAMHOP and BY_NAME[scenario].family in families:
            yield scenario, link, group


def _median(rows: Iterable[Row], name: str) -> float | None:
    found = figure(rows, lambda row: getattr(row, name))
    return None if found is None else found.median


def _floor_s(rows: Iterable[Row], link: Link) -> float | None:
    rate = link.bit_per_s
    if rate is None:
        return None
    found = figure(rows, lambda row: None if row.floor is None else row.floor.seconds(rate))
    return None if found is None else found.median


def _paper(rows: Sequence[Row]) -> Iterator[Verdict]:
    """1: downtime against the paper's."""
    for scenario, link, group in _own(rows, Family.VISION, Family.VISION_QUIET, Family.BUSYBOX):
        gap = _median(group, "service_gap_s")
        mbit = 0 if link.mbit_per_s is None else int(link.mbit_per_s)
        if BY_NAME[scenario].family is Family.BUSYBOX:
            yield _most(f"1-busybox-{_at(link)}", gap, BUSYBOX_S_MAX, "s")
        elif BY_NAME[scenario].family is Family.VISION_QUIET:
            if mbit in PAPER_DOWNTIME_S:
                limit = QUIET_SHARE_OF_PAPER * PAPER_DOWNTIME_S[mbit]
                yield _most(f"1-vision-quiet-{_at(link)}", gap, limit, "s")
        else:
            floor_s = _floor_s(group, link)
            if floor_s is not None or all(row.failed for row in group):
                limit = VISION_FIXED_S + VISION_FLOORS * (floor_s or 0.0)
                yield _most(f"1-vision-floor-{_at(link)}", gap, limit, "s")
            if mbit in VISION_S_MAX:
                yield _most(f"1-vision-{_at(link)}", gap, VISION_S_MAX[mbit], "s")


def _rivals(rows: Sequence[Row]) -> Iterator[Verdict]:
    """2: against rivals in the same run."""
    groups = grouped(rows)
    for scenario, link, group in _own(rows, Family.REDIS_WRITE):
        gap, sent = _median(group, "gap_s"), _median(group, "wire_bytes")
        for rival, share in ((PODMAN, PODMAN_SHARE_MAX), (RSYNC, RSYNC_SHARE_MAX)):
            theirs = _median(groups.get((scenario, link, rival), ()), "gap_s")
            if theirs:
                ratio = None if gap is None else gap / theirs
                yield _most(f"2-{scenario}-{_at(link)}-gap-to-{rival}", ratio, share, "ratio")
        theirs = _median(groups.get((scenario, link, PODMAN), ()), "wire_bytes")
        if theirs:
            ratio = None if sent is None else sent / theirs
            yield _most(f"2-{scenario}-{_at(link)}-bytes-to-{PODMAN}", ratio, PODMAN_BYTES_MAX, "ratio")


def _link_busy(rows: Sequence[Row]) -> Iterator[Verdict]:
    """3: pre-copy fills the link."""
    for scenario, link, group in _own(rows, *Family):
        if link.mbit_per_s is None or link.rtt_ms != BUSY_RTT_MS:
            continue
        # What is left of pre-copy after staging is too short to tell.
        busy = _median([row for row in group if not row.staged], "link_busy")
        if BUSY_MBIT[0] <= link.mbit_per_s <= BUSY_MBIT[1] and busy is not None:
            yield _least(f"3-link-busy-{scenario}-{_at(link)}", busy, BUSY_MIN, "share")


def _final_bytes(rows: Sequence[Row]) -> Iterator[Verdict]:
    """4: what crosses while frozen against what had to."""

    def ratio(row: Row) -> float | None:
        sent = row.bytes_by_kind.get("memory_final")
        return None if row.floor is None or not row.floor.zstd_bytes or sent is None else sent / row.floor.zstd_bytes

    for scenario, link, group in _own(rows, *Family):
        found = figure(group, ratio)
        if found is not None:
            yield _most(f"4-final-bytes-{scenario}-{_at(link)}", found.median, FINAL_FLOORS, "ratio")


def _idle(rows: Sequence[Row]) -> Iterator[Verdict]:
    """5: clean memory."""
    gaps = {BY_NAME[scenario].size_mb: _median(group, "gap_s") for scenario, _, group in _own(rows, Family.IDLE)}
    if 64 in gaps:
        yield _most("5-idle-64m", gaps[64], IDLE_S_MAX, "s")
    if len(gaps) >= 2:
        least, most = min(gaps), max(gaps)
        small, large = gaps[least], gaps[most]
        slope = None if small is None or large is None else (large - small) / ((most - least) / 1024)
        yield _most(f"5-idle-growth-to-{most}m", slope, IDLE_S_PER_GB_MAX, "s/GB")


def _wire(rows: Sequence[Row]) -> Iterator[Verdict]:
    """6: a session against plain tools."""
    speed = {
        who: _median(group, "bytes_per_s")
        for (scenario, _, who), group in grouped(rows).items()
        if BY_NAME[scenario].family is Family.WIRE
    }
    for session, rival, limit in (
        (SESSION_PLAIN, IPERF, IPERF_SHARE_MIN),
        (SESSION_HELD, IPERF, IPERF_SHARE_MIN),
        (SESSION_TLS, SCP, SCP_SHARE_MIN),
    ):
        ours, theirs = speed.get(session), speed.get(rival)
        if session in speed and theirs:
            yield _least(f"6-{session}-to-{rival}", None if ours is None else ours / theirs, limit, "ratio")


def _prediction(rows: Sequence[Row]) -> Iterator[Verdict]:
    """7: predicted against actual."""
    pairs = [
        (row.predicted_s, row.downtime_s)
        for row in rows
        if row.who == STREAMHOP and row.predicted_s is not None and row.downtime_s
    ]
    if pairs:
        good = sum(abs(predicted - actual) <= PREDICTION_WITHIN * actual for predicted, actual in pairs)
        yield _least("7-prediction-within-25-percent", good / len(pairs), PREDICTION_SHARE_MIN, "share of moves")


def _loop_lag(rows: Sequence[Row]) -> Iterator[Verdict]:
    """8: how late the daemons' event loops are while a gigabyte moves."""
    for scenario, link, group in _own(rows, Family.IDLE):
        if BY_NAME[scenario].size_mb == LAG_MB:
            for side in ("source", "target"):
                lag = _median(group, f"{side}_lag_ms")
                if lag is not None:
                    yield _most(f"8-loop-lag-{side}-{scenario}-{_at(link)}", lag, LAG_MS_MAX, "ms")
