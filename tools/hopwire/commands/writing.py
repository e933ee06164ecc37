"""What the commands share that write a flow file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from hopwire.errors import WireError
from hopwire.escaping import printable
from hopwire.flow.records import About
from hopwire.flow.writer import FILE_BYTES_MAX, FlowWriter


def remark(text: str) -> None:
    """Tell the user what is no error, beside what is printed."""
    click.echo(f"hopwire: {text}", err=True)


@contextmanager
def flow_file(path: Path | None, about: About, bytes_max: int = FILE_BYTES_MAX) -> Iterator[FlowWriter | None]:
    """A new flow file, closed at the end; None if none is asked for.

    :raises WireError: it is there already, or cannot be made, or could not be written to its end.
    """
    if path is None:
        yield None
        return
    file = _Noting(_new_file(path))
    try:
        with closing(file):
            writer = FlowWriter(file, about, bytes_max)
            if about.payload:
                remark(f"{printable(path)} will hold memory and files of containers: keep it to yourself")
            try:
                yield writer
            finally:
                if file.error is None:
                    writer.close()
    except OSError:
        if file.error is None:
            raise  # of something else that was done meanwhile
    if file.error is not None:
        # The tap has gone on without a recording; that is no success of the command.
        why = file.error.strerror or file.error
        raise WireError(f"{printable(path)} is not complete: {why}") from file.error
    if writer.left_out_frames:
        remark(f"{printable(path)} has reached its bound; {writer.left_out_frames} frames are not in it")


class _Noting:
    """A file that remembers the first error of writing it: what has a gap must not say at its end that it is whole.

    :raises OSError: of each method: the file cannot be written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview, /) -> object:
        with self._noted():
            return self._file.write(data)

    def flush(self) -> None:
        with self._noted():
            self._file.flush()

    def close(self) -> None:
        with self._noted():
            self._file.close()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            raise


def _new_file(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        raise WireError(f"{path}: {error.strerror}") from error
