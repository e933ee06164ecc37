"""The result for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from .cells import Fault, Step
from .running import Row


def summary(rows: Sequence[Row]) -> Table:
    """A line a fault, a column a step: runs that held of runs whose fault hit there, and how they ended."""
    table = Table(title="held / runs, by the step that the fault hit")
    table.add_column("fault")
    for step in Step:
        table.add_column(f"{int(step)} {step.name.lower()}", justify="right")
    table.add_column("missed", justify="right")
    for fault in Fault:
        mine = [row for row in rows if row.fault == fault.value]
        if mine:
            steps: list[int | None] = [*map(int, Step), None]
            table.add_row(fault.value, *(_field([row for row in mine if row.step_hit == step]) for step in steps))
    return table


def _field(rows: Sequence[Row]) -> str:
    if not rows:
        return "-"
    ends = Counter(row.who_ran for row in rows)
    told = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    return f"{sum(row.holds for row in rows)} / {len(rows)}\n{told}"
