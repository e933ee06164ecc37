"""The timeline of a session as SVG text: streams over time, bytes over time, rounds, freeze, GO. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from hopwire.escaping import printable, shown_value

from .sessions import Moments, SessionSummary, StreamSummary

COLOURS = {
    "layer": "#0b6e99",
    "tree": "#4d7c0f",
    "memory": "#c2410c",
    "final": "#be123c",
    "held": "#7e22ce",
    "?": "#475569",
}
WIDTH = 1100
_LEFT, _RIGHT = 170, 20
_LANE, _LANE_GAP = 16, 5
_GRAPH = 130
_AXIS = 34
_MARKS = 62
LANES_MAX = 120
BARS_MAX = 150

_MARKED = {
    "OFFER": "OFFER",
    "ACCEPT": "ACCEPT",
    "READY": "READY",
    "PREPARE": "PREPARE",
    "PREPARED": "PREPARED",
    "RELEASE": "GO",
    "STARTED": "STARTED",
    "ABORT": "ABORT",
    "FAILED": "FAILED",
    "REFUSE": "REFUSE",
}
"""Messages that are turning points; RELEASE is what people call GO."""


class Scale:
    """From nanoseconds to places on the picture."""

    def __init__(self, began_ns: int, ended_ns: int) -> None:
        self.began_ns = began_ns
        self.length_ns = max(1, ended_ns - began_ns)

    def x(self, at_ns: int) -> float:
        """The place of a moment, within the picture."""
        share = min(1.0, max(0.0, (at_ns - self.began_ns) / self.length_ns))
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def ticks(self) -> Iterator[tuple[int, str]]:
        """Round seconds to write below the picture."""
        length_s = self.length_ns / 1e9
        step = 10.0 ** math.floor(math.log10(length_s))
        step = next(each for each in (step / 5, step / 2, step) if length_s / each <= 12)
        for number in range(math.floor(length_s / step) + 1):
            yield self.began_ns + round(number * step * 1e9), f"{number * step:.6g} s"


def timeline(session: SessionSummary, moments: Moments) -> str:
    """The picture; seconds are counted from the session's first frame."""
    began_ns, ended_ns = session.began_ns or 0, session.last_ns
    return picture(session, moments, Scale(began_ns, ended_ns), "the whole session")


def while_frozen(session: SessionSummary, moments: Moments) -> str:
    """The same from the freeze to STARTED; empty if the recording does not tell of both."""
    if moments.frozen_ns is None or moments.started_ns is None or moments.started_ns <= moments.frozen_ns:
        return ""
    margin_ns = (moments.started_ns - moments.frozen_ns) // 10
    return picture(
        session, moments, Scale(moments.frozen_ns - margin_ns, moments.started_ns + margin_ns), "while frozen"
    )


def picture(session: SessionSummary, moments: Moments, scale: Scale, title: str) -> str:
    """A part of a session."""
    ended_ns = scale.began_ns + scale.length_ns
    there = [s for s in session.streams.values() if s.last_ns >= scale.began_ns and s.began_ns <= ended_ns]
    lanes = sorted(there, key=lambda stream: (stream.began_ns, stream.id))[:LANES_MAX]
    lanes_at = _MARKS + _GRAPH + 16
    bottom = lanes_at + len(lanes) * (_LANE + _LANE_GAP) + 4
    parts = [
        *_frozen(moments, scale, bottom),
        *_graph(session, scale),
        *_lanes(lanes, scale, lanes_at),
        *_marks(session, scale, bottom),
        *_axis(scale, bottom),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + _AXIS}" role="img"'
    font = 'font-family="system-ui, sans-serif" font-size="11" fill="#27272a"'
    return f'{head} aria-label="{escape(title)}" {font}>' + "".join(parts) + "</svg>"


def _text(x: float, y: float, text: str, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def _rectangle(x: float, y: float, size: tuple[float, float], colour: str, told: str, opacity: float = 1.0) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(size[0], 1.0):.1f}" height="{size[1]:.1f}"'
    return f'<rect {place} fill="{colour}" opacity="{opacity:g}"><title>{escape(told)}</title></rect>'


def _frozen(moments: Moments, scale: Scale, bottom: float) -> Iterator[str]:
    if moments.frozen_ns is None:
        return
    until_ns = moments.started_ns if moments.started_ns is not None else scale.began_ns + scale.length_ns
    x = scale.x(moments.frozen_ns)
    seconds = (until_ns - moments.frozen_ns) / 1e9
    told = f"frozen for {seconds:.3f} s" if moments.started_ns is not None else "frozen"
    yield _rectangle(x, _MARKS - 2, (scale.x(until_ns) - x, bottom - _MARKS + 2), "#bae6fd", told, 0.55)
    yield _text(x + 3, _MARKS + 10, told, extra=' fill="#075985"')


def _graph(session: SessionSummary, scale: Scale) -> Iterator[str]:
    """Bytes a second, kinds on top of each other."""
    width_ns, shown = _bars(session, scale)
    most = max((sum(sizes.values()) for sizes in shown.values()), default=0)
    base = _MARKS + _GRAPH
    yield _line(_LEFT, base, WIDTH - _RIGHT, base, "#a1a1aa")
    if not most:
        return
    yield _text(_LEFT - 8, _MARKS + 8, f"{most / width_ns * 1e3:.3g} MB/s", "end")
    yield _text(_LEFT - 8, base, "0", "end")
    for number, sizes in sorted(shown.items()):
        x = scale.x(number * width_ns)
        width = scale.x((number + 1) * width_ns) - x
        y = float(base)
        for kind, size in sorted(sizes.items()):
            height = size / most * (_GRAPH - 6)
            y -= height
            told = f"{kind}: {size} bytes in {width_ns / 1e9:g} s"
            yield _rectangle(x, y, (width, height), COLOURS.get(kind, COLOURS["?"]), told, 0.85)


def _bars(session: SessionSummary, scale: Scale) -> tuple[int, dict[int, Counter[str]]]:
    """The width of a bar in nanoseconds; and of each bar in the picture, by its number, bytes by kind."""
    bins = session.bins
    together = max(1, scale.length_ns // (BARS_MAX * bins.width_ns))
    width_ns = together * bins.width_ns
    shown: dict[int, Counter[str]] = {}
    for kind, counts in bins.by_kind.items():
        for number, size in counts.items():
            at = number // together
            if (at + 1) * width_ns > scale.began_ns and at * width_ns < scale.began_ns + scale.length_ns:
                shown.setdefault(at, Counter())[kind] += size
    return width_ns, shown


def _lanes(lanes: Sequence[StreamSummary], scale: Scale, top: float) -> Iterator[str]:
    for number, stream in enumerate(lanes):
        y = top + number * (_LANE + _LANE_GAP)
        colour = COLOURS.get(stream.kind, COLOURS["?"])
        x, end = scale.x(stream.began_ns), scale.x(stream.last_ns)
        yield _text(_LEFT - 8, y + 12, _label(stream), "end")
        told = (
            f"stream {stream.id}, {_label(stream)}: {stream.wire_bytes} bytes in {stream.seconds:.3f} s, "
            f"{printable(stream.outcome)}; {shown_value(stream.attributes, 120)}"
        )
        yield _rectangle(x, y, (end - x, _LANE), colour, told)
        size = f"{stream.wire_bytes / 1e6:.3g} MB" if stream.wire_bytes >= 100_000 else f"{stream.wire_bytes} bytes"
        if end > WIDTH - _RIGHT - 90:
            yield _text(max(x - 4, _LEFT), y + 12, size, "end")
        else:
            yield _text(max(end, x + 1) + 4, y + 12, size)


def _label(stream: StreamSummary) -> str:
    attributes = stream.attributes
    more = next((attributes[name] for name in ("round", "part", "tree", "digest") if name in attributes), "")
    return printable(f"{stream.id} {stream.kind} {str(more).removeprefix('sha256:')[:12]}".strip())


def _marks(session: SessionSummary, scale: Scale, bottom: float) -> Iterator[str]:
    """Turning points, their names in rows so that they do not cover each other."""
    rows_end = [float("-inf")] * 4
    for milestone in session.milestones:
        name = _MARKED.get(milestone.name)
        if name is None or not scale.began_ns <= milestone.at_ns <= scale.began_ns + scale.length_ns:
            continue
        x = scale.x(milestone.at_ns)
        colour = {"GO": "#15803d", "ABORT": "#be123c", "FAILED": "#be123c", "REFUSE": "#be123c"}.get(name, "#52525b")
        width = 7.0 * len(name) + 6
        begin = x if x + width < WIDTH else x - width
        row = next((number for number, end in enumerate(rows_end) if begin > end), len(rows_end) - 1)
        rows_end[row] = begin + width
        weight = ' font-weight="bold"' if name == "GO" else ""
        yield _line(x, 14 + 13 * row, x, bottom, colour, "3 3")
        yield _text(begin + 3, 12 + 13 * row, name, extra=f' fill="{colour}"{weight}')


def _axis(scale: Scale, bottom: float) -> Iterator[str]:
    yield _line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "#27272a")
    for at_ns, told in scale.ticks():
        x = scale.x(at_ns)
        yield _line(x, bottom, x, bottom + 4, "#27272a")
        yield _text(x, bottom + 17, told, "middle")
