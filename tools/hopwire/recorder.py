"""Makes a recording of bytes as they pass by, and tells what they mean. Pure: time and bytes come from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from streamhop_protocol.frames import Prefix
from streamhop_protocol.observing import Broken, ConnectionObserver, Passed

from .events import BrokenSeen, ConnectionSeen, EndSeen, FrameSeen, Seen
from .flow.records import ConnectionOpened, DirectionEnded, Violation
from .flow.writer import FlowWriter


@dataclass(slots=True)
class _Watched:
    observer: ConnectionObserver = field(default_factory=ConnectionObserver)
    broken: set[bool] = field(default_factory=set)
    unread_bytes: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    open: set[bool] = field(default_factory=lambda: {True, False})


class Recorder:
    """Watches any number of connections.

    :param writer: where it is kept; None to keep nothing.
    :param tell: is told of everything as it happens.
    :raises OSError: of each method: the file cannot be written.
    """

    def __init__(self, writer: FlowWriter | None, tell: Callable[[Seen], object]) -> None:
        self._writer = writer
        self._tell = tell
        self._watched: dict[int, _Watched] = {}

    def opened(self, at_ns: int, connection: int, addresses: tuple[str, str], *, tls: bool) -> None:
        """A connection was made.

        :param addresses: of the dialer, of the acceptor.
        """
        self._watched[connection] = _Watched()
        if self._writer is not None:
            self._writer.record(ConnectionOpened(at_ns, connection, *addresses, tls))
        self._tell(ConnectionSeen(at_ns, connection, *addresses, tls))

    def data(self, at_ns: int, connection: int, data: bytes | memoryview, *, from_dialer: bool) -> None:
        """Bytes passed by."""
        watched = self._watched[connection]
        if from_dialer in watched.broken:
            watched.unread_bytes[from_dialer] += len(data)
            return
        for found in watched.observer.feed(data, from_dialer=from_dialer):
            self._found(at_ns, connection, watched, found)
        if self._writer is not None:
            self._writer.flush()

    def ended(self, at_ns: int, connection: int, *, from_dialer: bool) -> None:
        """One direction ended. After the other has, too, the connection is over."""
        watched = self._watched.get(connection)
        if watched is None or from_dialer not in watched.open:
            return
        watched.open.discard(from_dialer)
        for found in watched.observer.end(from_dialer=from_dialer):
            self._found(at_ns, connection, watched, found)
        unread_bytes = watched.unread_bytes[from_dialer]
        if self._writer is not None:
            self._writer.record(DirectionEnded(at_ns, connection, from_dialer, unread_bytes))
        self._tell(EndSeen(at_ns, connection, from_dialer, unread_bytes))
        if not watched.open:
            del self._watched[connection]

    def _found(self, at_ns: int, connection: int, watched: _Watched, found: Passed | Broken) -> None:
        if isinstance(found, Broken):
            watched.broken.add(found.from_dialer)
            code, reason = found.error.code, str(found.error)[:1000]
            if self._writer is not None:
                self._writer.record(Violation(at_ns, connection, found.from_dialer, code, reason))
            self._tell(BrokenSeen(at_ns, connection, found.from_dialer, code, reason))
            return
        frame, received = found.frame, found.received
        if self._writer is not None:
            self._writer.frame(at_ns, connection, frame, received, from_dialer=found.from_dialer)
        prefix = Prefix(frame.type, frame.flags, frame.stream, len(frame.header), len(frame.payload))
        self._tell(FrameSeen(at_ns, connection, found.from_dialer, prefix, received, payload=frame.payload))
