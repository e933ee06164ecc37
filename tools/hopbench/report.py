"""Rows and verdicts for people: a Markdown table and one page of HTML that needs nothing else. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .charts import Series, line_chart, stacked_bars, timeline
from .figures import Row, Spread, figure, grouped
from .judging import PAPER_DOWNTIME_S, Verdict
from .scenarios import BY_NAME, STREAMHOP, Family, Link

MB = 1_000_000

_COLUMNS: tuple[tuple[str, Callable[[Row], float | None]], ...] = (
    ("gap s", lambda row: row.gap_s),
    ("request s", lambda row: row.request_s),
    ("total s", lambda row: row.total_s),
    ("wire MB", lambda row: _over(row.wire_bytes, MB)),
    ("CPU s", lambda row: row.cpu_s),
    ("Docker CPU s", lambda row: row.engine_cpu_s),
    ("source MB", lambda row: _over(row.source_peak_bytes, MB)),
    ("target MB", lambda row: _over(row.target_peak_bytes, MB)),
    ("source lag ms", lambda row: row.source_lag_ms),
    ("target lag ms", lambda row: row.target_lag_ms),
    ("predicted s", lambda row: row.predicted_s),
    ("downtime s", lambda row: row.downtime_s),
    ("rounds", lambda row: row.rounds),
    ("final MB", lambda row: _over(row.bytes_by_kind.get("memory_final"), MB)),
    ("floor MB", lambda row: _over(None if row.floor is None else row.floor.zstd_bytes, MB)),
    ("link busy", lambda row: row.link_busy),
    ("lost", lambda row: row.lost),
)


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _shown(value: Spread | None) -> str:
    return "" if value is None else str(value)


def _table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Head and cells; only columns that some row has."""
    groups = grouped(row for row in rows if BY_NAME[row.scenario].family is not Family.WIRE)
    used = [(name, of) for name, of in _COLUMNS if any(figure(group, of) is not None for group in groups.values())]
    head = ["scenario", "link", "by", "runs", *(name for name, _ in used)]
    body = [
        [scenario, str(link), who, _runs(group), *(_shown(figure(group, of)) for _, of in used)]
        for (scenario, link, who), group in groups.items()
    ]
    return head, body


def _runs(group: Sequence[Row]) -> str:
    failed = sum(row.failed is not None for row in group)
    return f"{len(group)}, {failed} failed" if failed else str(len(group))


def _wire_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    groups = grouped(row for row in rows if BY_NAME[row.scenario].family is Family.WIRE)
    body = [
        [
            str(link),
            who,
            _shown(figure(group, lambda row: _over(row.bytes_per_s, MB))),
            _shown(figure(group, lambda row: row.cpu_s)),
        ]
        for (_, link, who), group in groups.items()
    ]
    return ["link", "by", "MB/s", "CPU s"], body


def _verdict_table(verdicts: Sequence[Verdict]) -> tuple[list[str], list[list[str]]]:
    head = ["", "promise", "figure", "limit", "unit"]
    body = []
    for verdict in verdicts:
        sign = "≥" if verdict.at_least else "≤"
        shown = "none" if verdict.figure is None else f"{verdict.figure:.4g}"
        unit = verdict.unit.removesuffix(" (at least)")
        body.append(["pass" if verdict.holds else "FAIL", verdict.id, shown, f"{sign} {verdict.limit:.4g}", unit])
    return head, body


def _failures(rows: Iterable[Row]) -> list[str]:
    return [
        f"{row.scenario}, {row.link}, {row.who}: {text}"
        for row in rows
        for text in (*((row.failed,) if row.failed else ()), *row.remarks)
    ]


def _machine_line(machine: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in machine.items())


def markdown(rows: Sequence[Row], verdicts: Sequence[Verdict], machine: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    parts = ["# Bench", _machine_line(machine), "## Must hold", _markdown_table(*_verdict_table(verdicts))]
    parts += ["## Moves", "Medians; in brackets least and most.", _markdown_table(*_table(rows))]
    head, wire = _wire_table(rows)
    if wire:
        parts += ["## Wire", _markdown_table(head, wire)]
    if failures := _failures(rows):
        parts += ["## Failures and remarks", "\n".join(f"- {_one_line(text)}" for text in failures)]
    return "\n\n".join(parts) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def chart_of_gaps(rows: Sequence[Row]) -> str:
    """The longest gaps of vision against bandwidth beside the paper's, as an SVG file; empty if there are none."""
    return _over_bandwidth(rows, Family.VISION, "gap_s")


def html(rows: Sequence[Row], verdicts: Sequence[Verdict], machine: Mapping[str, Any]) -> str:
    """One page with the charts inside."""
    charts = [
        chart
        for family in (Family.VISION, Family.VISION_QUIET, Family.BUSYBOX, Family.REDIS_WRITE, Family.POSTGRES)
        for chart in (_over_bandwidth(rows, family, "gap_s"), _over_bandwidth(rows, family, "total_s"))
    ]
    charts += [_bytes_chart(rows), *_timeline_charts(rows)]
    body = [
        "<h1>Bench</h1>",
        f"<p>{escape(_machine_line(machine))}</p>",
        "<h2>Must hold</h2>",
        _html_table(*_verdict_table(verdicts)),
        *(f"<figure>{chart}</figure>" for chart in charts if chart),
        "<h2>Moves</h2><p>Medians; in brackets least and most.</p>",
        _html_table(*_table(rows)),
    ]
    head, wire = _wire_table(rows)
    if wire:
        body += ["<h2>Wire</h2>", _html_table(head, wire)]
    if failures := _failures(rows):
        listed = "".join(f"<li>{escape(_one_line(text))}</li>" for text in failures)
        body += ["<h2>Failures and remarks</h2>", f"<ul>{listed}</ul>"]
    return _PAGE.replace("BODY", "\n".join(body))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Bench</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #27272a }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #e4e4e7; padding: .25rem .6rem; text-align: left; white-space: nowrap }
figure { margin: 1.5rem 0; max-width: 760px }
svg { width: 100%; height: auto }
.FAIL { color: #be123c; font-weight: bold }
</style></head><body>
BODY
</body></html>
"""


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    first = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    rest = "".join("<tr>" + "".join(_cell(cell) for cell in line) + "</tr>" for line in body)
    return f"<table><tr>{first}</tr>{rest}</table>"


def _cell(text: str) -> str:
    return f'<td class="FAIL">{text}</td>' if text == "FAIL" else f"<td>{escape(text)}</td>"


_NAMES = {"gap_s": "longest gap", "total_s": "total"}


def _over_bandwidth(rows: Sequence[Row], family: Family, what: str) -> str:
    points: dict[str, list[tuple[float, float]]] = {}
    for (scenario, link, who), group in grouped(rows).items():
        found = figure(group, lambda row: getattr(row, what))
        if BY_NAME[scenario].family is family and link.mbit_per_s is not None and found and found.median > 0:
            name = who if scenario == family.value else f"{who}, {scenario}"
            points.setdefault(name, []).append((link.mbit_per_s, found.median))
    if not points:
        return ""
    if what == "gap_s" and family in (Family.VISION, Family.VISION_QUIET):
        points["the paper's downtime"] = [(float(mbit), seconds) for mbit, seconds in PAPER_DOWNTIME_S.items()]
    series = [Series(name, tuple(each)) for name, each in points.items()]
    title = f"{family.value}: {_NAMES[what]} against bandwidth"
    return line_chart(title, series, "Mbit/s", "seconds")


def _bytes_chart(rows: Sequence[Row]) -> str:
    bars: list[tuple[str, dict[str, float]]] = []
    for (scenario, link, who), group in grouped(rows).items():
        kinds = list(dict.fromkeys(kind for row in group for kind in row.bytes_by_kind))
        if who == STREAMHOP and kinds:
            bars.append((f"{scenario}, {_short(link)}", {kind: _kind_mb(group, kind) for kind in kinds}))
    return stacked_bars("bytes on the wire by kind", bars, "MB")


def _kind_mb(group: Sequence[Row], kind: str) -> float:
    found = figure(group, lambda row: _over(row.bytes_by_kind.get(kind), MB))
    return 0.0 if found is None else found.median


def _short(link: Link) -> str:
    return "unshaped" if link.mbit_per_s is None else f"{link.mbit_per_s:g} Mbit/s"


def _timeline_charts(rows: Sequence[Row]) -> list[str]:
    """The phases of the first move of vision, else of the first move there is; and those while frozen by themselves."""
    moves = [row for row in rows if row.who == STREAMHOP and row.timeline]
    moves.sort(key=lambda row: BY_NAME[row.scenario].family is not Family.VISION)
    if not moves:
        return []
    row = moves[0]
    lanes = [(str(each["phase"]), float(each["at_s"]), float(each["seconds"])) for each in row.timeline]
    title = f"one move: {row.scenario} at {row.link}"
    names = [name for name, _, _ in lanes]
    if "freeze" not in names:
        return [timeline(title, lanes)]
    frozen = [lane for lane in lanes[names.index("freeze") :] if lane[0] != "finish"]
    frozen_at_s = frozen[0][1]
    while_frozen = [(name, at_s - frozen_at_s, length_s) for name, at_s, length_s in frozen]
    return [timeline(title, lanes), timeline(f"{title}, while frozen", while_frozen)]
