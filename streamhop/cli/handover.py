"""``streamhop handover``: what the journal remembers, and what only a person can decide."""

from __future__ import annotations

import json
from typing import Any

import click

from . import exit_codes
from .asking import ask, ask_about_move, complain, format_option, print_table
from .client import ControlClient
from .render import printable


@click.group()
def handover() -> None:
    """Look into moves of both directions, and end those whose other side is lost."""


@handover.command(name="ls")
@click.option("--all", "everything", is_flag=True, help="Also moves that are settled.")
@format_option
@click.pass_obj
def list_handovers(client: ControlClient, form: str, *, everything: bool) -> None:
    """List moves that are not settled."""
    known = ask(lambda: client.get("/v1/handovers"))
    rows = [row for row in known if everything or not row["settled"] or row["state"] == "prepared"]
    if form == "json":
        click.echo(json.dumps(rows))
        return
    shown = [{**row, "move": row["move"][:8], "peer": _peer(row)} for row in rows]
    print_table(shown, ["move", "role", "state", "container", "peer"])


@handover.command()
@click.argument("move")
@click.pass_obj
def show(client: ControlClient, move: str) -> None:
    """Show all that is remembered of MOVE, an ID or its beginning, as JSON."""
    click.echo(json.dumps(_rows(client, move), indent=2))


@handover.command()
@click.argument("move")
@click.option("--fenced", is_flag=True, help="The source is off, or cut off from everything, for good.")
@format_option
@click.pass_obj
def claim(client: ControlClient, move: str, form: str, *, fenced: bool) -> None:
    """Start here a container that waits for GO, because the source is lost."""
    _decide(client, move, "target", form, fenced=fenced)


@handover.command()
@click.argument("move")
@click.option("--fenced", is_flag=True, help="The target is off, or cut off from everything, for good.")
@format_option
@click.pass_obj
def reclaim(client: ControlClient, move: str, form: str, *, fenced: bool) -> None:
    """Let a container go on here whose move is in doubt, because the target is lost."""
    _decide(client, move, "source", form, fenced=fenced)


def _peer(row: dict[str, Any]) -> Any:
    """What the other host is called here; a daemon of an earlier version knows IDs alone."""
    return row.get("peer_name", row["peer"])


def _rows(client: ControlClient, move: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ask_about_move(client, move, "/v1/handovers")
    if not rows:
        complain(f"nothing was promised yet about move {move}", exit_code=exit_codes.USAGE)
    return rows


def _decide(client: ControlClient, move: str, role: str, form: str, *, fenced: bool) -> None:
    what, other = ("claim", "source") if role == "target" else ("reclaim", "target")
    found = [row for row in _rows(client, move) if row["role"] == role]
    if not found:
        complain(f"this host is not the {role} of move {move}", exit_code=exit_codes.USAGE)
    (row,) = found
    if not fenced:
        click.echo(
            f"If the {other} ({printable(_peer(row))}) still runs {printable(row['container'])}, or ever does again, "
            "there are two copies.",
            err=True,
        )
        typed = click.prompt(f"Is it fenced off for good? Type the container's name to {what} it", err=True)
        if typed != row["container"]:
            complain("that is not its name: nothing was done", exit_code=exit_codes.USAGE)
    done = ask(lambda: client.change("POST", f"/v1/handovers/{row['move']}/{what}"))
    if form == "json":
        click.echo(json.dumps(done))
        return
    click.echo(
        f"{printable(row['container'])} goes on here; `streamhop wait {row['move'][:8]}` says when it does", err=True
    )
