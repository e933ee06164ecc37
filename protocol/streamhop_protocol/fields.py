"""Checked decoding of msgpack maps into frozen dataclasses.

Each field of such a dataclass is ``Annotated`` with its check; the map's keys are the fields' names. Keys that are
not known are ignored, so that a later version may add some.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from .errors import LimitError, MalformedError
from .limits import LIST_ITEMS_MAX, NESTING_MAX

T = TypeVar("T")
Check = Callable[[str, object], Any]
"""Takes what the value is called and the value; returns it or raises a ProtocolError."""

_CHECKS: dict[type, tuple[tuple[str, Check, bool], ...]] = {}
"""What :func:`_checks` has found so far: type hints are slow to read, and frames are many."""


def integer(low: int, high: int) -> Check:
    """An int within bounds. A bool is none, nor is a float."""

    def check(what: str, value: object) -> int:
        if type(value) is not int:
            raise MalformedError(f"{what} is a {type(value).__name__}, not an integer")
        if not low <= value <= high:
            raise LimitError(f"{what} is {value}, not within {low} and {high}")
        return value

    return check


def text(bytes_max: int, *, empty: bool = True) -> Check:
    """A string of at most ``bytes_max`` bytes of UTF-8."""

    def check(what: str, value: object) -> str:
        if not isinstance(value, str):
            raise MalformedError(f"{what} is a {type(value).__name__}, not a string")
        if len(value) > bytes_max or len(value.encode("utf-8", "surrogatepass")) > bytes_max:
            raise LimitError(f"{what} is longer than {bytes_max} bytes")
        if not value and not empty:
            raise MalformedError(f"{what} is empty")
        return value

    return check


def binary(length: int) -> Check:
    """Exactly ``length`` bytes."""

    def check(what: str, value: object) -> bytes:
        if not isinstance(value, bytes):
            raise MalformedError(f"{what} is a {type(value).__name__}, not bytes")
        if len(value) != length:
            raise MalformedError(f"{what} has {len(value)} bytes, not {length}")
        return value

    return check


def texts(bytes_max: int) -> Check:
    """A list of strings, each of at most ``bytes_max`` bytes."""
    item = text(bytes_max)

    def check(what: str, value: object) -> list[str]:
        if not isinstance(value, list):
            raise MalformedError(f"{what} is a {type(value).__name__}, not a list")
        if len(value) > LIST_ITEMS_MAX:
            raise LimitError(f"{what} has {len(value)} entries, at most {LIST_ITEMS_MAX} allowed")
        return [item(f"entry of {what}", entry) for entry in value]

    return check


def pairs(bytes_max: int, entries_max: int) -> Check:
    """A list of at most ``entries_max`` pairs of strings, each of at most ``bytes_max`` bytes."""
    item = texts(bytes_max)

    def check(what: str, value: object) -> list[list[str]]:
        if not isinstance(value, list):
            raise MalformedError(f"{what} is a {type(value).__name__}, not a list")
        if len(value) > entries_max:
            raise LimitError(f"{what} has {len(value)} entries, at most {entries_max} allowed")
        if not all(isinstance(entry, list) and len(entry) == 2 for entry in value):
            raise MalformedError(f"an entry of {what} is no pair")
        return [item(f"entry of {what}", entry) for entry in value]

    return check


def mapping() -> Check:
    """A map of anything but NaN and infinities; whoever uses it checks what is inside."""

    def check(what: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise MalformedError(f"{what} is a {type(value).__name__}, not a map")
        _refuse_non_finite(what, value, NESTING_MAX)
        return value

    return check


def anything() -> Check:
    """Any value but NaN and infinities."""

    def check(what: str, value: object) -> object:
        _refuse_non_finite(what, value, NESTING_MAX)
        return value

    return check


_SIMPLE = frozenset({int, str, bytes, bool, type(None)})
"""Types whose values are finite, and hold no others."""


def _refuse_non_finite(what: str, value: object, depth_left: int) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MalformedError(f"{what} holds a number that is not finite")
        return
    if isinstance(value, dict):
        children: list[object] = list(value.values())
    elif isinstance(value, list):
        children = value
    else:
        return
    if depth_left == 0:
        raise LimitError(f"{what} is nested deeper than {NESTING_MAX}")
    for child in children:
        if type(child) not in _SIMPLE:  # a call for each number of a chunk's runs would take most of the time
            _refuse_non_finite(what, child, depth_left - 1)


def optional(check: Check) -> Check:
    """None, or what ``check`` lets pass."""

    def check_present(what: str, value: object) -> Any:
        return None if value is None else check(what, value)

    return check_present


def _checks(cls: type) -> tuple[tuple[str, Check, bool], ...]:
    """Name, check and whether it must be there, of each field."""
    found = _CHECKS.get(cls)
    if found is None:
        found = _CHECKS[cls] = _read_checks(cls)
    return found


def _read_checks(cls: type) -> tuple[tuple[str, Check, bool], ...]:
    hints = get_type_hints(cls, include_extras=True)
    missing = dataclasses.MISSING
    return tuple(
        (item.name, hints[item.name].__metadata__[0], item.default is missing and item.default_factory is missing)
        for item in dataclasses.fields(cls)
    )


def to_map(record: object) -> dict[str, Any]:
    """The map that says ``record``; fields that are None are left out.

    :raises ProtocolError: a field that the peer would refuse; a bug of the caller.
    """
    result = {}
    for name, check, _ in _checks(type(record)):
        value = getattr(record, name)
        if value is not None:
            result[name] = check(f"{name} of {type(record).__name__}", value)
    return result


def from_map(cls: type[T], value: object) -> T:
    """Build ``cls`` from a peer's map.

    :raises ProtocolError: not a map, a field missing or of the wrong type, or out of bounds.
    """
    if not isinstance(value, dict):
        raise MalformedError(f"{cls.__name__} is a {type(value).__name__}, not a map")
    values = {}
    for name, check, required in _checks(cls):
        if name in value:
            values[name] = check(f"{name} of {cls.__name__}", value[name])
        elif required:
            raise MalformedError(f"{cls.__name__} lacks {name}")
    return cls(**values)
