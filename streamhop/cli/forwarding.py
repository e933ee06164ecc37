"""``forwards``, ``forward stop``: ports that this host relays after a move."""

from __future__ import annotations

import json
from urllib.parse import quote

import click

from .asking import ask, format_option, print_table
from .client import ControlClient


@click.command()
@format_option
@click.pass_obj
def forwards(client: ControlClient, form: str) -> None:
    """List the ports that are relayed from here to where their container went, and for how long still."""
    rows = ask(lambda: client.get("/v1/forwards"))
    if form == "json":
        click.echo(json.dumps(rows))
        return
    shown = [
        {
            "id": row["id"][:8],
            "container": row["container"],
            "peer": row["peer"],
            "port": port["port"],
            "state": ("open" if port["open"] else "waiting for the port") if row["begun"] else "once it is moved",
            "connections": port["active"],
            "ends": f"in {row['left_s']:.0f} s" if row["begun"] else "",
        }
        for row in rows
        for port in row["ports"]
    ]
    print_table(shown, ["id", "container", "peer", "port", "state", "connections", "ends"])


@click.group()
def forward() -> None:
    """End what `forwards` lists."""


@forward.command()
@click.argument("move")
@click.pass_obj
def stop(client: ControlClient, move: str) -> None:
    """Relay the ports of MOVE, an ID or its beginning, no more; their connections end."""
    answer = ask(lambda: client.change("DELETE", f"/v1/forwards/{quote(move, safe='')}"))
    click.echo(f"{answer['id'][:8]} is relayed no more", err=True)
