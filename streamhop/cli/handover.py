"""``streamhop handover``: what the journal remembers, and what only a person can decide."""

from __future__ import annotations

import json
from typing import Any

import click

from .asking import ask, complain, format_option, print_table
from .client import ControlClient


@click.group()
def handover() -> None:
    """Look into moves of both directions, and end those whose other side is lost."""


@handover.command(name="ls")
@click.option("--all", "everything", is_flag=True, help="Also moves that are settled.")
@format_option
@click.pass_obj
def list_handovers(client: ControlClient, everything: bool, form: str) -> None:
    """List moves that are not settled."""
    rows = [row for row in _handovers(client) if everything or not row["settled"] or row["state"] == "prepared"]
    if form == "json":
        click.echo(json.dumps(rows))
        return
    print_table([{**row, "move": row["move"][:8]} for row in rows], ["move", "role", "state", "container", "peer"])


@handover.command()
@click.argument("move")
@click.pass_obj
def show(client: ControlClient, move: str) -> None:
    """Show all that is remembered of MOVE, an ID or its beginning, as JSON."""
    for row in _find(client, move):
        click.echo(json.dumps(row, indent=2))


@handover.command()
@click.argument("move")
@click.option("--fenced", is_flag=True, help="The source is off, or cut off from everything, for good.")
@click.pass_obj
def claim(client: ControlClient, move: str, fenced: bool) -> None:
    """Start here a container that waits for GO, because the source is lost."""
    _decide(client, move, "target", "claim", fenced)


@handover.command()
@click.argument("move")
@click.option("--fenced", is_flag=True, help="The target is off, or cut off from everything, for good.")
@click.pass_obj
def reclaim(client: ControlClient, move: str, fenced: bool) -> None:
    """Let a container go on here whose move is in doubt, because the target is lost."""
    _decide(client, move, "source", "reclaim", fenced)


def _handovers(client: ControlClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ask(lambda: client.get("/v1/handovers"))
    return rows


def _find(client: ControlClient, move: str) -> list[dict[str, Any]]:
    found = [row for row in _handovers(client) if len(move) >= 4 and row["move"].startswith(move.lower())]
    if not found:
        complain(f"the journal knows no move {move}", "see `streamhop handover ls --all`", exit_code=2)
    return found


def _decide(client: ControlClient, move: str, role: str, what: str, fenced: bool) -> None:
    found = [row for row in _find(client, move) if row["role"] == role]
    if len(found) != 1:
        complain(f"{move} stands for {len(found)} moves of which this host is the {role}", exit_code=2)
    (row,) = found
    other = "source" if role == "target" else "target"
    if not fenced:
        click.echo(
            f"If the {other} ({row['peer']}) still runs {row['container']}, or ever does again, there are two copies.",
            err=True,
        )
        typed = click.prompt(f"Is it fenced off for good? Type the container's name to {what} it", err=True)
        if typed != row["container"]:
            complain("that is not its name: nothing was done", exit_code=2)
    ask(lambda: client.change("POST", f"/v1/handovers/{row['move']}/{what}"))
