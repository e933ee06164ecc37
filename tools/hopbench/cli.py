"""The command ``hopbench``: run scenarios, write what they show, and make it readable."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from hoplab import LabError

from .bench import Bench, lab_name
from .figures import Row, RowsError, decode_rows, encode_rows
from .judging import Verdict, encode_verdicts, judge
from .report import chart_of_gaps, html, markdown
from .scenarios import PEERS, SCENARIOS, ChoiceError, Run, plan

BUILD = Path("build")
ROWS, VERDICTS = "bench-rows.json", "bench.json"
TABLE, PAGE, CHART = "bench.md", "bench.html", "bench.svg"

console = Console(stderr=True)


def say(text: str) -> None:
    """Tell the viewer how far it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@click.group()
def main() -> None:
    """Measure moves of real containers on the lab, beside what one could use instead."""


@main.command("list")
def list_scenarios() -> None:
    """What can be run."""
    for scenario in SCENARIOS:
        links = "; ".join(map(str, scenario.links))
        click.echo(f"{scenario.name}: {links}" + (f" (rivals: {', '.join(scenario.peers)})" if scenario.peers else ""))


@main.command("run")
@click.argument("scenarios", nargs=-1)
@click.option("--peers", default="", help=f"Rivals, with commas: {', '.join(PEERS)}; or all.")
@click.option("--repeat", type=click.IntRange(1, 100), default=1, show_default=True, help="How often each.")
@click.option("--quick", is_flag=True, help="A telling part of it, in about ten minutes.")
@click.option("--lab", default=None, help="Name of the lab that is made. [default: hb- and the process's number]")
@click.option("--build", type=click.Path(path_type=Path, file_okay=False), default=BUILD, show_default=True)
def run_command(
    scenarios: tuple[str, ...], peers: str, repeat: int, lab: str | None, build: Path, *, quick: bool
) -> None:
    """Run SCENARIOS (all by default) and judge what they show; exits with 1 if something does not hold."""
    wanted = PEERS if peers == "all" else tuple(filter(None, peers.split(",")))
    try:
        runs = plan(scenarios, wanted, repeat, quick=quick)
    except ChoiceError as error:
        raise click.UsageError(str(error)) from error
    if not runs:
        raise click.UsageError("none of these is part of --quick")
    try:
        rows, machine = carry_out(runs, lab or lab_name(), build)
    except LabError as error:
        say(f"hopbench: {error}")
        sys.exit(1)
    verdicts = write_results(rows, machine, build)
    for verdict in verdicts:
        click.echo(verdict.line())
    failed = [row for row in rows if row.failed]
    for row in failed:
        click.echo(f"FAIL  {row.scenario} at {row.link} by {row.who}: {' '.join(str(row.failed).split())}")
    say(f"{build / VERDICTS}, {build / ROWS}, {build / TABLE}, {build / PAGE}")
    sys.exit(0 if not failed and all(verdict.holds for verdict in verdicts) else 1)


@main.command("report")
@click.option("--build", type=click.Path(path_type=Path, file_okay=False), default=BUILD, show_default=True)
def report_command(build: Path) -> None:
    """Judge the rows of the last run again; write the table and the page."""
    try:
        rows, machine = decode_rows((build / ROWS).read_text())
    except (OSError, RowsError) as error:
        raise click.ClickException(f"{build / ROWS}: {error}; `hopbench run` makes it") from error
    write_results(rows, machine, build)
    click.echo(f"{build / TABLE}, {build / PAGE}")


def carry_out(runs: list[Run], lab: str, build: Path) -> tuple[list[Row], dict[str, str]]:
    """Run all; the rows are on disk after each run.

    :raises LabError: the lab cannot be made or shaped.
    """
    rows: list[Row] = []
    build.mkdir(parents=True, exist_ok=True)
    with Bench(lab, runs, say) as bench:
        machine = bench.machine()
        for number, run in enumerate(runs, 1):
            began = time.monotonic()
            new = bench.run(run)
            rows += new
            (build / ROWS).write_text(encode_rows(rows, machine))
            say(f"{number}/{len(runs)} {run}: {'; '.join(map(brief, new))} ({time.monotonic() - began:.0f} s)")
    return rows, machine


def brief(row: Row) -> str:
    """A row in a few words."""
    if row.failed:
        return f"failed: {' '.join(row.failed.split())[:300]}"
    if row.bytes_per_s is not None:
        return f"{row.who} {row.bytes_per_s / 1e6:.0f} MB/s"
    sent = f"{(row.wire_bytes or 0) / 1e6:.1f} MB"
    return f"gap {row.gap_s:.3f} s, total {row.total_s:.1f} s, {sent}" + (f", {row.lost} lost" if row.lost else "")


def write_results(rows: list[Row], machine: dict[str, str], build: Path) -> list[Verdict]:
    """Judge, and write everything that is made from rows."""
    verdicts = judge(rows)
    (build / VERDICTS).write_text(json.dumps(encode_verdicts(verdicts), indent=1) + "\n")
    (build / TABLE).write_text(markdown(rows, verdicts, machine))
    (build / PAGE).write_text(html(rows, verdicts, machine))
    if chart := chart_of_gaps(rows):
        (build / CHART).write_text(chart)
    return verdicts


if __name__ == "__main__":
    main()
