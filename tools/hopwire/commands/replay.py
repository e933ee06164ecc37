"""``hopwire replay``."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import click

from hopwire.attack.faults import Culprit, Fault
from hopwire.attack.outcomes import Outcome
from hopwire.attack.replaying import Manner, Player
from hopwire.attack.surveying import Survey, frames_of, survey
from hopwire.errors import WireError
from hopwire.filtering import Filter, compile_filter
from hopwire.recordings import open_recording
from streamhop.config import Address

from .addresses import AddressParameter
from .against import print_outcome, target_options, tls_of
from .common import FilterParameter, expected_errors

_FAULTS = [fault.value for fault in Fault]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.argument("target", type=AddressParameter())
@click.option("--fault", type=click.Choice(_FAULTS), default="none", help="What to do to one frame.")
@click.option("--at", "wanted", type=FilterParameter(), help="Which frame, as in dump. [default: type == DATA]")
@click.option("--nth", type=click.IntRange(1), default=1, help="Which of those that --at chooses.")
@click.option("--delay", type=click.FloatRange(0, 3600), default=3.0, help="Seconds, for --fault delay.")
@click.option("--bit", type=click.IntRange(0), help="Bit to flip, from 0. [default: in the middle of the payload]")
@click.option("--session", type=click.IntRange(1), default=1, help="Which session of the recording.")
@click.option("--patience", type=click.FloatRange(0, 3600), default=10.0, help="Seconds to wait for each answer.")
@click.option("--keep-move", is_flag=True, help="Keep the IDs of moves; else each gets a new one.")
@target_options
@expected_errors
def replay(
    file: str,
    target: Address,
    fault: str,
    wanted: Filter | None,
    nth: int,
    delay: float,
    bit: int | None,
    session: int,
    patience: float,
    keep_move: bool,
    identity: Path | None,
    peer_certificate: Path | None,
    linger: float,
    form: str,
) -> None:
    """Play the dialer's side of FILE to the daemon at TARGET, with a fault, and tell what that did.

    FILE must have been recorded with --payload. Tokens, and IDs of moves, are replaced by new ones. Do this in a lab.
    """
    kind = Fault(fault)
    tls = tls_of(identity, peer_certificate)
    if kind is not Fault.NONE and wanted is None:
        wanted = compile_filter("type == DATA")
    with open_recording(file) as events:
        found = survey(events, session, None if kind is Fault.NONE else wanted, nth)
    culprit = Culprit(kind, delay_s=delay, bit=bit)
    manner = Manner(patience, linger, keep_move)
    try:
        outcome = asyncio.run(_play(file, target, tls, found, culprit, manner, session))
    except ValueError as error:
        raise WireError(str(error)) from error
    if kind is not Fault.NONE:
        outcome.did = f"{fault}, {found.shown}"
    print_outcome(outcome, form)


async def _play(
    file: str,
    target: Address,
    tls: ssl.SSLContext | None,
    found: Survey,
    culprit: Culprit,
    manner: Manner,
    session: int,
) -> Outcome:
    with open_recording(file) as events:
        return await Player(target, tls, found, culprit, manner).play(frames_of(events, session))
