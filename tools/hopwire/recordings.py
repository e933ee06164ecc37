"""Opens a recording, whatever it is: a flow file, the trace of a daemon, either of them on standard input."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FlowError, WireError
from .events import Seen
from .flow.reader import FlowReader, Source
from .flow.recording import seen_in
from .flow.records import MAGIC
from .trace import TRACE_BEGINS, seen_in_trace

STANDARD_INPUT = "-"
FOLLOW_INTERVAL_S = 0.2
"""How often a file that is followed is looked at: a file cannot be waited for."""


def wait_for_more() -> bool:
    """Come back after a while, to look whether a file has grown."""
    time.sleep(FOLLOW_INTERVAL_S)
    return True


class _Peeked:
    """A source whose first byte was looked at."""

    def __init__(self, source: Source, first: bytes) -> None:
        self._source = source
        self._first = first

    def read(self, size: int, /) -> bytes | None:
        first, self._first = self._first, b""
        return first or self._source.read(size)


@contextmanager
def open_recording(name: str, *, follow: bool = False) -> Iterator[Iterator[Seen]]:
    """Everything that a recording tells, in order, as it is read.

    :param name: a file, or :data:`STANDARD_INPUT`.
    :param follow: wait for more at its end.
    :raises WireError: on entering, it cannot be opened; while it is read, it is no recording, damaged or cut off.
    """
    try:
        # Unbuffered: what a pipe has is to be shown when it is there.
        path = Path("/dev/stdin") if name == STANDARD_INPUT else Path(name)
        source = path.open("rb", buffering=0)
    except OSError as error:
        raise WireError(f"{name}: {error.strerror}") from error
    with source:
        yield _named(_read(source, wait_for_more if follow else None), name)


def _read(source: Source, wait: Callable[[], bool] | None) -> Iterator[Seen]:
    first = source.read(1)
    while not first and wait is not None and wait():
        first = source.read(1)
    if first and MAGIC.startswith(first):
        yield from seen_in(FlowReader(_Peeked(source, first), wait))
    elif first == TRACE_BEGINS:
        yield from seen_in_trace(_Peeked(source, first), wait)
    else:
        raise FlowError("it is empty" if not first else "neither a flow file nor a trace")


def _named(events: Iterator[Seen], name: str) -> Iterator[Seen]:
    """The same, with the name of the recording in errors."""
    while True:
        try:
            seen = next(events, None)
        except FlowError as error:
            raise type(error)(f"{name}: {error}") from error
        except OSError as error:
            raise WireError(f"{name}: {error.strerror}") from error
        if seen is None:
            return
        yield seen


def standard_output_is_terminal() -> bool:
    """Whether somebody reads along."""
    return sys.stdout.isatty()
