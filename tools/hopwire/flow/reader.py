"""Reads a flow file as a stream: never more of it in memory than one record and a buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from hopwire.errors import FlowError, FlowTruncatedError

from .records import HEAD, MAGIC, RECORD, RECORD_BYTES_MAX, VERSION, About, Closed, Record, decode

READ_BYTES = 1 << 19


class Source(Protocol):
    """A file, opened unbuffered in binary mode; or standard input."""

    def read(self, size: int, /) -> bytes | None: ...


class FlowReader:
    """Iterates over the records of a flow file; the payload of a frame is valid until the next record.

    :param wait_for_more: called at the end of a file that is still being written; returns False to give up. Without it
        the end is the end.
    """

    def __init__(self, source: Source, wait_for_more: Callable[[], bool] | None = None) -> None:
        self._source = source
        self._wait_for_more = wait_for_more
        self._buffer = b""
        self._at = 0
        self.read_bytes = 0
        """Bytes of the file behind what was given out."""
        self.about: About | None = None

    def __iter__(self) -> Iterator[Record]:
        """All records; nothing is read after the one that ends the file.

        :raises FlowError: it is no flow file, or damaged; :class:`FlowTruncatedError` if it ends before its end.
        """
        self._check_head()
        while self._need(RECORD.size):
            kind, length = RECORD.unpack_from(self._buffer, self._at)
            if length > RECORD_BYTES_MAX:
                raise FlowError(f"damaged at byte {self.read_bytes}: a record of {length} bytes")
            if not self._need(RECORD.size + length):
                break
            begin = self._at + RECORD.size
            try:
                record = decode(kind, memoryview(self._buffer)[begin : begin + length])
            except FlowError as error:
                raise FlowError(f"damaged at byte {self.read_bytes}: {error}") from error
            self._take(RECORD.size + length)
            if self.about is None:
                if not isinstance(record, About):
                    raise FlowError("damaged: the file does not begin with what it is")
                self.about = record
            if record is not None:
                yield record
            if isinstance(record, Closed):
                return
        raise FlowTruncatedError(
            f"cut off at byte {self.read_bytes}: it is still being written, or whoever wrote it was killed"
        )

    def _check_head(self) -> None:
        if not self._need(len(HEAD)):
            if HEAD.startswith(self._buffer):
                raise FlowTruncatedError("cut off: the file ends before its first record")
            raise FlowError("no flow file: it begins otherwise")
        head = self._buffer[: len(HEAD)]
        if not head.startswith(MAGIC):
            raise FlowError("no flow file: it begins otherwise")
        if head != HEAD:
            raise FlowError(f"a flow file of version {head[-1]}; this program reads version {VERSION}")
        self._take(len(HEAD))

    def _take(self, size: int) -> None:
        self._at += size
        self.read_bytes += size

    def _need(self, size: int) -> bool:
        """Have ``size`` bytes in the buffer; returns False at the end of the file."""
        while len(self._buffer) - self._at < size:
            data = self._source.read(max(READ_BYTES, size))
            if not data:
                if self._wait_for_more is None or not self._wait_for_more():
                    return False
                continue
            # A new object: frames that were given out may still refer to the one before.
            self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
            self._at = 0
        return True
