"""Charts as SVG text: lines over a logarithmic scale, stacked bars, one timeline. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce", "#b45309", "#0f766e", "#be123c", "#475569")
WIDTH = 760
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 34, 46
_LABELS = 200
_BAR, _BAR_GAP = 18, 8


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: points (x, y), both above zero."""

    name: str
    points: tuple[tuple[float, float], ...]


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#d4d4d8") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str, told: str) -> str:
    size = f'width="{max(width, 0.5):.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"><title>{escape(told)}</title></rect>'


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img"'
    font = 'font-family="system-ui, sans-serif" font-size="12" fill="#27272a"'
    label = f'aria-label="{escape(title, {chr(34): "&quot;"})}"'
    return f"{head} {label} {font}>" + "".join([_text(8, 18, title, weight="bold"), *parts]) + "</svg>"


def decades(least: float, most: float) -> list[float]:
    """Ticks 1, 2, 5 of each power of ten that a logarithmic scale from ``least`` to ``most`` shows."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
    inside = [tick for tick in ticks if least * 0.999 <= tick <= most * 1.001]
    return inside if len(inside) <= 8 else [tick for tick in inside if f"{tick:e}"[0] == "1"]


def line_chart(title: str, series: Sequence[Series], x_label: str, y_label: str, height: float = 340) -> str:
    """Lines with a mark at each point, both scales logarithmic; empty text if there is nothing to draw."""
    drawn = [each for each in series if each.points]
    if not drawn:
        return ""
    xs = [x for each in drawn for x, _ in each.points]
    ys = [y for each in drawn for _, y in each.points]
    x_least, x_most = min(xs) / 1.2, max(xs) * 1.2
    y_least, y_most = min(ys) / 1.4, max(ys) * 1.4

    def at_x(x: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * math.log(x / x_least) / math.log(x_most / x_least)

    def at_y(y: float) -> float:
        return height - _BOTTOM - (height - _BOTTOM - _TOP) * math.log(y / y_least) / math.log(y_most / y_least)

    parts = []
    for tick in decades(y_least, y_most):
        parts += [_line(_LEFT, at_y(tick), WIDTH - _RIGHT, at_y(tick)), _text(58, at_y(tick) + 4, f"{tick:g}", "end")]
    for tick in sorted(set(xs)):
        parts.append(_line(at_x(tick), height - _BOTTOM, at_x(tick), height - _BOTTOM + 4, "#27272a"))
        parts.append(_text(at_x(tick), height - _BOTTOM + 17, f"{tick:g}", "middle"))
    parts += [
        _line(_LEFT, height - _BOTTOM, WIDTH - _RIGHT, height - _BOTTOM, "#27272a"),
        _text((_LEFT + WIDTH - _RIGHT) / 2, height - 8, x_label, "middle"),
        _text(WIDTH - _RIGHT, 18, y_label, "end"),
    ]
    for number, each in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        points = sorted(each.points)
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            told = escape(f"{each.name}: {x:g}, {y:.3g}")
            circle = f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3.5" fill="{colour}">'
            parts.append(f"{circle}<title>{told}</title></circle>")
        at = _TOP + 10 + 18 * number
        parts.append(_rectangle(WIDTH - _RIGHT + 12, at - 9, 10, 10, colour, each.name))
        parts.append(_text(WIDTH - _RIGHT + 28, at, each.name))
    return _svg(height, title, parts)


def stacked_bars(title: str, bars: Sequence[tuple[str, Mapping[str, float]]], unit: str) -> str:
    """One horizontal bar for each label, made of parts by name; empty text if there is nothing to draw."""
    kinds = list(dict.fromkeys(kind for _, parts in bars for kind in parts))
    most = max((sum(parts.values()) for _, parts in bars), default=0.0)
    if most <= 0:
        return ""
    colours = {kind: COLOURS[number % len(COLOURS)] for number, kind in enumerate(kinds)}
    scale = (WIDTH - _LABELS - 90) / most
    drawn: list[str] = []
    x = float(_LABELS)
    for kind in kinds:
        drawn += [_rectangle(x, 28, 10, 10, colours[kind], kind), _text(x + 14, 37, kind)]
        x += 30 + 7 * len(kind)
    y = 50.0
    for label, parts in bars:
        drawn.append(_text(_LABELS - 8, y + 13, label, "end"))
        x = float(_LABELS)
        for kind, value in parts.items():
            drawn.append(_rectangle(x, y, value * scale, _BAR, colours[kind], f"{kind}: {value:.3g} {unit}"))
            x += value * scale
        drawn.append(_text(x + 6, y + 13, f"{sum(parts.values()):.3g} {unit}"))
        y += _BAR + _BAR_GAP
    return _svg(y + 6, title, drawn)


def timeline(title: str, lanes: Sequence[tuple[str, float, float]]) -> str:
    """Phases, one below the other, with the second each begins at and its length in seconds."""
    if not lanes:
        return ""
    end = max(start + length for _, start, length in lanes)
    scale = (WIDTH - _LABELS - 90) / end if end > 0 else 0.0
    drawn: list[str] = []
    y = float(_TOP)
    for number, (name, start, length) in enumerate(lanes):
        x = _LABELS + start * scale
        told = f"{name}: {length:.3f} s from {start:.3f} s"
        drawn.append(_text(_LABELS - 8, y + 13, name, "end"))
        drawn.append(_rectangle(x, y, length * scale, _BAR, COLOURS[number % len(COLOURS)], told))
        drawn.append(_text(x + length * scale + 6, y + 13, f"{length:.3f} s"))
        y += _BAR + _BAR_GAP
    return _svg(y + 6, title, drawn)
