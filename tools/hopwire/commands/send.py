"""``hopwire send``."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path

import click

from hopwire.attack import scripts
from hopwire.attack.scripts import Step, check_steps, parse_json
from hopwire.attack.sending import Sending
from hopwire.errors import WireError
from streamhop.config import Address

from .addresses import AddressParameter
from .against import print_outcome, target_options, tls_of
from .common import expected_errors

_STEPS = "\n".join(str(scripts.__doc__).splitlines()[2:])


@click.command(epilog="\b\n" + _STEPS.replace("\n\n", "\n\n\b\n"))
@click.argument("target", type=AddressParameter())
@click.argument("script", type=click.Path(path_type=Path))
@target_options
@expected_errors
def send(
    target: Address, script: Path, identity: Path | None, peer_certificate: Path | None, linger: float, form: str
) -> None:
    """Send the daemon at TARGET the frames of SCRIPT, JSON or Python (.py), and tell what that did."""
    steps = _steps(script)
    outcome = asyncio.run(Sending(target, tls_of(identity, peer_certificate), linger).run(steps))
    print_outcome(outcome, form)


def _steps(path: Path) -> list[Step]:
    if path.suffix == ".py":
        return _of_python(path)
    try:
        with path.open("rb") as file:
            return parse_json(file.read(scripts.SCRIPT_BYTES_MAX + 1))
    except OSError as error:
        raise WireError(f"{path}: {error.strerror}") from error
    except WireError as error:
        raise WireError(f"{path}: {error}") from error


def _of_python(path: Path) -> list[Step]:
    """The user's own program: it is run as it is, and its errors are its own."""
    if not path.is_file():
        raise WireError(f"{path}: No such file or directory")
    steps = runpy.run_path(str(path)).get("steps")
    if not callable(steps):
        raise WireError(f"{path}: it has no function `steps`")
    try:
        return check_steps(list(steps()))
    except WireError as error:
        raise WireError(f"{path}: {error}") from error
