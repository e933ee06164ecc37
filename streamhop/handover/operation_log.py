"""What users asked this host to move and what they were told, kept beyond the daemon's life.

The journal's records alone say where a container runs; these rows add who asked for what, why it failed, the figures.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    move BLOB NOT NULL UNIQUE,
    container TEXT NOT NULL,
    peer TEXT NOT NULL,
    result TEXT,
    began_at REAL,
    ended_at REAL
);
"""


@dataclass(frozen=True, slots=True)
class KeptOperation:
    """One move that a user asked for.

    :param container: as the user called it.
    :param peer: as the user called it.
    :param result: what the user was told; None if its daemon ended before it did.
    :param began_at: when it was asked for, in seconds since the epoch; None if a daemon of an earlier version noted it.
    :param ended_at: when the user was told; None as before.
    """

    move: bytes
    container: str
    peer: str
    result: Mapping[str, Any] | None
    began_at: float | None = None
    ended_at: float | None = None


class OperationLog:
    """Rows in the journal's database. Thread-safe; calls block for a disk sync.

    :param database: in autocommit mode.
    :param lock: guards ``database``.
    :param clock: seconds since the epoch, for people.
    """

    def __init__(self, database: sqlite3.Connection, lock: threading.Lock, clock: Callable[[], float]) -> None:
        self._database = database
        self._lock = lock
        self._clock = clock

    def begin(self, move: bytes, container: str, peer: str) -> None:
        """Note what was asked for.

        :raises sqlite3.Error: it may not be durable.
        """
        with self._lock:
            self._database.execute(
                "INSERT INTO operation (move, container, peer, began_at) VALUES (?, ?, ?, ?)",
                (move, container, peer, self._clock()),
            )

    def end(self, move: bytes, result: Mapping[str, Any]) -> None:
        """Note what the user is told.

        :raises sqlite3.Error: it may not be durable.
        """
        with self._lock:
            self._database.execute(
                "UPDATE operation SET result = ?, ended_at = ? WHERE move = ?",
                (json.dumps(result), self._clock(), move),
            )

    def get(self, move: bytes) -> KeptOperation | None:
        """What was asked for and told about ``move``, or None."""
        found = self._rows("WHERE move = ?", (move,))
        return found[0] if found else None

    def all(self) -> list[KeptOperation]:
        """Every operation that is remembered, oldest first."""
        return self._rows()

    def forget(self, keep: int) -> None:
        """Drop all but the newest ``keep``."""
        with self._lock:
            self._database.execute(
                "DELETE FROM operation WHERE number <= (SELECT max(number) FROM operation) - ?", (keep,)
            )

    def _rows(self, where: str = "", values: tuple[Any, ...] = ()) -> list[KeptOperation]:
        with self._lock:
            rows = self._database.execute(
                f"SELECT move, container, peer, result, began_at, ended_at FROM operation {where} "  # noqa: S608 - no values
                "ORDER BY number",
                values,
            ).fetchall()
        return [
            KeptOperation(move, container, peer, None if text is None else json.loads(text), began_at, ended_at)
            for move, container, peer, text, began_at, ended_at in rows
        ]
