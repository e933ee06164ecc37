"""What the commands share."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec

import click

from hopwire.errors import FilterError, WireError
from hopwire.filtering import Filter, compile_filter

P = ParamSpec("P")

_STYLES = {
    "type": {"fg": "cyan", "bold": True},
    "error": {"fg": "red", "bold": True},
    "note": {"fg": "yellow"},
    "dim": {"dim": True},
}


class FilterParameter(click.ParamType[Filter]):
    """A filter; see :mod:`hopwire.filtering`."""

    name = "filter"

    def convert(self, value: str | Filter, param: click.Parameter | None, ctx: click.Context | None) -> Filter:
        """Compile it."""
        if isinstance(value, Filter):
            return value
        try:
            return compile_filter(value)
        except FilterError as error:
            self.fail(str(error), param, ctx)


def colours(text: str, what: str) -> str:
    """A painter for terminals; see :data:`hopwire.dumping.lines.Painter`."""
    return click.style(text, **_STYLES[what])  # type: ignore[arg-type]  # click's keywords are many


def discard_output() -> None:
    """Let nothing that is printed from now on fail, the interpreter's last flush included."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def expected_errors(function: Callable[P, None]) -> Callable[P, None]:
    """Show what is expected to go wrong as one line, with exit code 1."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except WireError as error:
            click.echo(f"hopwire: {error}", err=True)
            sys.exit(1)
        except BrokenPipeError:
            discard_output()  # whoever read along has seen enough
            sys.exit(0)

    return wrapped


def write_lines(lines: Iterator[str], *, flush: bool) -> None:
    """Print lines in large pieces, or each at once."""
    if flush:
        for line in lines:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        return
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
    finally:
        sys.stdout.flush()
