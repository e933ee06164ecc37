"""Commands and options of ``streamhop``."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console

from streamhop import __version__
from streamhop.config import Config, ConfigError, parse_rate

from .asking import ask, complain, format_option, list_rows, print_table
from .client import ControlClient, ControlError
from .handover import handover
from .render import BarProgress, PlainProgress, Progressive, printable, report_table

EXIT_INTERRUPTED = 130

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Duration(click.ParamType[float]):
    """``500ms``, ``2s``, ``1m``. The unit is not optional: 300 would be seconds to some and milliseconds to others."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a usage error."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value))
        if not match or float(match[1]) <= 0:
            self.fail(f"{value!r} is not a duration: write 500ms, 2s or 1m", param, ctx)
        return float(match[1]) * _UNIT_S[match[2]]


class Rate(click.ParamType[float]):
    """``20mbit``, ``2.5MB/s``, ``2.5MiB/s``; see :func:`streamhop.config.parse_rate`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Bytes a second, or a usage error."""
        try:
            return value if isinstance(value, float) else parse_rate(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


@click.version_option(__version__, prog_name="streamhop", message="%(prog)s %(version)s")
@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=lambda: Path(os.environ.get("STREAMHOP_CONTROL_SOCKET", Config().control_socket)),
    help="Control socket of the daemon. [default: /run/streamhop/control.sock]",
)
@click.pass_context
def cli(context: click.Context, socket: Path) -> None:
    """Hand a running Docker container over to another host."""
    context.obj = ControlClient(socket)


@cli.command()
@click.option("--config", type=click.Path(path_type=Path), help="TOML file. [default: /etc/streamhop/config.toml]")
@click.option("--name", help="How this daemon calls itself. [default: the host name]")
@click.option("--listen", metavar="HOST[:PORT]", help="Where peers connect. [default: 127.0.0.1:4711]")
@click.option("--control-socket", metavar="PATH", help="Unix socket of the control API.")
@click.option("--state-dir", metavar="PATH", help="Journal and spool.")
@click.option("--run-dir", metavar="PATH", help="Final dumps and restores under way; a tmpfs.")
def daemon(config: Path | None, **flags: str | None) -> None:
    """Run the daemon of this host in the foreground."""
    from streamhop import daemon as composition

    composition.main(config, flags)


@cli.command()
@click.option("--remove", is_flag=True, help="Take the registration out again.")
@click.option(
    "--daemon-json",
    type=click.Path(path_type=Path),
    default=Path("/etc/docker/daemon.json"),
    show_default=True,
    help="Docker's configuration file.",
)
@click.option("--runtime-name", default=Config().runtime_name, show_default=True)
def setup(remove: bool, daemon_json: Path, runtime_name: str) -> None:
    """Register streamhop's OCI runtime in Docker, without a restart."""
    from streamhop import daemon as composition

    composition.setup(daemon_json, runtime_name, remove=remove)


@cli.command()
@click.argument("container")
@click.argument("peer", metavar="PEER[:NEWNAME]")
@click.option("--max-downtime", type=Duration(), help="Freeze when the prediction is below. [default: 500ms]")
@click.option("--max-rounds", type=click.IntRange(1, 100), help="Most rounds of pre-copy. [default: 8]")
@click.option(
    "--on-no-converge",
    type=click.Choice(["go", "abort"]),
    help="What to do if the target cannot be met. [default: abort if --max-downtime is given, else go]",
)
@click.option(
    "--limit",
    type=Rate(),
    help="Most that leaves in a second, also while frozen: 20mbit, 2.5MB/s. [default: the configuration's limit]",
)
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
    form: str,
) -> None:
    """Move a running CONTAINER to PEER, a name from the configuration or an address."""
    peer, new_name = _split_new_name(peer)
    if new_name == "":
        raise click.UsageError("the new name is missing after the colon: PEER:NEWNAME")
    body = {
        "container": container,
        "peer": peer,
        "new_name": new_name,
        "max_downtime_s": max_downtime,
        "max_rounds": max_rounds,
        "on_no_converge": on_no_converge,
        "limit_bytes_per_s": limit,
    }
    try:
        move = client.start_move(body)
        finished = _follow(client, move)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except ControlError as error:
        complain(error.reason, error.fix, exit_code=error.exit_code)
    result = finished["result"]
    if form == "json":
        click.echo(json.dumps(result))
    elif result["outcome"] == "moved":
        Console().print(report_table(result))
    if result["outcome"] != "moved":
        where = {
            "source": "it runs on here, as it was",
            "target": "it runs at the target",
            "frozen": "it is here, but still frozen",
            "paused": "it is here, paused",
            "ended": "it has ended here",
            "nowhere": "it runs nowhere; the frozen copy is kept and the daemon goes on asking the peer",
        }.get(result["runs_at"], "")
        complain(f"{container} was not moved: {result['reason']}", where, result["fix"], exit_code=result["exit_code"])


def _split_new_name(peer: str) -> tuple[str, str | None]:
    """``edge-b:web2`` has a new name, ``10.0.0.2:4711`` and ``edge-b`` have none; ``10.0.0.2:4711:web2`` has."""
    head, colon, last = peer.rpartition(":")
    if not colon or last.isdigit() or last.endswith("]"):
        return peer, None
    if peer.startswith("[") or head.count(":") <= 1:
        return head, last
    return peer, None


def _follow(client: ControlClient, move: str) -> dict[str, Any]:
    """Show a move until it ends; returns its last event. The first interrupt cancels the move, the second one leaves.

    :raises ControlError:
    :raises KeyboardInterrupt: the second interrupt.
    """
    console = Console(stderr=True)
    progress: Progressive = BarProgress(console) if console.is_terminal else PlainProgress(console)

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        # Not by an exception, which Python drops where it cannot be raised, such as in a finalizer.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        progress.note("cancelling" if client.cancel_move(move) else "too late to cancel: it goes through")

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        for event in client.events(move):
            progress.event(event)
            if event["event"] == "finished":
                return event
        raise ControlError(
            "the daemon ended before the move did",
            "the container may be frozen until the daemon is started again, which brings the move to its end",
        )
    except KeyboardInterrupt:
        progress.note("left; the daemon goes on with it")
        raise
    finally:
        signal.signal(signal.SIGINT, before)
        progress.close()


@cli.command()
@format_option
@click.pass_obj
def ps(client: ControlClient, form: str) -> None:
    """List the running containers of this host."""
    list_rows(client, "/v1/containers", form, ["name", "image", "status", "memory"])


@cli.command()
@format_option
@click.pass_obj
def moves(client: ControlClient, form: str) -> None:
    """List the moves away from this host since the daemon's start: under way, and ended."""
    rows = ask(lambda: client.get("/v1/moves"))
    if form == "json":
        click.echo(json.dumps(rows))
        return
    shown = [{**row, "outcome": "under way" if row["running"] else _outcome(row["result"])} for row in rows]
    print_table(shown, ["id", "container", "peer", "outcome"])


def _outcome(result: dict[str, Any]) -> str:
    return str(result["outcome"] if result["outcome"] == "moved" else f"{result['code']}: {result['reason']}")


@cli.command()
@click.argument("move")
@click.pass_obj
def cancel(client: ControlClient, move: str) -> None:
    """End a MOVE, an ID from `streamhop moves`; the container goes on here."""
    if not ask(lambda: client.cancel_move(quote(move, safe=""))):
        complain("too late to cancel: the container is the target's, or the move has ended", exit_code=1)


@cli.command()
@format_option
@click.pass_obj
def peers(client: ControlClient, form: str) -> None:
    """List the known peers and whether they answer."""
    list_rows(client, "/v1/peers", form, ["name", "address", "status", "rtt_ms"])


@cli.command(name="id")
@format_option
@click.pass_obj
def identity(client: ControlClient, form: str) -> None:
    """Show this host's device ID, by which its peers know it."""
    found = ask(lambda: client.get("/v1/identity"))
    click.echo(json.dumps(found) if form == "json" else found["id"] or "none: plaintext is set in the configuration")


@cli.command()
@click.argument("token", required=False)
@click.argument("name", required=False)
@click.option("--expires", type=Duration(), help="How long a new token is good for. [default: 10m]")
@format_option
@click.pass_obj
def pair(client: ControlClient, token: str | None, name: str | None, expires: float | None, form: str) -> None:
    """Make two hosts trust each other.

    Without TOKEN, print one: it is a secret, good for one pairing. With TOKEN, which the other host has printed, pair
    this host with it, and call it NAME here. Peers may send containers: pair only hosts that you trust.
    """
    if token is None:
        body = {} if expires is None else {"seconds": expires}
        made = ask(lambda: client.change("POST", "/v1/invitations", body))
        if form == "json":
            click.echo(json.dumps(made))
            return
        click.echo(made["token"])
        click.echo(
            f"good for {made['seconds'] / 60:g} minutes and one pairing; on the other host: streamhop pair TOKEN",
            err=True,
        )
        return
    if expires is not None:
        raise click.UsageError("--expires is for making a token, not for using one")
    peer = ask(lambda: client.change("POST", "/v1/peers", {"token": token, "name": name}))
    click.echo(json.dumps(peer) if form == "json" else f"paired with {printable(peer['name'])}, {peer['id']}")


@cli.command()
@click.argument("peer")
@click.argument("name")
@click.pass_obj
def rename(client: ControlClient, peer: str, name: str) -> None:
    """Call a paired PEER, a name or the beginning of an ID, NAME on this host."""
    renamed = ask(lambda: client.change("PATCH", f"/v1/peers/{quote(peer, safe='')}", {"name": name}))
    click.echo(f"{renamed['id']} is called {printable(renamed['name'])} now")


@cli.command()
@click.argument("peer")
@click.pass_obj
def unpair(client: ControlClient, peer: str) -> None:
    """Trust PEER no longer; its connections end at once."""
    removed = ask(lambda: client.change("DELETE", f"/v1/peers/{quote(peer, safe='')}"))
    click.echo(f"{printable(removed['name'])}, {removed['id']}, is trusted no longer")


@cli.command()
@format_option
@click.pass_obj
def version(client: ControlClient, form: str) -> None:
    """Show the versions of the daemon and of what it works with."""
    try:
        versions = client.get("/v1/version")
    except ControlError as error:
        versions = {"streamhop": __version__, "daemon": f"not asked: {error.reason}"}
    if form == "json":
        click.echo(json.dumps(versions))
        return
    for name, text in versions.items():
        click.echo(f"{name:12} {printable(text)}")


cli.add_command(handover)


def main() -> None:
    """Entry point of the console script."""
    try:
        cli(prog_name="streamhop", standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
