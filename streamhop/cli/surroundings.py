"""Options about what is around a container: volumes, directories of the host, ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Pair(click.ParamType[tuple[str, str]]):
    """Two texts with a colon between them."""

    def __init__(self, first: str, second: str) -> None:
        self.name = f"{first}:{second}"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split what the user wrote; click asks for more than once."""
        if isinstance(value, tuple):
            return value
        first, colon, second = value.partition(":")
        if not colon or not first or not second or ":" in second:
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return first, second


_OPTIONS = (
    click.option(
        "--volumes",
        type=click.Choice(["move", "copy"]),
        help="move: its volumes are removed here once they are on disk there. copy: they stay. [default: move]",
    ),
    click.option(
        "--bind",
        type=click.Choice(["refuse", "copy", "expect"]),
        help="Directories of this host that it has mounted: send them, or expect them there. [default: refuse]",
    ),
    click.option(
        "--bind-map",
        type=Pair("FROM", "TO"),
        metavar="FROM:TO",
        multiple=True,
        help="Where such directories are there. May be repeated.",
    ),
    click.option(
        "--publish",
        type=Pair("HOST_PORT", "PORT"),
        metavar="HOST_PORT:PORT",
        multiple=True,
        help="Publish PORT (80, 53/udp) as HOST_PORT at the target, whatever it is here. May be repeated.",
    ),
)


def surroundings_options(command: F) -> F:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def surroundings_body(
    volumes: str | None, bind: str | None, bind_map: Sequence[tuple[str, str]], publish: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The fields of a request to the control API; those that nobody has asked for are left out."""
    fields = {
        "volumes": volumes,
        "bind": bind,
        "bind_map": dict(bind_map),
        "publish": {port if "/" in port else f"{port}/tcp": number for number, port in publish},
    }
    return {name: value for name, value in fields.items() if value}
