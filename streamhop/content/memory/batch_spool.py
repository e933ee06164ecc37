"""Keeps batches that come faster than they can be sent: their content in a file, not in the daemon's memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from .batching import PageBatch


@dataclass(frozen=True, slots=True)
class SpooledBatch:
    """A batch of which the content is in the spool."""

    meta: dict[str, object]
    size: int
    _descriptor: int
    _at: int

    def load(self) -> bytes:
        """The content; blocks.

        :raises OSError: it cannot be read.
        """
        return os.pread(self._descriptor, self.size, self._at)


class BatchSpool:
    """A file without a name, gone when it is closed.

    :param directory: where it is made; best on a tmpfs, as it holds memory of the container.
    :raises OSError: it cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed with the spool

    def keep(self, batches: Generator[PageBatch, None, None]) -> Generator[SpooledBatch, None, None]:
        """Write each batch down and yield where it is; blocks. ``batches`` is closed in the end, whatever ends it.

        :raises OSError: there is no room.
        """
        at, descriptor = 0, self._file.fileno()
        with contextlib.closing(batches):
            for batch in batches:
                rest = memoryview(batch.data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                yield SpooledBatch(batch.meta, len(batch.data), descriptor, at)
                at += len(batch.data)

    def close(self) -> None:
        """Give back the room; nothing may be kept or loaded any more. Safe to repeat."""
        self._file.close()
