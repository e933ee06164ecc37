"""Rates as people write them on the command line."""

from __future__ import annotations

from typing import Any

import click

from streamhop.config import ConfigError, parse_rate


class Rate(click.ParamType[float]):
    """``20mbit``, ``2.5MB/s``, ``2.5MiB/s``; see :func:`streamhop.config.parse_rate`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Bytes a second, or a usage error."""
        try:
            return value if isinstance(value, float) else parse_rate(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)
