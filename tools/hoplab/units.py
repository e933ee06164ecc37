"""Rates, durations and shares as people write them, in the notation of tc(8)."""

from __future__ import annotations

import re

from .errors import UsageError

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z%]*)", re.IGNORECASE)
_RATES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SIZES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def _split(text: str, what: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a {what}")
    return float(match[1]), match[2].lower()


def parse_rate(value: str | float | None) -> int | None:
    """A rate in bit/s: ``20mbit``, ``5.5mbit``, ``1gbit``; a number is bit/s; ``None`` is unlimited.

    :raises UsageError: anything else, or a rate below 8 kbit/s.
    """
    if value is None:
        return None
    if isinstance(value, str):
        number, unit = _split(value, "rate: write 20mbit")
        if unit not in _RATES:
            raise UsageError(f"{value!r} is not a rate: the unit is one of {', '.join(_RATES)}")
        bits = round(number * _RATES[unit])
    else:
        bits = round(value)
    if not 8_000 <= bits <= 30 * 10**9:
        raise UsageError(f"a rate of {bits} bit/s is outside 8kbit to 30gbit")
    return bits


def parse_duration(value: str | float | None) -> float | None:
    """A duration in seconds: ``50ms``, ``1.5s``; a number is seconds; zero and ``None`` are none.

    :raises UsageError: anything else, or more than 10 s.
    """
    if value is None:
        return None
    if isinstance(value, str):
        number, unit = _split(value, "duration: write 50ms")
        if unit not in _DURATIONS:
            raise UsageError(f"{value!r} is not a duration: the unit is one of {', '.join(_DURATIONS)}")
        seconds = number * _DURATIONS[unit]
    else:
        seconds = float(value)
    if not 0 <= seconds <= 10:
        raise UsageError(f"a round trip of {seconds:g} s is outside 0 to 10s")
    return seconds or None


def parse_share(value: str | float | None) -> float:
    """A share from 0 to 1: ``1%``, ``0.01``.

    :raises UsageError: anything else.
    """
    if value is None:
        return 0.0
    if isinstance(value, str):
        number, unit = _split(value, "share: write 1%")
        if unit not in ("", "%"):
            raise UsageError(f"{value!r} is not a share: write 1% or 0.01")
        value = number / 100 if unit == "%" else number
    if not 0 <= value < 1:
        raise UsageError(f"a loss of {value:g} is outside 0 to 1")
    return float(value)


def parse_size(value: str | int) -> int:
    """A size in bytes: ``512m``, ``2g``; a number is bytes.

    :raises UsageError: anything else, or zero.
    """
    if isinstance(value, str):
        number, unit = _split(value, "size: write 512m")
        if unit not in _SIZES:
            raise UsageError(f"{value!r} is not a size: the unit is k, m or g")
        value = round(number * _SIZES[unit])
    if value <= 0:
        raise UsageError(f"{value} bytes is not a size")
    return value
