"""How a move looks: progress bars on a terminal, plain lines elsewhere, a table at the end.

Progress and remarks go to standard error, results to standard output.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text


def printable(text: object) -> str:
    """``text`` without control characters: names and reasons may come from a peer or an image."""
    return "".join(c if not unicodedata.category(c).startswith("C") else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def size(count: float) -> str:
    """Bytes in the decimal unit that reads best."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


class Progressive(Protocol):
    """Shows a move while it runs."""

    def event(self, event: dict[str, Any]) -> None:
        """Take one event of the move."""

    def close(self) -> None:
        """The move ended."""


class PlainProgress:
    """One line for each phase and each finished stream."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def event(self, event: dict[str, Any]) -> None:
        """Print what a person following a log would want to see."""
        at, kind = f"{event['at_s']:8.2f}s ", event["event"]
        match kind:
            case "phase":
                line = f"{event['phase']}"
            case "stream_finished":
                line = f"sent {event['stream']}: {size(event['raw_bytes'])} as {size(event['wire_bytes'])}"
            case "round":
                line = (
                    f"round {event['number']}: {event['pages']} pages, {size(event['wire_bytes'])} in "
                    f"{event['seconds']:.2f} s; predicted downtime {event['predicted_downtime_s']:.2f} s: "
                    f"{event['reason']}"
                )
            case "remark":
                line = event["text"]
            case _:
                return
        self._console.print(Text(at + printable(line)), soft_wrap=True)

    def close(self) -> None:
        """Nothing to take down."""


class BarProgress:
    """A bar for each stream, with bytes, rate, round and predicted downtime."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("{task.fields[remark]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(printable(name), total=None, remark="")
        return self._tasks[name]

    def event(self, event: dict[str, Any]) -> None:
        """Move the bars."""
        match event["event"]:
            case "progress":
                self._bars.update(
                    self._task(event["stream"]), completed=event["raw_bytes"], total=event.get("total_bytes")
                )
            case "stream_finished":
                done = event["raw_bytes"]
                self._bars.update(
                    self._task(event["stream"]), completed=done, total=done, remark=f"{size(event['wire_bytes'])} sent"
                )
            case "round":
                remark = f"round {event['number']}, predicted downtime {event['predicted_downtime_s']:.2f} s"
                self._bars.update(self._task("memory"), remark=remark)
            case "phase":
                self._bars.console.print(Text(f"{event['at_s']:8.2f}s {printable(event['phase'])}"))
            case "remark":
                self._bars.console.print(Text(printable(event["text"])))

    def close(self) -> None:
        """Take the bars down, leaving their last state."""
        self._bars.stop()


def report_table(report: dict[str, Any]) -> Table:
    """The finished move in a short table."""
    sent = report["bytes"]
    table = Table(
        title=f"{printable(report['container'])}: {printable(report['source'])} -> {printable(report['target'])}"
    )
    table.add_column("what")
    table.add_column("figure", justify="right")
    rows = [
        ("downtime", f"{report['downtime_s']:.3f} s"),
        ("total", f"{report['total_s']:.2f} s"),
        ("rounds of pre-copy", str(len(report["rounds"]))),
        ("image layers sent / already there", f"{report['layers_sent']} / {report['layers_reused']}"),
        ("layers on the wire", size(sent["layers"])),
        ("writable layer on the wire", size(sent["writable_layer"])),
        ("memory on the wire before the freeze", size(sent["memory_precopy"])),
        ("memory on the wire while frozen", size(sent["memory_final"])),
        ("all on the wire", size(sent["wire"])),
    ]
    for what, figure in rows:
        table.add_row(what, figure)
    return table
