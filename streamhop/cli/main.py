"""Commands and options of ``streamhop``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from streamhop import __version__
from streamhop.config import Config

from . import exit_codes
from .asking import ask, format_option, list_rows
from .checking import check
from .client import ControlClient, ControlError
from .durations import Duration
from .forwarding import forward, forwards
from .handover import handover
from .kept import kept
from .moving import attach, cancel, migrate, moves, wait
from .render import printable
from .staging import stage, staged, unstage


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
@click.option(
    "--control-socket", metavar="PATH", help="Unix socket of the control API. [default: /run/streamhop/control.sock]"
)
@click.option("--state-dir", metavar="PATH", help="Journal and spool. [default: /var/lib/streamhop]")
@click.option(
    "--run-dir", metavar="PATH", help="Final dumps and restores under way; a tmpfs. [default: /run/streamhop]"
)
@click.option("--lab-keylog", metavar="FILE", help="Add all sessions' secrets to FILE. Never outside a lab.")
@click.option("--trace", metavar="PATH", help="Write every frame and decision there; `hopwire` reads it.")
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
@format_option
@click.pass_obj
def ps(client: ControlClient, form: str) -> None:
    """List the running containers of this host."""
    list_rows(client, "/v1/containers", form, ["name", "image", "status", "memory"])


@cli.command()
@format_option
@click.pass_obj
def peers(client: ControlClient, form: str) -> None:
    """List the known peers and whether they answer."""
    rows = list_rows(client, "/v1/peers", form, ["name", "address", "status", "rtt_ms"])
    if not rows:
        click.echo("no peers yet: `streamhop pair` here, then `streamhop pair TOKEN` on the other host", err=True)


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
        _warn(made)
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
    _warn(peer)
    click.echo(json.dumps(peer) if form == "json" else f"paired with {printable(peer['name'])}, {peer['id']}")


def _warn(answer: dict[str, Any]) -> None:
    """Pass on what the daemon warns of, if anything; a daemon of an earlier version warns of nothing."""
    if warning := answer.get("warning"):
        click.echo(f"warning: {printable(warning)}", err=True)


@cli.command()
@click.argument("peer")
@click.argument("name")
@format_option
@click.pass_obj
def rename(client: ControlClient, peer: str, name: str, form: str) -> None:
    """Call a paired PEER, a name or the beginning of an ID, NAME on this host."""
    renamed = ask(lambda: client.change("PATCH", f"/v1/peers/{quote(peer, safe='')}", {"name": name}))
    text = f"{renamed['id']} is called {printable(renamed['name'])} now"
    click.echo(json.dumps(renamed) if form == "json" else text)


@cli.command()
@click.argument("peer")
@format_option
@click.pass_obj
def unpair(client: ControlClient, peer: str, form: str) -> None:
    """Trust PEER no longer; its connections end at once."""
    removed = ask(lambda: client.change("DELETE", f"/v1/peers/{quote(peer, safe='')}"))
    text = f"{printable(removed['name'])}, {removed['id']}, is trusted no longer"
    click.echo(json.dumps(removed) if form == "json" else text)


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


for command in (
    check,
    migrate,
    moves,
    wait,
    attach,
    cancel,
    stage,
    staged,
    unstage,
    handover,
    kept,
    forwards,
    forward,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    try:
        cli(prog_name="streamhop", standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(exit_codes.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
