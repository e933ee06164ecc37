"""How a move looks: progress bars on a terminal, plain lines elsewhere, a table at the end.

Progress and remarks go to standard error, results to standard output.
"""

from __future__ import annotations

import threading
import unicodedata
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
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


SILENCE_S_MAX = 5.0
"""After that many seconds without a line, one says how far the transfer is."""


class Progressive(Protocol):
    """Shows a move while it runs."""

    def event(self, event: dict[str, Any]) -> None:
        """Take one event of the move."""

    def note(self, text: str) -> None:
        """Show a remark of the client's own."""

    def close(self) -> None:
        """The move ended."""


class PlainProgress:
    """One line for each phase, round and finished stream."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told_at = 0.0

    def event(self, event: dict[str, Any]) -> None:
        """Print what a person following a log would want to see."""
        match event["event"]:
            case "phase":
                line = event["phase"]
            case "stream_finished":
                line = f"sent {event['stream']}: {size(event['wire_bytes'])} for {size(event['raw_bytes'])}"
            case "round":
                line = (
                    f"round {event['number']}: {event['pages']} pages, {size(event['wire_bytes'])} in "
                    f"{event['seconds']:.2f} s; predicted downtime {event['predicted_downtime_s']:.2f} s: "
                    f"{event['reason']}"
                )
            case "throttle" if event["percent"]:
                line = f"the container does without {event['percent']} % of its CPU"
            case "throttle":
                line = "the container has its CPU back"
            case "remark":
                line = event["text"]
            case "progress" if event["at_s"] >= self._told_at + SILENCE_S_MAX:
                total = f" of about {size(event['total_bytes'])}" if event.get("total_bytes") else ""
                line = f"sending {event['stream']}: {size(event['raw_bytes'])}{total}"
            case _:
                return
        self._told_at = event["at_s"]
        self._print(f"{event['at_s']:8.2f}s {printable(line)}")

    def note(self, text: str) -> None:
        """Print it, without a time. A signal handler may call this: it can have cut into a line being printed.

        The other thread waits for its turn; here, Python would refuse to write into the middle of a write.
        """
        threading.Thread(target=self._print, args=(" " * 10 + text,)).start()

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def close(self) -> None:
        """Nothing to take down."""


class BarProgress:
    """The same lines, and below them a bar for each stream that is under way."""

    def __init__(self, console: Console) -> None:
        self._lines = PlainProgress(console)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            DownloadColumn(),
            _RateColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def event(self, event: dict[str, Any]) -> None:
        """Move the bars."""
        match event["event"]:
            case "progress":
                name, total = event["stream"], event.get("total_bytes")
                if name not in self._tasks:
                    self._tasks[name] = self._bars.add_task(printable(name), total=total)
                # What was counted beforehand is an estimate: the memory may have grown since.
                total = None if total is None else max(total, event["raw_bytes"])
                self._bars.update(self._tasks[name], completed=event["raw_bytes"], total=total)
                return
            case "stream_finished" if event["stream"] in self._tasks:
                self._bars.remove_task(self._tasks.pop(event["stream"]))
        self._lines.event(event)

    def note(self, text: str) -> None:
        """Print it above the bars."""
        self._lines.note(text)

    def close(self) -> None:
        """Take the bars down."""
        self._bars.stop()


class _RateColumn(ProgressColumn):
    """Bytes a second, once there is a rate."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{size(speed)}/s" if speed else "")


def report_table(report: dict[str, Any]) -> Table:
    """The finished move in a short table."""
    table = Table(
        title=f"{printable(report['source'])}:{printable(report['container'])} -> "
        f"{printable(report['target'])}:{printable(report['container_at_target'])}"
    )
    if report["bytes"] is None:
        table.add_column("moved; its daemon ended meanwhile, and the figures with it")
        return table
    sent = report["bytes"]
    table.add_column("what")
    table.add_column("figure", justify="right")
    rows = [
        ("downtime (predicted)", f"{_seconds(report['downtime_s'])} ({_seconds(report['predicted_downtime_s'])})"),
        ("total", f"{report['total_s']:.2f} s"),
        ("rounds of pre-copy", str(len(report["rounds"]))),
        ("image layers sent / already there", f"{report['layers_sent']} / {report['layers_reused']}"),
        ("layers on the wire", size(sent["layers"])),
        ("writable layer on the wire", size(sent["writable_layer"])),
        ("memory on the wire before the freeze", size(sent["memory_precopy"])),
        ("memory on the wire while frozen", size(sent["memory_final"])),
        ("all on the wire", size(sent["wire"])),
    ]
    if report["throttle_percent_max"]:
        figure = f"{report['throttle_percent_max']} % for {report['throttled_s']:.1f} s"
        rows.insert(3, ("CPU that it did without, at most", figure))
    for what, figure in rows:
        table.add_row(what, figure)
    return table


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f} s"
