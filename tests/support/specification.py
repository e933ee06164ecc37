"""Reads the tables of the specification, and decides by them alone what a frame's map is worth."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROTOCOL = Path(__file__).parents[2] / "protocol"
_DRAWN = re.compile(r"^```\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
UNITS = {"KiB": 1024, "MiB": 1024**2}


class WrongError(Exception):
    """A map that the specification does not allow; the text is the code of the error."""


def number(text: str) -> int:
    """``65,535``, ``2^48-1``, ``4 MiB`` or ``255 bytes``."""
    value, _, unit = text.strip().replace(",", "").partition(" ")
    base, power, rest = value.partition("^")
    whole = int(base) if not power else int(base) ** int(rest.partition("-")[0]) - int(rest.partition("-")[2] or 0)
    return whole * UNITS.get(unit, 1)


def tables(text: str) -> Iterator[list[list[str]]]:
    """The rows of each table in ``text``, its head first; cells without backquotes."""
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        rows = [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def below(name: str, section: str) -> str:
    """What a document says below a heading, up to the next one."""
    text = (PROTOCOL / name).read_text(encoding="utf-8")
    match = re.search(rf"^#+ {re.escape(section)}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert match is not None, f"{name} has no section {section}"
    return match[1]


def table(name: str, section: str) -> list[list[str]]:
    """The rows of the first table below a heading, without the head."""
    return next(tables(_DRAWN.sub("", below(name, section))))[1:]


def diagram(name: str, section: str) -> list[tuple[str, int]]:
    """What is in the first byte diagram below a heading, each with its bits; what has no fixed length is left out."""
    drawn = _DRAWN.findall(below(name, section))[0]
    rows = [line.strip("|").split("|") for line in drawn.splitlines() if line.startswith("|")]
    return [(cell.strip(), (len(cell) + 1) // 2) for row in rows for cell in row if "..." not in cell]


@dataclass(frozen=True, slots=True)
class Field:
    """One row of a table of fields."""

    name: str
    type: str
    optional: bool
    limits: str

    def check(self, value: Any) -> None:
        """:raises WrongError: the specification does not allow ``value`` here."""
        CHECKS[self.type](self.limits, value)


@dataclass(frozen=True, slots=True)
class Section:
    """What the specification says about one type."""

    number: int
    name: str
    fields: tuple[Field, ...]
    text: str

    def check(self, fields: dict[str, Any]) -> None:
        """:raises WrongError: the specification does not allow a frame of this type to have these fields."""
        for field in self.fields:
            value = fields.get(field.name)
            if field.name not in fields:
                if not field.optional:
                    raise WrongError("malformed")
            elif value is not None or not field.optional or field.type == "map":
                field.check(value)


def sections() -> list[Section]:
    """One for each type, in the order of the documents."""
    text = "".join((PROTOCOL / name).read_text(encoding="utf-8") for name in ("SPEC.session.md", "SPEC.moves.md"))
    found = re.findall(r"^#{2,3} (\w+) \(0x([0-9A-F]{2})\)\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    return [Section(int(digits, 16), name, tuple(_fields(body)), body) for name, digits, body in found]


def _fields(body: str) -> Iterator[Field]:
    described = body.partition("*Fields*:")[2].partition("*Errors*:")[0]
    for rows in tables(described):
        assert rows[0] == ["field", "type", "unit", "limits", "meaning"]
        for name, kind, _, limits, meaning in rows[1:]:
            assert meaning
            kind, _, absent = kind.partition(", ")
            assert absent in ("", "may be absent")
            yield Field(name, kind, bool(absent), limits)


def bounds(limits: str) -> tuple[int, int]:
    """Lowest and highest of ``1 to 255 bytes``, ``at most 4096 bytes`` or ``16 bytes``."""
    if limits.startswith("at most "):
        return 0, number(limits.removeprefix("at most "))
    low, to, high = limits.partition(" to ")
    return (number(low), number(high)) if to else (number(limits), number(limits))


def _uint(limits: str, value: Any) -> None:
    if type(value) is not int:
        raise WrongError("malformed")
    low, high = bounds(limits)
    if not low <= value <= high:
        raise WrongError("limit")


def _text(limits: str, value: Any) -> None:
    if not isinstance(value, str):
        raise WrongError("malformed")
    if limits.startswith("one of "):
        if value not in limits.removeprefix("one of ").split(", "):
            raise WrongError("malformed")
        return
    low, high = bounds(limits)
    if len(value.encode()) > high:
        raise WrongError("limit")
    if len(value.encode()) < low:
        raise WrongError("malformed")


def _bytes(limits: str, value: Any) -> None:
    if not isinstance(value, bytes) or len(value) != number(limits):
        raise WrongError("malformed")


def _any(_limits: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise WrongError("malformed")
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _any(_limits, child)


def _map(limits: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise WrongError("malformed")
    _any(limits, value)


def _list(limits: str, value: Any, check: Callable[[str, Any], None]) -> None:
    if not isinstance(value, list):
        raise WrongError("malformed")
    match = re.fullmatch(r"at most (\d+) entries(?: of|, each text) (at most \d+ bytes)", limits)
    assert match is not None, limits
    if len(value) > int(match[1]):
        raise WrongError("limit")
    for entry in value:
        check(match[2], entry)


def _pair(limits: str, value: Any) -> None:
    if not isinstance(value, list) or len(value) != 2:
        raise WrongError("malformed")
    for text in value:
        _text(limits, text)


CHECKS: dict[str, Callable[[str, Any], None]] = {
    "uint": _uint,
    "text": _text,
    "bytes": _bytes,
    "map": _map,
    "any": _any,
    "list of text": lambda limits, value: _list(limits, value, _text),
    "list of pairs": lambda limits, value: _list(limits, value, _pair),
}
