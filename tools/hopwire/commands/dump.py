"""``hopwire dump``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from hopwire.dumping.as_json import json_line
from hopwire.dumping.lines import HEADING, lines_of, plain
from hopwire.events import BrokenSeen, FrameSeen, Seen
from hopwire.filtering import Filter
from hopwire.filtering.fields import FIELDS
from hopwire.recordings import STANDARD_INPUT, open_recording, standard_output_is_terminal
from hopwire.roster import Roster

from .common import FilterParameter, colours, expected_errors, write_lines

HEX_BYTES_MAX = 4096

_FIELDS = "\n".join(f"  {name:<11} {field.about}" for name, field in FIELDS.items())


@click.command(
    epilog="\b\nFields of filters:\n"
    + _FIELDS
    + "\nOperators: == != < <= > >= ~ (begins so) in (a, b), and or not ( )."
)
@click.argument("file")
@click.option("-f", "--filter", "wanted", type=FilterParameter(), help='Frames to show: "type == DATA and size > 64k".')
@click.option("-v", "--verbose", is_flag=True, help="With the decoded header.")
@click.option(
    "-x", "--hex", "show_hex", is_flag=True, help="With the payload in hexadecimal digits, if it was recorded."
)
@click.option(
    "--hex-bytes",
    type=click.IntRange(1, 1 << 24),
    default=HEX_BYTES_MAX,
    show_default=True,
    help="Most of each payload.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="JSON: one object a line.")
@click.option("--follow", is_flag=True, help="Wait for more at the end of the file.")
@click.option("--no-pager", is_flag=True, help="On a terminal, do not page.")
@expected_errors
def dump(
    file: str,
    wanted: Filter | None,
    verbose: bool,
    show_hex: bool,
    hex_bytes: int,
    form: str,
    follow: bool,
    no_pager: bool,
) -> None:
    """Show FILE, a flow file or a daemon's trace, or - for standard input, one line a frame."""
    hex_max = hex_bytes if show_hex else 0
    with open_recording(file, follow=follow) as events:
        paged = not follow and not no_pager and file != STANDARD_INPUT
        print_events(events, wanted, verbose=verbose, hex_max=hex_max, form=form, paged=paged, at_once=follow)


def print_events(
    events: Iterator[Seen],
    wanted: Filter | None,
    *,
    verbose: bool = False,
    hex_max: int = 0,
    form: str = "text",
    paged: bool = False,
    at_once: bool = False,
) -> None:
    """Print what a recording tells.

    :param hex_max: bytes of each payload to show.
    :param paged: through a pager, on a terminal.
    :param at_once: each line when it is there.
    """
    on_terminal = standard_output_is_terminal()
    paint = colours if on_terminal else plain
    lines: Iterator[str]
    if form == "json":
        lines = (json_line(seen, roster, hex_bytes_max=hex_max) for seen, roster in chosen(events, wanted))
    else:
        lines = (
            line
            for seen, roster in chosen(events, wanted)
            for line in lines_of(seen, roster, verbose=verbose, hex_bytes_max=hex_max, paint=paint)
        )
    if on_terminal and form == "text":
        lines = _headed(lines)
        if paged:
            click.echo_via_pager(line + "\n" for line in lines)
            return
    write_lines(lines, flush=at_once or on_terminal)


def _headed(lines: Iterator[str]) -> Iterator[str]:
    yield click.style(HEADING, underline=True)
    yield from lines


def chosen(events: Iterator[Seen], wanted: Filter | None) -> Iterator[tuple[Seen, Roster]]:
    """The events that a filter lets pass, each with what is known by then.

    With a filter, of what is no frame only violations are left.
    """
    roster = Roster()
    for seen in events:
        if isinstance(seen, FrameSeen):
            roster.take(seen)
            if wanted is not None and not wanted.passes(seen, roster):
                continue
        elif wanted is not None and not isinstance(seen, BrokenSeen):
            continue
        yield seen, roster
