"""``check``: could a container be moved to a peer? Everything that is in the way, and what to do about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .asking import PIPED_CHARACTERS_MAX, ask, complain, format_option
from .client import ControlClient
from .moving import split_new_name
from .render import printable, size
from .surroundings import surroundings_body, surroundings_options

_INDENT = 2
_LABELS = (("why", "why"), ("fix", "fix"), ("reference", "read"))
_LABEL_WIDTH = max(len(label) for _, label in _LABELS) + _INDENT
_STYLES = {"refuses": "bold red", "warns": "bold yellow"}


@click.command()
@click.argument("container")
@click.argument("peer", metavar="PEER[:NEWNAME]")
@surroundings_options
@format_option
@click.pass_obj
def check(
    client: ControlClient,
    container: str,
    peer: str,
    volumes: str | None,
    bind: str | None,
    bind_map: Sequence[tuple[str, str]],
    publish: Sequence[tuple[str, str]],
    form: str,
) -> None:
    """Say what would be in the way of moving CONTAINER to PEER, on both hosts and in its processes.

    Nothing is moved, stopped or begun. The exit code is 12 if something refuses, 0 if there is nothing but warnings.
    """
    peer, new_name = split_new_name(peer)
    if new_name == "":
        raise click.UsageError("the new name is missing after the colon: PEER:NEWNAME")
    body = {"container": container, "peer": peer, "new_name": new_name}
    body |= surroundings_body(volumes, bind, bind_map, publish)
    result = ask(lambda: client.change("POST", "/v1/checks", body))
    if form == "json":
        click.echo(json.dumps(result))
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            # What reads it may search for whole sentences.
            console.width = PIPED_CHARACTERS_MAX
        for line in check_lines(result):
            console.print(line)
    failure = result["target_failure"]
    if failure is not None:
        complain(
            f"{result['target']} has not said whether it could come: {failure['reason']}",
            failure["fix"],
            exit_code=result["exit_code"],
        )
    sys.exit(result["exit_code"])


def check_lines(result: dict[str, Any]) -> Iterator[Text | Table]:
    """The result for a person: findings that refuse, then those that warn, then what comes of it."""
    findings = sorted(result["findings"], key=lambda finding: finding["severity"] != "refuses")
    yield Text.assemble(
        (printable(result["container"]), "bold"),
        f" from {printable(result['source'])} to {printable(result['target'])}",
    )
    for finding in findings:
        yield Text()
        yield from _finding_lines(finding)
    yield Text()
    yield _verdict(result, findings)


def _finding_lines(finding: dict[str, Any]) -> Iterator[Text | Table]:
    severity = finding["severity"]
    yield Text.assemble(
        (printable(severity), _STYLES.get(severity, "bold")),
        (f"  {printable(finding['id'])}, {printable(finding['side'])} {printable(finding['host'])}", "dim"),
    )
    yield _indented("", printable(finding["what"]))
    for field, label in _LABELS:
        if finding[field]:
            yield _indented(f"{label:{_LABEL_WIDTH}}", printable(finding[field]))


def _indented(label: str, text: str) -> Table:
    """A line below a finding; where it is wrapped it goes on below itself, not below its label."""
    grid = Table.grid(padding=0)
    grid.add_column(width=_INDENT + len(label))
    grid.add_column(overflow="fold")
    grid.add_row(Text(" " * _INDENT + label, "bold"), Text(text))
    return grid


def _verdict(result: dict[str, Any], findings: Sequence[dict[str, Any]]) -> Text:
    refusing = sum(finding["severity"] == "refuses" for finding in findings)
    counts = f"{_count(refusing, 'refuses', 'refuse')}, {_count(len(findings) - refusing, 'warns', 'warn')}"
    if refusing:
        unasked = "" if result["target_asked"] else f"; {printable(result['target'])} was not asked"
        return Text.assemble(("It cannot be moved like this", _STYLES["refuses"]), f": {counts}{unasked}.")
    if result["target_failure"] is not None:
        return Text(f"Nothing here is in the way: {counts}.")
    lacking, memory = size(result["lacking_bytes"]), size(result["memory_bytes"])
    return Text.assemble(
        ("It can be moved", "bold green"),
        f": {counts}. {memory} of memory and {lacking} of its image would be sent.",
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
