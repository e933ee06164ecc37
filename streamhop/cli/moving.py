"""The commands about moves away from this host: begin one, watch it, wait for it, end it, list them."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console

from . import exit_codes
from .asking import ask, ask_about_move, complain, format_option, print_table
from .client import ControlClient, ControlError
from .durations import Duration
from .following import find_move, follow, wait_for_end
from .rates import Rate
from .render import printable, report_table
from .surroundings import surroundings_body, surroundings_options

SHOWN_ROWS_MAX = 20
"""Ended moves that ``moves`` lists unless it is asked for all."""

DETACHED_AT = "pre-copy"
"""The phase before which everything is checked that can be without sending the container."""

_MORE_IS_TOLD = "`streamhop check` tells why this matters, and where to read more"

_WHERE = {
    "source": "it runs on here, as it was",
    "target": "it runs at the target",
    "frozen": "it is here, but still frozen",
    "paused": "it is here, paused",
    "ended": "it has ended here",
    "nowhere": "it may run at the target; the frozen copy here is kept, and the daemon goes on asking",
}


@click.command()
@click.argument("container")
@click.argument("peer", metavar="PEER[:NEWNAME]")
@click.option(
    "--max-downtime",
    type=Duration(),
    help="Freeze when the prediction is below; keep to it. [default: 500ms is aimed at]",
)
@click.option(
    "--max-rounds", type=click.IntRange(1, 100), help="Most rounds of pre-copy. [default: 8; 40 with --auto-converge]"
)
@click.option(
    "--on-no-converge",
    type=click.Choice(["go", "abort"]),
    help="What to do if the target cannot be met. [default: abort if --max-downtime is given, else go]",
)
@click.option(
    "--auto-converge",
    is_flag=True,
    help="Slow the container down, step by step, while its memory changes faster than the link carries it.",
)
@click.option(
    "--limit",
    type=Rate(),
    help="Most that leaves in a second, also while frozen: 20mbit, 2.5MB/s. [default: the configuration's limit]",
)
@click.option(
    "--reconnect",
    type=Duration(zero=True),
    help="How long to wait for a link that breaks; then the move goes on where it was. [default: 60s]",
)
@click.option(
    "--wait-healthy", type=Duration(), help="Wait so long for its health check at the target; 22 if it is not healthy."
)
@click.option(
    "--tcp",
    type=click.Choice(["keep", "close", "auto"]),
    help="Open TCP connections: keep them or do not move; close them; keep them where the container keeps its "
    "addresses, on a segment that both hosts are on. [default: auto]",
)
@click.option(
    "--forward",
    type=Duration(),
    help="Afterwards relay the ports published here to the target for so long; see `streamhop forwards`.",
)
@surroundings_options
@click.option("--detach", is_flag=True, help="Print the move's ID once all is checked, and leave it to the daemon.")
@format_option
@click.pass_obj
def migrate(
    client: ControlClient,
    container: str,
    peer: str,
    max_downtime: float | None,
    max_rounds: int | None,
    on_no_converge: str | None,
    limit: float | None,
    reconnect: float | None,
    wait_healthy: float | None,
    volumes: str | None,
    bind: str | None,
    bind_map: Sequence[tuple[str, str]],
    publish: Sequence[tuple[str, str]],
    tcp: str | None,
    forward: float | None,
    *,
    auto_converge: bool,
    detach: bool,
    form: str,
) -> None:
    """Move a running CONTAINER to PEER, as `streamhop peers` calls it, or the beginning of its ID.

    With `plaintext` in the configuration, PEER may also be an address.

    Ctrl-C cancels the move; a second one leaves it to the daemon.
    """
    peer, new_name = split_new_name(peer)
    if new_name == "":
        raise click.UsageError("the new name is missing after the colon: PEER:NEWNAME")
    body = {
        "container": container,
        "peer": peer,
        "new_name": new_name,
        "max_downtime_s": max_downtime,
        "max_rounds": max_rounds,
        "on_no_converge": on_no_converge,
        "auto_converge": auto_converge,
        "limit_bytes_per_s": limit,
        "reconnect_s": reconnect,
        "wait_healthy_s": wait_healthy,
        **surroundings_body(volumes, bind, bind_map, publish),
        "tcp": tcp,
        "forward_s": forward,
    }
    move = ask(lambda: client.start_move(body))
    checked = (lambda event: event.get("phase") == DETACHED_AT) if detach else None
    try:
        result = follow(client, move, cancels=True, until=checked)
    except KeyboardInterrupt:
        sys.exit(exit_codes.INTERRUPTED)
    except ControlError as error:
        complain(error.reason, error.fix, exit_code=error.exit_code)
    if result is None:
        click.echo(json.dumps({"id": move}) if form == "json" else move)
        return
    _tell(container, result, form)


def split_new_name(peer: str) -> tuple[str, str | None]:
    """``edge-b:web2`` has a new name, ``10.0.0.2:4711`` and ``edge-b`` have none; ``10.0.0.2:4711:web2`` has."""
    head, colon, last = peer.rpartition(":")
    if not colon or last.isdigit() or last.endswith("]"):
        return peer, None
    if peer.startswith("[") or head.count(":") <= 1:
        return head, last
    return peer, None


def _tell(container: str, result: dict[str, Any], form: str, role: str = "source") -> None:
    """Print how a move ended; ends the command unless all is well."""
    if form == "json":
        click.echo(json.dumps(result))
    elif result["outcome"] == "moved":
        Console().print(report_table(result))
    if result["outcome"] == "moved" and result["exit_code"] == 0:
        return
    if result["outcome"] == "moved":
        complain(
            f"{container} was moved, but the health check there says: {result['health']}",
            f"it runs at {result['target']}",
            exit_code=result["exit_code"],
        )
    if result["outcome"] == "in_doubt":
        what = "may have been moved or not, that is in doubt"
    else:
        what = "was not moved" if role == "source" else "did not come here"
    where = _WHERE.get(result["runs_at"], "") if role == "source" else ""
    complain(
        f"{container} {what}: {result['reason']}",
        where,
        result["fix"],
        *(remark for other in _others(result) for remark in (f"also: {other['reason']}", other["fix"])),
        _MORE_IS_TOLD if result.get("findings") else "",
        exit_code=result["exit_code"],
    )


def _others(result: dict[str, Any]) -> list[dict[str, str]]:
    """What else was in the way; a daemon of an earlier version has told the first reason alone."""
    return list(result.get("others") or ())


@click.command()
@click.argument("move")
@format_option
@click.pass_obj
def attach(client: ControlClient, move: str, form: str) -> None:
    """Watch MOVE, an ID or its beginning, as `migrate` does; Ctrl-C leaves, and the move goes on."""
    row = ask_about_move(client, move)
    try:
        result = follow(client, row["id"], cancels=False)
    except KeyboardInterrupt:
        sys.exit(exit_codes.INTERRUPTED)
    except ControlError as error:
        complain(error.reason, error.fix, exit_code=error.exit_code)
    assert result is not None
    _tell(row["container"], result, form, row["role"])


@click.command()
@click.argument("move", nargs=-1, required=True)
@click.option(
    "--patience", type=Duration(), default="1m", show_default=True, help="How long to look for a daemon that is gone."
)
@format_option
@click.pass_obj
def wait(client: ControlClient, move: tuple[str, ...], patience: float, form: str) -> None:
    """Wait until each MOVE, an ID or its beginning, has ended.

    The exit code is that of the first which did not go well.
    """
    try:
        found = ask(lambda: [find_move(client, text, patience) for text in move])
        rows = ask(lambda: [wait_for_end(client, one, patience) for one in found])
    except KeyboardInterrupt:
        click.echo(f"left; the daemon goes on with it: streamhop wait {' '.join(move)}, streamhop moves", err=True)
        sys.exit(exit_codes.INTERRUPTED)
    _list(rows, form)
    sys.exit(next((row["result"]["exit_code"] for row in rows if row["result"]["exit_code"]), 0))


@click.command()
@click.option("--all", "everything", is_flag=True, help=f"Not just the {SHOWN_ROWS_MAX} that ended last.")
@format_option
@click.pass_obj
def moves(client: ControlClient, form: str, *, everything: bool) -> None:
    """List moves in both directions, also of earlier daemons: under way, and ended."""
    rows = ask(lambda: client.get("/v1/moves"))
    ended = [row["id"] for row in rows if not row["running"]]
    hidden = set() if everything else set(ended[: max(0, len(ended) - SHOWN_ROWS_MAX)])
    _list([row for row in rows if row["id"] not in hidden], form)
    if hidden:
        click.echo(f"{len(hidden)} older ones: streamhop moves --all", err=True)


def _list(rows: list[dict[str, Any]], form: str) -> None:
    if form == "json":
        click.echo(json.dumps(rows))
        return
    direction = {"source": "to", "target": "from"}
    shown = [
        {
            "id": row["id"][:8],
            "container": row["container"],
            "peer": f"{direction[row['role']]} {row['peer']}",
            **_times(row),
            "outcome": "under way" if row["running"] else _outcome(row["result"]),
        }
        for row in rows
    ]
    print_table(shown, ["id", "container", "peer", "began", "took", "outcome"])


def _times(row: dict[str, Any]) -> dict[str, str]:
    """When a move began, by this host's clock and time zone, and how long it took, as far as that is known."""
    began, ended = (dt.datetime.fromisoformat(row[key]) if row.get(key) else None for key in ("began_at", "ended_at"))
    return {
        "began": f"{began.astimezone():%Y-%m-%d %H:%M:%S}" if began else "",
        # The clock may have been set back meanwhile.
        "took": _length(max(0.0, (ended - began).total_seconds())) if began and ended else "",
    }


def _length(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes} min {left:02} s"


def _outcome(result: dict[str, Any]) -> str:
    if result["outcome"] == "moved" and result["exit_code"] != 0:
        return f"moved, {result['health']}"
    if result["outcome"] == "moved":
        return "moved"
    reasons = [result["reason"], *(other["reason"] for other in _others(result))]
    return f"{result['code']}: {'; '.join(reasons)}"


@click.command()
@click.argument("move")
@format_option
@click.pass_obj
def cancel(client: ControlClient, move: str, form: str) -> None:
    """End a MOVE, an ID or its beginning; the container goes on here."""
    row = ask_about_move(client, move)
    cancelling = ask(lambda: client.cancel_move(row["id"]))
    if form == "json":
        click.echo(json.dumps({"id": row["id"], "cancelling": cancelling}))
    elif cancelling:
        click.echo(
            f"cancelling: {printable(row['container'])} goes on here; `streamhop wait {row['id'][:8]}` says when",
            err=True,
        )
    if not cancelling:
        result = ask_about_move(client, row["id"])["result"]
        if result is not None and result["outcome"] == "in_doubt":
            complain(
                f"too late to cancel: it is in doubt whether {row['container']} was moved",
                _WHERE["nowhere"],
                result["fix"],
                exit_code=exit_codes.FAILED,
            )
        complain(
            "too late to cancel: the container is the target's, or the move has ended", exit_code=exit_codes.FAILED
        )
