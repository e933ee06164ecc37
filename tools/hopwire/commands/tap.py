"""``hopwire tap``."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from hopwire.dumping.lines import HEADING, lines_of, plain
from hopwire.events import BrokenSeen, FrameSeen, Seen
from hopwire.filtering import Filter
from hopwire.filtering.fields import Kind, read_value
from hopwire.flow.records import About
from hopwire.flow.writer import FILE_BYTES_MAX
from hopwire.recorder import Recorder
from hopwire.recordings import standard_output_is_terminal
from hopwire.roster import Roster
from hopwire.tapping.identities import Contexts, contexts
from hopwire.tapping.relay import Tap
from streamhop.config import Address

from .addresses import AddressParameter
from .common import FilterParameter, colours, discard_output, expected_errors
from .writing import flow_file, remark

FILE_BYTES_MIN = 64 * 1024


def _size(_context: click.Context, parameter: click.Parameter, value: str) -> int:
    try:
        size = int(read_value(Kind.NUMBER, value))
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None
    if size < FILE_BYTES_MIN:
        raise click.BadParameter(f"at least {FILE_BYTES_MIN} bytes", param=parameter)
    return size


_DIRECTORY = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command()
@click.argument("listen", type=AddressParameter())
@click.argument("upstream", type=AddressParameter())
@click.option(
    "-w", "--write", "file", type=click.Path(path_type=Path), help="Record into this file, which must not exist."
)
@click.option("--payload", is_flag=True, help="Record payloads, too: memory, files, environments of containers.")
@click.option("--max-size", default=str(FILE_BYTES_MAX), callback=_size, help="Bound of the file. [default: 1Gi]")
@click.option("--dialer-identity", type=_DIRECTORY, help="`identity` of the daemon that dials: the link is TLS.")
@click.option("--acceptor-identity", type=_DIRECTORY, help="`identity` of the daemon that is dialed.")
@click.option("-f", "--filter", "wanted", type=FilterParameter(), help="Frames to show; all are recorded.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing, only record.")
@expected_errors
def tap(
    listen: Address,
    upstream: Address,
    file: Path | None,
    payload: bool,
    max_size: int,
    dialer_identity: Path | None,
    acceptor_identity: Path | None,
    wanted: Filter | None,
    quiet: bool,
) -> None:
    """Relay between a daemon that dials LISTEN and one that listens on UPSTREAM; show what they say.

    Over TLS the tap needs the keys of both daemons: it is each of them to the other. That is for a lab.
    """
    if (dialer_identity is None) != (acceptor_identity is None):
        raise click.UsageError("TLS takes both --dialer-identity and --acceptor-identity")
    tls = contexts(dialer_identity, acceptor_identity) if dialer_identity and acceptor_identity else None
    with flow_file(file, About("tap", time.time_ns(), payload), max_size) as writer:
        asyncio.run(_run(listen, upstream, Recorder(writer, _teller(wanted, quiet=quiet)), tls))


def _teller(wanted: Filter | None, *, quiet: bool) -> Callable[[Seen], None]:
    """Shows everything as it happens."""
    roster = Roster()
    on_terminal = standard_output_is_terminal()
    paint = colours if on_terminal else plain
    if on_terminal and not quiet:
        click.echo(click.style(HEADING, underline=True))

    def tell(seen: Seen) -> None:
        nonlocal quiet
        if quiet:
            return
        if isinstance(seen, FrameSeen):
            roster.take(seen)
            if wanted is not None and not wanted.passes(seen, roster):
                return
        elif wanted is not None and not isinstance(seen, BrokenSeen):
            return
        try:
            for line in lines_of(seen, roster, paint=paint):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            quiet = True  # whoever read along is gone; the daemons are not
            discard_output()

    return tell


async def _run(listen: Address, upstream: Address, recorder: Recorder, tls: Contexts | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Tap(listen, upstream, recorder, contexts=tls, remark=remark) as running:
        remark(f"listening on {Address(listen.host, running.port)}, relaying to {upstream}")
        await stop.wait()
