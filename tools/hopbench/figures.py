"""A row of the bench, what it holds, and what several of them amount to. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any

from .scenarios import Link


class RowsError(Exception):
    """What was read is not a list of rows."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that had to cross while frozen."""

    changed_pages: int
    """Pages of the final dump that differ from what was last sent of them."""

    zstd_bytes: int
    """All of those in one zstd frame of level 3."""

    def seconds(self, bit_per_s: float) -> float:
        """Wire time at a rate."""
        return self.zstd_bytes * 8 / bit_per_s


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters of a link at a moment: seconds by the monotonic clock, bytes."""

    at_s: float
    sent: int
    received: int


BEGUN_SHARE = 0.2
"""A link that carries this share of its rate for one sample is taken to have begun with bulk data."""


def busy_share(samples: Sequence[Sample], bit_per_s: float, until_s: float) -> float | None:
    """Share of a link's rate that was used from where bulk data began until a moment.

    :param until_s: by the samples' clock.
    :returns: ``None`` if it never began, or lasted less than a second.
    """
    window = [sample for sample in samples if sample.at_s <= until_s]
    for number, (before, after) in enumerate(pairwise(window)):
        span_s = after.at_s - before.at_s
        if (after.sent - before.sent) * 8 > BEGUN_SHARE * bit_per_s * span_s:
            first, last = window[number], window[-1]
            lasted_s = last.at_s - first.at_s
            return (last.sent - first.sent) * 8 / bit_per_s / lasted_s if lasted_s >= 1.0 else None
    return None


@dataclass(frozen=True, slots=True)
class Row:
    """One move, or one transfer of ``wire``. ``None``: does not apply, or was not to be had."""

    scenario: str
    mbit_per_s: float | None
    rtt_ms: float | None
    who: str
    repeat: int = 0
    failed: str | None = None
    """Why there are no figures."""

    gap_s: float | None = None
    """Longest time between two answers that the client saw."""

    request_s: float | None = None
    """Median time between two answers: what a request and the pause before it take."""

    lost: int | None = None
    """Acknowledged writes that are not there afterwards."""

    total_s: float | None = None
    """From the request until the tool says that it is done."""

    wire_bytes: int | None = None
    """What the source's end of the link sent meanwhile, headers of IP and TCP included."""

    back_bytes: int | None = None
    """What the target's end sent."""

    cpu_s: float | None = None
    """Processor time of the two daemons and of all they started; for rivals that of all commands; of a session of
    ``wire`` that of both ends during it."""

    engine_cpu_s: float | None = None
    """Processor time of dockerd and containerd on both hosts."""

    source_peak_bytes: int | None = None
    target_peak_bytes: int | None = None
    source_lag_ms: float | None = None
    """How late the event loop of the source's daemon was, 99th percentile over the move."""

    target_lag_ms: float | None = None
    predicted_s: float | None = None
    downtime_s: float | None = None
    """By the daemons' clocks."""

    rounds: int | None = None
    bytes_by_kind: dict[str, int] = field(default_factory=dict)
    timeline: list[dict[str, Any]] = field(default_factory=list)
    target_timeline: dict[str, float] = field(default_factory=dict)
    floor: Floor | None = None
    link_busy: float | None = None
    """Share of the link's rate used during pre-copy."""

    staged: bool = False
    """Whether layers and memory were sent ahead of the request."""

    bytes_per_s: float | None = None
    """Goodput (wire)."""

    remarks: list[str] = field(default_factory=list)

    @property
    def link(self) -> Link:
        """The link it was measured on."""
        return Link(self.mbit_per_s, self.rtt_ms)

    @property
    def key(self) -> tuple[str, Link, str]:
        """What repeats share."""
        return self.scenario, self.link, self.who

    @property
    def service_gap_s(self) -> float | None:
        """The longest gap beyond one request's own time."""
        if self.gap_s is None or self.request_s is None:
            return None
        return max(0.0, self.gap_s - self.request_s)


def encode_rows(rows: Iterable[Row], machine: dict[str, Any]) -> str:
    """What ``bench-rows.json`` holds."""
    return json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"


def decode_rows(text: str) -> tuple[list[Row], dict[str, Any]]:
    """Rows and machine.

    :raises RowsError: something else.
    """
    try:
        value = json.loads(text)
        known = {each.name for each in fields(Row)}
        rows = []
        for item in value["rows"]:
            if unknown := item.keys() - known:
                raise RowsError(f"unknown fields of a row: {', '.join(sorted(unknown))}")
            floor = item.get("floor")
            rows.append(Row(**{**item, "floor": None if floor is None else Floor(**floor)}))
        return rows, dict(value["machine"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RowsError(f"this is no list of rows: {error}") from error


@dataclass(frozen=True, slots=True)
class Spread:
    """Several values of one figure."""

    median: float
    least: float
    most: float
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} ({self.least:.3g} to {self.most:.3g})"


def spread(values: Sequence[float]) -> Spread | None:
    """Median, least and most; ``None`` of nothing."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def grouped(rows: Iterable[Row]) -> dict[tuple[str, Link, str], list[Row]]:
    """Rows that are repeats of each other, in the order in which they first came; failed ones too."""
    groups: dict[tuple[str, Link, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    return groups


def figure(rows: Iterable[Row], of: Callable[[Row], float | None]) -> Spread | None:
    """Spread of one figure over the rows that have it and did not fail."""
    found = [of(row) for row in rows if row.failed is None]
    return spread([value for value in found if value is not None])
