"""``streamhop kept``: what failed moves have brought to this host, and goes into the next attempt."""

from __future__ import annotations

import json
from functools import partial
from urllib.parse import quote

import click

from .asking import ask, complain, format_option, print_table
from .client import ControlClient

KEY_DIGITS_MIN = 4
"""As of a move's ID: what is removed must not be hit by chance."""


@click.group()
def kept() -> None:
    """Look at what failed moves have left here for another attempt, and remove it."""


@kept.command(name="ls")
@format_option
@click.pass_obj
def list_kept(client: ControlClient, form: str) -> None:
    """List what is kept; it expires by itself."""
    rows = ask(lambda: client.get("/v1/kept"))
    if form == "json":
        click.echo(json.dumps(rows))
        return
    shown = [
        {
            **row,
            "key": row["key"][:12],
            "peer": name if (name := row.get("peer_name", row["peer"])) != row["peer"] else row["peer"][:12],
            "size": f"{row['bytes'] / 1e6:.1f} MB",
            "expires": f"in {row['expires_s'] / 60:.0f} min",
        }
        for row in rows
    ]
    print_table(shown, ["key", "container", "peer", "size", "expires"])


@kept.command()
@click.argument("key", required=False)
@click.option("--all", "everything", is_flag=True, help="All that is kept.")
@click.pass_obj
def drop(client: ControlClient, key: str | None, everything: bool) -> None:
    """Remove what is kept under KEY, or its beginning."""
    if (key is None) == (not everything):
        raise click.UsageError("name a KEY from `streamhop kept ls`, or say --all")
    if key is not None and len(key) < KEY_DIGITS_MIN:
        raise click.UsageError(f"{key} is too short: give {KEY_DIGITS_MIN} digits of the KEY or more")
    found = [row["key"] for row in ask(lambda: client.get("/v1/kept")) if everything or row["key"].startswith(key)]
    if not everything and len(found) != 1:
        complain(f"{key} is the key of {len(found) or 'nothing'} that is kept", exit_code=1)
    for name in found:
        ask(partial(client.change, "DELETE", f"/v1/kept/{quote(name)}"))
        click.echo(f"{name[:12]} is dropped", err=True)
