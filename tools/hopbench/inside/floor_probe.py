"""Compares the dump with what was last sent of each page; prints a :class:`hopbench.figures.Floor` as JSON.

Runs in the source host after the move, on what :mod:`.observed_daemon` has left. Only the pages that the daemon sent
while frozen are looked at: the digest over the whole image, by which the target started, says that the others are what
it held.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import msgpack

from hopbench.floor import ZstdSize, changed_pages
from streamhop_protocol.page_batches import decode_meta

from .observed_daemon import FINAL, SHADOW, content_of


def measure(final: Path, shadow: Path, page_bytes: int) -> dict[str, int]:
    """What changed since it was last sent.

    :raises OSError: what was sent while frozen was not kept.
    :raises MalformedError: it is not what a daemon sends.
    """
    size = ZstdSize()
    with final.open("rb") as kept:
        for meta, data in msgpack.Unpacker(kept, max_buffer_size=0):
            described = decode_meta(meta, len(data), page_bytes)
            rest = memoryview(data)
            with (
                _sent(shadow, described.object_name).open("rb") as before,
                _sent(shadow, described.like_object or described.object_name).open("rb") as like,
            ):
                for run in described.runs:
                    now, rest = content_of(run, rest, before.fileno(), like.fileno(), page_bytes)
                    then = os.pread(before.fileno(), len(now), run.first * page_bytes)
                    then += bytes(len(now) - len(then))
                    size.add(changed_pages(now, memoryview(then), page_bytes))
    return {"changed_pages": size.pages, "zstd_bytes": size.finish()}


def _sent(shadow: Path, object_name: str) -> Path:
    path = shadow / object_name
    return path if path.exists() else Path(os.devnull)


def main() -> None:
    """Entry of the program."""
    sys.stdout.write(json.dumps(measure(FINAL, SHADOW, os.sysconf("SC_PAGE_SIZE"))) + "\n")


if __name__ == "__main__":
    main()
