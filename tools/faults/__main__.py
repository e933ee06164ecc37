"""``make lab-faults``: the failure matrix on real hosts; writes ``build/faults.json``, prints a table.

Environment: ``REPEAT`` runs of each cell (5), ``CELLS`` (``source-host``, ``link-both:3``, ``:4``; all), ``SEED`` (0),
``JOBS`` labs at a time (2). Exits with 1 if a promise was broken, or a cell could not be hit often enough.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

from .campaign import Campaign
from .cells import choose_cells
from .tables import summary

RESULT = Path(__file__).resolve().parents[2] / "build" / "faults.json"


def main() -> int:
    """Run what the environment asks for; the exit code."""
    console = Console()
    try:
        cells = choose_cells(os.environ.get("CELLS", ""))
        repeat = int(os.environ.get("REPEAT") or 5)
        seed = int(os.environ.get("SEED") or 0)
        jobs = int(os.environ.get("JOBS") or 2)
    except ValueError as error:
        console.print(f"faults: {error}", style="red", markup=False)
        return 2
    campaign = Campaign(cells, repeat, seed, RESULT)
    campaign.run(jobs)
    console.print(summary(campaign.rows))
    missed = campaign.missed()
    for cell in missed:
        console.print(f"{cell} was not hit {repeat} times", style="red", markup=False)
    failed = sum(not row.holds for row in campaign.rows)
    console.print(f"{len(campaign.rows) - failed} passed, {failed} failed", highlight=False)
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
