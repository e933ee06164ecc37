"""Keeps the pages of a final dump that the daemon removes once it is done with them. Runs in the source host.

A hard link to each file of the dump as it appears: nothing is copied, so the freeze takes no longer. It says ``ready``
and ends when its standard input does.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from pathlib import Path

DUMPS = Path("/run/streamhop/dumps")
KEPT = Path("/run/hopbench/dump")
LOOK_EVERY_S = 0.02
"""A dump is there for as long as it takes to send what changed and to restore it: ten times this at the least."""


def keep_once(dumps: Path, kept: Path) -> None:
    """Link what of the dumps has not been linked yet."""
    for path in dumps.glob("*/image/page*-*.img"):
        with suppress(FileNotFoundError, FileExistsError):
            os.link(path, kept / path.name)


def main() -> None:
    """Entry of the program."""
    KEPT.mkdir(parents=True, exist_ok=True)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
        keep_once(DUMPS, KEPT)


if __name__ == "__main__":
    main()
