"""What every command does alike: ask the daemon, complain, print tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from .client import ControlClient, ControlError
from .render import printable

PIPED_CHARACTERS_MAX = 10_000
"""Of a row of a table that goes to no terminal."""

format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="How results are printed."
)


def complain(reason: str, *remarks: str, exit_code: int) -> NoReturn:
    """End the command with a message on standard error, ``remarks`` indented below it."""
    print(f"streamhop: {printable(reason)}", file=sys.stderr)
    for remark in filter(None, remarks):
        print(f"  {printable(remark)}", file=sys.stderr)
    sys.exit(exit_code)


def ask(question: Callable[[], Any]) -> Any:
    """The daemon's answer; the command ends if there is none."""
    try:
        return question()
    except ControlError as error:
        complain(error.reason, error.fix, exit_code=error.exit_code)


def ask_about_move(client: ControlClient, move: str, route: str = "/v1/moves") -> Any:
    """What the daemon knows of a move; the command ends if ``move``, an ID or its beginning, stands for none."""
    return ask(lambda: client.get(f"{route}/{quote(move, safe='')}"))


def list_rows(client: ControlClient, route: str, form: str, columns: list[str]) -> list[dict[str, Any]]:
    """Print what ``route`` answers, a row each; returns the rows."""
    rows: list[dict[str, Any]] = ask(lambda: client.get(route))
    if form == "json":
        click.echo(json.dumps(rows))
    elif rows:
        print_table(rows, columns)
    return rows


def print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Print the named fields of each row; the last one is wrapped where a terminal has too little room."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.upper(), no_wrap=column != columns[-1])
    for row in rows:
        table.add_row(*(printable("" if row.get(c) is None else row[c]) for c in columns))
    console = Console()
    if not console.is_terminal:
        # A row stays one line for whatever reads it.
        console.width = PIPED_CHARACTERS_MAX
    console.print(table)
