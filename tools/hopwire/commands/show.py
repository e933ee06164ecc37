"""``hopwire show``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from hopwire.dumping.lines import plain
from hopwire.errors import FlowTruncatedError, WireError
from hopwire.recordings import open_recording, standard_output_is_terminal
from hopwire.summary.analysis import Analysis
from hopwire.summary.as_json import as_json
from hopwire.summary.as_text import text_lines
from hopwire.summary.page import html_page

from .common import colours, expected_errors, write_lines


@click.command()
@click.argument("file")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the timeline.")
@expected_errors
def show(file: str, form: str, page: Path | None) -> None:
    """Sum up FILE, a flow file or a daemon's trace, or - for standard input: sessions, streams, rounds, violations.

    A file that was cut off is summed up as far as it goes; the exit code is 1 then.
    """
    analysis, cut = Analysis(), None
    with open_recording(file) as events:
        try:
            for seen in events:
                analysis.take(seen)
        except FlowTruncatedError as error:
            cut = error
    analysis.finish()
    if page is not None:
        _write(page, html_page(analysis, file))
    elif form == "json":
        click.echo(json.dumps(as_json(analysis)))
    else:
        paint = colours if standard_output_is_terminal() else plain
        write_lines(text_lines(analysis, paint), flush=False)
    if cut is not None:
        raise cut
    sys.stdout.flush()


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WireError(f"{path}: {error.strerror}") from error
