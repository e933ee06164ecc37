"""From pieces of TCP connections to a recording: who dialed, which connection it is, where it ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hopwire.recorder import Recorder

from .pieces import Piece

OPEN_MAX = 256
"""Connections that are read at once; the one that began first gives way. A session has at most 16."""

BEGUN_MAX = 65536
"""Connections of which only the beginning was seen. A capture may be full of those that are nobody's."""

Address = tuple[str, int]


@dataclass(slots=True)
class _Direction:
    ends: bool = False
    ended: bool = False
    waits: bool = False
    """Something before what came last is missing."""


@dataclass(slots=True)
class _Connection:
    number: int
    dialer: Address
    directions: dict[bool, _Direction] = field(default_factory=lambda: {True: _Direction(), False: _Direction()})


class CapturedStreams:
    """Gives the pieces of a capture to a recorder.

    :param port: where daemons listen: tells who dialed if the capture began later.
    """

    def __init__(self, recorder: Recorder, port: int) -> None:
        self._recorder = recorder
        self._port = port
        self._began_ns: int | None = None
        self._dialers: dict[int, Address] = {}
        self._open: dict[int, _Connection] = {}
        self._count = 0
        self.unopened: set[int] = set()
        """Connections to the port that are TLS and of which nothing could be read."""
        self.remarks: list[str] = []
        """What whoever reads the recording has to know about the capture."""

    def take(self, piece: Piece) -> None:
        """Take the next piece.

        :raises OSError: the recording cannot be written.
        """
        self._began_ns = piece.at_ns if self._began_ns is None else self._began_ns
        at_ns = max(0, piece.at_ns - self._began_ns)
        if piece.syn:
            self._begin(piece)
        connection = self._open.get(piece.stream)
        if connection is None:
            if not piece.data:
                self._note_unopened(piece)
                return
            connection = self._new(at_ns, piece)
        from_dialer = piece.source == connection.dialer
        direction = connection.directions[from_dialer]
        direction.waits = direction.waits or piece.lost
        if piece.data and not direction.ended:
            direction.waits = False
            self._recorder.data(at_ns, connection.number, piece.data, from_dialer=from_dialer)
        direction.ends = direction.ends or piece.ends
        if piece.reset:
            self._over(at_ns, piece.stream, connection)
        elif direction.ends and not direction.waits and not direction.ended:
            self._end(at_ns, connection, from_dialer=from_dialer)
            if all(each.ended for each in connection.directions.values()):
                del self._open[piece.stream]

    def finish(self) -> None:
        """The capture is over: what was missing will not come. Connections that go on are not ended."""
        for connection in self._open.values():
            self._remark_missing(connection)
        if self.unopened:
            self.remarks.append(
                f"{len(self.unopened)} connections are TLS, and no key opens them: --keylog FILE, see docs/wireshark.md"
            )

    def _begin(self, piece: Piece) -> None:
        if len(self._dialers) >= BEGUN_MAX:
            del self._dialers[next(iter(self._dialers))]
        self._dialers[piece.stream] = piece.target if piece.answers else piece.source

    def _note_unopened(self, piece: Piece) -> None:
        if piece.tls and self._port in (piece.source[1], piece.target[1]) and len(self.unopened) < BEGUN_MAX:
            self.unopened.add(piece.stream)

    def _dialer_of(self, piece: Piece) -> Address:
        known = self._dialers.pop(piece.stream, None)
        if known is not None:
            return known
        return piece.target if piece.source[1] == self._port else piece.source

    def _new(self, at_ns: int, piece: Piece) -> _Connection:
        if len(self._open) >= OPEN_MAX:
            oldest = next(iter(self._open))
            self._over(at_ns, oldest, self._open[oldest])
        self._count += 1
        self.unopened.discard(piece.stream)
        dialer = self._dialer_of(piece)
        acceptor = piece.target if dialer == piece.source else piece.source
        connection = self._open[piece.stream] = _Connection(self._count, dialer)
        self._recorder.opened(at_ns, self._count, (_shown(dialer), _shown(acceptor)), tls=piece.tls)
        return connection

    def _over(self, at_ns: int, stream: int, connection: _Connection) -> None:
        self._remark_missing(connection)
        for from_dialer, direction in connection.directions.items():
            if not direction.ended:
                self._end(at_ns, connection, from_dialer=from_dialer)
        del self._open[stream]

    def _end(self, at_ns: int, connection: _Connection, *, from_dialer: bool) -> None:
        connection.directions[from_dialer].ended = True
        self._recorder.ended(at_ns, connection.number, from_dialer=from_dialer)

    def _remark_missing(self, connection: _Connection) -> None:
        for from_dialer, direction in connection.directions.items():
            if direction.waits:
                who = "dialer" if from_dialer else "acceptor"
                self.remarks.append(
                    f"the capture lacks bytes of connection {connection.number} from the {who}: "
                    "what came after them is not read"
                )


def _shown(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
