"""``stage``, ``staged``, ``unstage``: copies at other hosts, brought there ahead of a move."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from typing import Any
from urllib.parse import quote, urlencode

import click

from . import exit_codes
from .asking import ask, complain, format_option, print_table
from .client import ControlClient
from .durations import Duration
from .rates import Rate
from .render import printable

POLL_S = 0.3


@click.command()
@click.argument("container")
@click.argument("peer", nargs=-1, required=True)
@click.option("--refresh", type=Duration(), help="Send what has changed so often. [default: once; it expires there]")
@click.option("--limit", type=Rate(), help="Most that leaves in a second: 20mbit, 2.5MB/s.")
@format_option
@click.pass_obj
def stage(
    client: ControlClient, container: str, peer: tuple[str, ...], refresh: float | None, limit: float | None, form: str
) -> None:
    """Bring layers, memory and files of a running CONTAINER to each PEER, ahead of a move there.

    Returns when the first copy is there; `migrate` then sends only what has changed since.
    """
    body = {"container": container, "peers": list(peer), "refresh_s": refresh, "limit_bytes_per_s": limit}
    rows = ask(lambda: client.change("POST", "/v1/staged", body))
    wanted = {(row["container_id"], row["peer"]) for row in rows}
    try:
        while any(not row["times"] and row["failure"] is None for row in rows):
            time.sleep(POLL_S)
            listed = {(row["container_id"], row["peer"]): row for row in ask(lambda: client.get("/v1/staged"))}
            if missing := wanted - listed.keys():
                complain(
                    f"no copy of {container} is kept at {min(missing)[1]} any more",
                    "it has ended here, or `streamhop unstage` was called",
                    exit_code=exit_codes.FAILED,
                )
            rows = [listed[key] for key in sorted(wanted)]
    except KeyboardInterrupt:
        click.echo("left; the daemon goes on with it: streamhop staged, streamhop unstage", err=True)
        sys.exit(exit_codes.INTERRUPTED)
    _print(rows, form)
    _complain_of_first([row for row in rows if not row["times"]], container)


@click.command()
@format_option
@click.pass_obj
def staged(client: ControlClient, form: str) -> None:
    """List the copies that this host keeps at others. What others keep here: `streamhop kept ls`."""
    _print(ask(lambda: client.get("/v1/staged")), form)


@click.command()
@click.argument("container")
@click.argument("peer", nargs=-1)
@format_option
@click.pass_obj
def unstage(client: ControlClient, container: str, peer: tuple[str, ...], form: str) -> None:
    """End the copies of CONTAINER at each PEER, or at all, and have them dropped there."""
    query = urlencode([("peer", name) for name in peer])
    rows = ask(
        lambda: client.change("DELETE", f"/v1/staged/{quote(container, safe='')}" + (f"?{query}" if query else ""))
    )
    if form == "json":
        click.echo(json.dumps(rows))
    for row in rows if form == "text" else []:
        if row["failure"] is None:
            click.echo(f"dropped at {row['peer']}", err=True)
        else:
            click.echo(f"{row['peer']} was not told, its copy expires: {printable(row['failure']['reason'])}", err=True)
    if any(row["failure"] for row in rows):
        sys.exit(exit_codes.FAILED)


def _print(rows: list[dict[str, Any]], form: str) -> None:
    if form == "json":
        click.echo(json.dumps(rows))
        return
    shown = [
        {
            **row,
            "refresh": "once" if row["refresh_s"] is None else f"every {row['refresh_s']:g} s",
            "last": f"{row['wire_bytes'] / 1e6:.1f} MB in {row['seconds']:.1f} s" if row["times"] else "",
            "expires": f"{dt.datetime.fromisoformat(row['expires_at']).astimezone():%H:%M:%S}" if row["times"] else "",
            "state": _state(row),
        }
        for row in rows
    ]
    if shown:
        print_table(shown, ["container", "peer", "refresh", "times", "last", "expires", "state"])


def _state(row: dict[str, Any]) -> str:
    if row["failure"] is not None:
        return f"{row['failure']['code']}: {row['failure']['reason']}"
    return "sending" if row["sending"] else "staged" if row["times"] else "waiting"


def _complain_of_first(failed: list[dict[str, Any]], container: str) -> None:
    if failed:
        failure = failed[0]["failure"]
        complain(
            f"{container} is not staged at {failed[0]['peer']}: {failure['reason']}",
            failure["fix"],
            exit_code=failure["exit_code"],
        )
