"""Which ports of moved containers this host relays, kept beyond the daemon's life. In the journal's database."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass, replace

from streamhop.net.relaying import Port

SCHEMA = """
CREATE TABLE IF NOT EXISTS forward (move BLOB PRIMARY KEY, details TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Forward:
    """The ports of one container that went away with one move."""

    move: bytes
    container: str
    peer: str
    """Its name, for people."""

    hosts: tuple[str, ...]
    """Where the peer may be, the likeliest first."""

    ports: tuple[Port, ...]
    left_s: float
    """What was left of its time at :attr:`at_s`."""

    begun: bool = False
    """Whether the container is known to have gone; until then its ports are its own."""

    at_s: float = 0.0
    """By the clock that runs since the boot, also while the host sleeps."""

    boot: str = ""
    """The boot that :attr:`at_s` belongs to."""

    yielded: tuple[tuple[Port, bytes], ...] = ()
    """Ports that a container on its way here will take, and the move that brings it."""

    def left(self, now: float, boot: str) -> float:
        """Seconds until it ends. What passed while the host was down is not known, and does not count."""
        return self.left_s if boot != self.boot else self.left_s - (now - self.at_s)

    @property
    def open_ports(self) -> tuple[Port, ...]:
        """The ports to be relayed now."""
        given = {port for port, _ in self.yielded}
        return tuple(port for port in self.ports if port not in given)

    def without(self, taken: set[Port]) -> Forward:
        """The same, with some ports given up for good."""
        return replace(
            self,
            ports=tuple(port for port in self.ports if port not in taken),
            yielded=tuple((port, move) for port, move in self.yielded if port not in taken),
        )


class ForwardLog:
    """Rows in the journal's database. Thread-safe; calls block for a disk sync.

    :param database: in autocommit mode.
    :param lock: guards ``database``.
    """

    def __init__(self, database: sqlite3.Connection, lock: threading.Lock) -> None:
        self._database = database
        self._lock = lock

    def put(self, forward: Forward) -> None:
        """Write it, in place of what was known of the same move.

        :raises sqlite3.Error: it may not be durable.
        """
        details = {
            "container": forward.container,
            "peer": forward.peer,
            "hosts": forward.hosts,
            "ports": [_row(port) for port in forward.ports],
            "left_s": forward.left_s,
            "begun": forward.begun,
            "at_s": forward.at_s,
            "boot": forward.boot,
            "yielded": [[*_row(port), move.hex()] for port, move in forward.yielded],
        }
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO forward (move, details) VALUES (?, ?)", (forward.move, json.dumps(details))
            )

    def remove(self, move: bytes) -> None:
        """Forget one; nothing happens if there is none.

        :raises sqlite3.Error:
        """
        with self._lock:
            self._database.execute("DELETE FROM forward WHERE move = ?", (move,))

    def all(self) -> list[Forward]:
        """Every one that is remembered, oldest first.

        :raises sqlite3.Error:
        """
        with self._lock:
            rows = self._database.execute("SELECT move, details FROM forward ORDER BY rowid").fetchall()
        return [_forward(move, json.loads(text)) for move, text in rows]


def _row(port: Port) -> list[object]:
    return [port.address, port.port, port.protocol]


def _forward(move: bytes, details: dict[str, object]) -> Forward:
    values: dict[str, object] = dict(details)
    ports, yielded, hosts = values.pop("ports"), values.pop("yielded"), values.pop("hosts")
    return Forward(
        move=move,
        ports=tuple(Port(*row) for row in ports),  # type: ignore[attr-defined]  # as :meth:`ForwardLog.put` wrote them
        yielded=tuple((Port(*row[:3]), bytes.fromhex(row[3])) for row in yielded),  # type: ignore[attr-defined]  # so too
        hosts=tuple(hosts),  # type: ignore[arg-type]  # so too
        **values,  # type: ignore[arg-type]  # so too
    )
