"""Lengths of time as people write them on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Duration(click.ParamType[float]):
    """``500ms``, ``2s``, ``1m``. The unit is not optional: 300 would be seconds to some and milliseconds to others."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        """Make the type.

        :param zero: whether ``0s`` is one.
        """
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a usage error."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value))
        if not match or (float(match[1]) == 0 and not self._zero):
            self.fail(f"{value!r} is not a duration: write 500ms, 2s or 1m", param, ctx)
        return float(match[1]) * _UNIT_S[match[2]]
