"""The daemon, with a note taken of every page that pre-copy sends. Runs in the source host.

The note (*shadow*) is a sparse file for each memory object, a page at its own index, on the host's ``/run``: a copy of
what was last sent of each page. It is written by the threads that read memory, before the freeze; the dump and what
is sent of it while frozen are not touched. The daemon is otherwise what it always is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from streamhop.cli import main as streamhop
from streamhop.content.memory.batching import PageBatch
from streamhop.content.memory.source import MemorySource, ProcessLike
from streamhop_protocol.page_batches import XOR, ZERO, decode_meta

SHADOW = Path("/run/hopbench/shadow")


class Shadow:
    """What was last sent of each page.

    :param directory: made if need be.
    :param page_bytes: bytes of a page.
    """

    def __init__(self, directory: Path, page_bytes: int) -> None:
        self._directory = directory
        self._page_bytes = page_bytes
        self._files: dict[str, int] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def note(self, batch: PageBatch) -> None:
        """Write down one batch.

        :raises OSError: no room.
        """
        described = decode_meta(batch.meta, len(batch.data), self._page_bytes)
        descriptor = self._files.get(described.object_name)
        if descriptor is None:
            path = self._directory / described.object_name
            descriptor = self._files[described.object_name] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        rest = memoryview(batch.data)
        for run in described.runs:
            size = run.pages * self._page_bytes
            offset = run.first * self._page_bytes
            content = memoryview(bytes(size))
            if run.kind != ZERO:
                content, rest = rest[:size], rest[size:]
            if run.kind == XOR:
                before = np.frombuffer(os.pread(descriptor, size, offset), dtype=np.uint8)
                content = (before ^ np.frombuffer(content, dtype=np.uint8)).data
            os.pwrite(descriptor, content, offset)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])


class ObservedSource(MemorySource):
    """A source whose rounds are noted."""

    def round(self, processes: Sequence[ProcessLike]) -> Iterator[PageBatch]:
        """As the source's own."""
        shadow = Shadow(SHADOW, self._page_size)
        try:
            for batch in super().round(processes):
                shadow.note(batch)
                yield batch
        finally:
            shadow.close()


def main() -> None:
    """Entry of the program: ``streamhop`` with that source."""
    from streamhop.handover import sending

    if sending.MemorySource is not MemorySource:  # type: ignore[attr-defined]
        raise AssertionError("the rounds are made elsewhere by now: this program must follow")
    sending.MemorySource = ObservedSource  # type: ignore[attr-defined]
    streamhop()


if __name__ == "__main__":
    main()
