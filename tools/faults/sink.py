"""Hears the counter's reports, from a host of the lab that is neither end of the move."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from hoplab import Host
from hoplab.namespaces import inside_network

from .counter import PORT
from .reports import Report

_POLL_S = 0.2
_REPORT_BYTES_MAX = 200


class Sink:
    """Listens at ``host`` while its context is open.

    :param names: address -> name, of the hosts that may report.
    """

    def __init__(self, host: Host, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._reports: list[Report] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._socket = inside_network(host.netns, _listening)
        self._thread = threading.Thread(target=self._hear, name="faults-sink", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def clear(self) -> None:
        """Forget what was heard."""
        with self._lock:
            self._reports.clear()

    def reports(self) -> list[Report]:
        """What was heard since, in order."""
        with self._lock:
            return list(self._reports)

    def _hear(self) -> None:
        while not self._stop.is_set():
            try:
                data, (address, _) = self._socket.recvfrom(_REPORT_BYTES_MAX)
            except TimeoutError:
                continue
            at = time.monotonic()
            life, n = data.decode("ascii").split()
            with self._lock:
                self._reports.append(Report(at, self._names.get(address, address), life, int(n)))


def _listening() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("", PORT))
    made.settimeout(_POLL_S)
    return made
