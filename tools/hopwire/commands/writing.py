"""What the commands share that write a flow file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
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

    :raises WireError: it is there already, or cannot be made.
    """
    if path is None:
        yield None
        return
    with _new_file(path) as file:
        writer = FlowWriter(file, about, bytes_max)
        if about.payload:
            remark(f"{printable(path)} will hold memory and files of containers: keep it to yourself")
        try:
            yield writer
        finally:
            _close(path, file, writer)
    if writer.left_out_frames:
        remark(f"{printable(path)} has reached its bound; {writer.left_out_frames} frames are not in it")


def _close(path: Path, file: BinaryIO, writer: FlowWriter) -> None:
    """Say that the file is complete, if there is room for that."""
    try:
        writer.close()
        file.close()
    except OSError as error:
        remark(f"{printable(path)} is not complete: {error.strerror or error}")
        with contextlib.suppress(OSError):
            file.close()


def _new_file(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        raise WireError(f"{path}: {error.strerror}") from error
