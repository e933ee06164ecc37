"""The trace of a daemon: what it saw and decided, one JSON object a line, for ``hopwire`` and whoever debugs.

The first line says what the file is; each further line is an event: ``time``, seconds since the trace began, by the
monotonic clock; ``name``, which names a part of the daemon and what happened in it; ``data``. The form is modelled on
qlog (draft-ietf-quic-qlog-main-schema). Nothing in a trace is content of a container, nor a secret of a session.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

log = logging.getLogger("streamhop.telemetry")

VERSION = 1
TRACE_BYTES_MAX = 1 << 30
"""Of one file. A daemon that is traced for that long is not being debugged."""

EARLIER = ".1"
"""Added to the name of the trace of the daemon before."""


class Trace:
    """Writes events. Threads may share it. A trace that cannot be written ends; the daemon goes on.

    :param file: unbuffered, so that a daemon that is killed leaves every event behind.
    :param host: what the daemon calls itself.
    """

    def __init__(self, file: BinaryIO, host: str, bytes_max: int = TRACE_BYTES_MAX) -> None:
        self._file: BinaryIO | None = file
        self._left_bytes = bytes_max
        self._began = time.monotonic()
        self._writing = threading.Lock()
        began_at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        self._write({"trace": "streamhop", "version": VERSION, "host": host, "began_at": began_at})

    def emit(self, name: str, /, **data: Any) -> None:
        """Write one event.

        :param data: whatever JSON holds; bytes are written as ``{"hex": ...}``.
        """
        self._write({"time": round(time.monotonic() - self._began, 6), "name": name, "data": data})

    def _write(self, event: dict[str, Any]) -> None:
        line = json.dumps(jsonable(event), separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
        with self._writing:
            if self._file is None:
                return
            try:
                if len(line) > self._left_bytes:
                    log.warning("the trace has reached its bound of %d bytes and ends", TRACE_BYTES_MAX)
                    self._file = None
                    return
                self._left_bytes -= len(line)
                self._file.write(line)
            except OSError as error:
                log.warning("the trace ends, it cannot be written: %s", error.strerror or error)
                self._file = None


def jsonable(value: Any) -> Any:
    """``value`` as JSON has it: bytes as hexadecimal digits, numbers that are not finite as texts."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"hex": bytes(value).hex()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def traced_to(path: Path | None, host: str) -> Iterator[Trace | None]:
    """A trace in the file ``path``, readable to its owner alone, while the context is open; None without a path.

    What is there already, a trace of the daemon before, is kept under another name, once.

    :raises OSError: it cannot be made.
    """
    if path is None:
        yield None
        return
    if path.is_file():
        earlier = path.with_name(path.name + EARLIER)
        path.replace(earlier)
        if not earlier.is_symlink():
            # It may come from a daemon that did not see to that yet.
            earlier.chmod(0o600)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        yield Trace(file, host)
