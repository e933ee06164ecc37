"""The daemon, with a note taken of every page that pre-copy sends. Runs in the source host.

The note (*shadow*) is a sparse file for each memory object, a page at its own index, on the host's ``/run``: a copy of
what was last sent of each page. It is written by the threads that read memory, before the freeze. What differs in the
dump is kept as it is sent, and written to :data:`FINAL` when the move has ended. The daemon is otherwise what it always
is.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import msgpack
import numpy as np

from streamhop.cli import main as streamhop
from streamhop.content.memory import FinalImage
from streamhop.content.memory.batching import PageBatch
from streamhop.content.memory.source import MemorySource, ProcessLike
from streamhop_protocol.page_batches import LIKE, XOR, ZERO, PageRun, decode_meta

from .loop_lag import sample_daemon

SHADOW = Path("/run/hopbench/shadow")
FINAL = Path("/run/hopbench/final")
"""Each batch's description and content in msgpack."""


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
        descriptor = self._file(described.object_name)
        like = self._file(described.like_object) if described.like_object is not None else descriptor
        rest = memoryview(batch.data)
        for run in described.runs:
            content, rest = content_of(run, rest, descriptor, like, self._page_bytes)
            os.pwrite(descriptor, content, run.first * self._page_bytes)

    def _file(self, object_name: str) -> int:
        if object_name not in self._files:
            path = self._directory / object_name
            self._files[object_name] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        return self._files[object_name]

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])


def content_of(
    run: PageRun, data: memoryview, before: int, like: int, page_bytes: int
) -> tuple[memoryview, memoryview]:
    """The pages of a run, and what comes behind them in ``data``.

    :param before: file of what was last sent of the object, each page at its index.
    :param like: the same of the object that pages of the batch are like.
    """
    size = run.pages * page_bytes
    if run.kind == LIKE:
        return memoryview(os.pread(like, size, run.first * page_bytes).ljust(size, b"\0")), data
    if run.kind == ZERO:
        return memoryview(bytes(size)), data
    content, rest = data[:size], data[size:]
    if run.kind == XOR:
        old = np.frombuffer(os.pread(before, size, run.first * page_bytes), dtype=np.uint8)
        content = (old ^ np.frombuffer(content, dtype=np.uint8)).data
    return content, rest


class ObservedFinal(FinalImage):
    """A dump of which the batches are kept."""

    kept: Sequence[PageBatch] = ()

    def take(self, connection: socket.socket) -> Generator[PageBatch, None, None]:
        """As the image's own."""
        self.kept = kept = list[PageBatch]()
        with contextlib.closing(super().take(connection)) as batches:
            for batch in batches:
                kept.append(batch)
                yield batch

    def write(self, path: Path) -> None:
        """Write down what was kept.

        :raises OSError: no room.
        """
        with path.open("wb") as file:
            for batch in self.kept:
                file.write(msgpack.packb((batch.meta, batch.data)))


class ObservedSource(MemorySource):
    """A source whose rounds are noted."""

    _final: ObservedFinal | None = None

    def final(self, image_dir: Path) -> FinalImage:
        """As the source's own."""
        self._final = ObservedFinal(image_dir, self._table, self._sent, self._page_size)
        return self._final

    def close(self) -> None:
        """As the source's own; it is called when the move has ended."""
        super().close()
        if self._final is not None:
            self._final.write(FINAL)

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
    sample_daemon()
    streamhop()


if __name__ == "__main__":
    main()
