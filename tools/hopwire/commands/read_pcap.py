"""``hopwire read-pcap``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import click

from hopwire.capture.pieces import Piece
from hopwire.capture.streams import CapturedStreams
from hopwire.capture.tshark import pieces_of
from hopwire.errors import WireError
from hopwire.escaping import printable
from hopwire.events import Seen
from hopwire.filtering import Filter
from hopwire.flow.records import About
from hopwire.flow.writer import FlowWriter
from hopwire.recorder import Recorder
from streamhop.config import DEFAULT_PORT

from .common import FilterParameter, expected_errors
from .dump import HEX_BYTES_MAX, print_events
from .writing import flow_file, remark

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("capture", metavar="FILE.pcap", type=_FILE)
@click.option("--keylog", type=_FILE, help="Secrets of TLS sessions: what `streamhop daemon --lab-keylog` writes.")
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Of the daemons.")
@click.option("-f", "--filter", "wanted", type=FilterParameter(), help='Frames to show: "type == DATA and size > 64k".')
@click.option("-v", "--verbose", is_flag=True, help="With the decoded header.")
@click.option("-x", "--hex", "show_hex", is_flag=True, help="With the payload in hexadecimal digits.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="JSON: one object a line.")
@click.option("--no-pager", is_flag=True, help="On a terminal, do not page.")
@click.option("-w", "--write", "file", type=click.Path(path_type=Path), help="Make a flow file, which must not exist.")
@click.option("--payload", is_flag=True, help="With payloads in it: memory, files, environments of containers.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing, only write.")
@expected_errors
def read_pcap(
    capture: Path,
    keylog: Path | None,
    port: int,
    wanted: Filter | None,
    verbose: bool,
    show_hex: bool,
    form: str,
    no_pager: bool,
    file: Path | None,
    payload: bool,
    quiet: bool,
) -> None:
    """Show what daemons said in a packet capture, one line a frame; tshark puts it together.

    A connection is read from its first byte on: begin to capture before the daemons connect. Over TLS it takes the
    secrets of the sessions, which a daemon writes only if it is asked to, in a lab.
    """
    hex_max = HEX_BYTES_MAX if show_hex else 0
    with ExitStack() as stack:
        pieces = stack.enter_context(pieces_of(capture, keylog, port))
        first = next(pieces, None)
        if first is None:
            raise WireError(f"{printable(capture)}: no connection of daemons is in it")
        writer = stack.enter_context(flow_file(file, About("pcap", first.at_ns, payload)))
        events = _events(chain([first], pieces), writer, port)
        if quiet:
            for _ in events:
                pass
        else:
            print_events(events, wanted, verbose=verbose, hex_max=hex_max, form=form, paged=not no_pager)


def _events(pieces: Iterator[Piece], writer: FlowWriter | None, port: int) -> Iterator[Seen]:
    told: list[Seen] = []
    streams = CapturedStreams(Recorder(writer, told.append), port)
    for piece in pieces:
        streams.take(piece)
        yield from told
        told.clear()
    streams.finish()
    for text in streams.remarks:
        remark(text)
