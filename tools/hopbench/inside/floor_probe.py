"""Compares the kept final dump with what was last sent of each page; prints a :class:`hopbench.figures.Floor` as JSON.

Runs in the source host after the move, on what :mod:`.observed_daemon` and :mod:`.dump_keeper` have left.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from hopbench.floor import ZstdSize, changed_pages
from streamhop.content.memory.criu_pagemap import entries, pages_file_id

from .dump_keeper import KEPT
from .observed_daemon import SHADOW

CHUNK_PAGES = 1024


def measure(kept: Path, shadow: Path, page_bytes: int) -> dict[str, int]:
    """What changed since it was last sent.

    :raises OSError: a part of the dump is missing.
    :raises MalformedError: it is not what CRIU writes.
    """
    size = ZstdSize()
    pagemaps = sorted(kept.glob("pagemap-*.img"))
    if not pagemaps:
        raise FileNotFoundError(f"no dump was kept in {kept}")
    for pagemap in pagemaps:
        content = pagemap.read_bytes()
        sent = shadow / pagemap.stem
        with (
            (kept / f"pages-{pages_file_id(content)}.img").open("rb") as pages,
            (sent if sent.exists() else Path(os.devnull)).open("rb") as before,
        ):
            for run in entries(content, page_bytes):
                for first in range(run.first, run.first + run.pages, CHUNK_PAGES):
                    wanted = min(CHUNK_PAGES, run.first + run.pages - first) * page_bytes
                    now = pages.read(wanted)
                    if len(now) < wanted:
                        raise FileNotFoundError(f"the kept dump ends early: {pagemap.name}")
                    then = os.pread(before.fileno(), wanted, first * page_bytes)
                    then += bytes(wanted - len(then))
                    size.add(changed_pages(memoryview(now), memoryview(then), page_bytes))
    return {"changed_pages": size.pages, "zstd_bytes": size.finish()}


def main() -> None:
    """Entry of the program."""
    sys.stdout.write(json.dumps(measure(KEPT, SHADOW, os.sysconf("SC_PAGE_SIZE"))) + "\n")


if __name__ == "__main__":
    main()
