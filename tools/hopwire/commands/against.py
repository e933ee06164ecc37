"""What the commands that speak to a daemon share."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import click

from hopwire.attack.outcomes import Outcome, outcome_json, outcome_lines
from hopwire.tapping.identities import dialing_context

P = ParamSpec("P")

_DIRECTORY = click.Path(path_type=Path, file_okay=False, exists=True)


def target_options(function: Callable[P, None]) -> Callable[P, None]:
    """How the daemon is spoken to, and how it is told what it did."""
    for option in (
        click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print it."),
        click.option("--linger", type=click.FloatRange(0, 3600), default=3.0, help="Seconds to listen after the end."),
        click.option("--peer-certificate", type=click.Path(path_type=Path), help="Certificate of the daemon, PEM."),
        click.option("--identity", type=_DIRECTORY, help="`identity` of a daemon that it is paired with: use TLS."),
    ):
        function = option(function)
    return function


def tls_of(identity: Path | None, peer_certificate: Path | None) -> ssl.SSLContext | None:
    """The context to dial with; None for the clear.

    :raises WireError: the files cannot be used.
    """
    if (identity is None) != (peer_certificate is None):
        raise click.UsageError("TLS takes both --identity and --peer-certificate")
    return None if identity is None or peer_certificate is None else dialing_context(identity, peer_certificate)


def print_outcome(outcome: Outcome, form: str) -> None:
    """Tell what the daemon did."""
    if form == "json":
        click.echo(json.dumps(outcome_json(outcome)))
        return
    for line in outcome_lines(outcome):
        click.echo(line)
