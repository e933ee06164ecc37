"""The durable journal: what this host has promised about each move, in the order it was promised.

A record is on disk (file and directory synced, by SQLite's ``synchronous=FULL``) before :meth:`Journal.record`
returns; only then may the promise be acted upon. The rules that give the records their meaning are in
:mod:`streamhop.handover.states`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .states import ENDED, Role, State

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    move BLOB NOT NULL,
    role TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS record_of_move ON record (move, role, number);
"""


@dataclass(frozen=True, slots=True)
class Record:
    """The newest record of a move in one role, with the details of all its records merged."""

    move: bytes
    role: Role
    epoch: int
    state: State
    details: Mapping[str, Any]


class Journal:
    """Journal in one SQLite file. Thread-safe; calls block for a disk sync."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal.

        :raises sqlite3.Error: the file cannot be opened or is not a database.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = TRUNCATE")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)
        path.chmod(0o600)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def record(self, move: bytes, role: Role, epoch: int, state: State, **details: Any) -> None:
        """Write one record and sync it.

        :raises sqlite3.Error: it may not be durable; the caller must not act on it.
        """
        with self._lock:
            self._database.execute(
                "INSERT INTO record (move, role, epoch, state, details) VALUES (?, ?, ?, ?, ?)",
                (move, role.value, epoch, state.value, json.dumps(details)),
            )

    def latest(self, move: bytes, role: Role) -> Record | None:
        """What was last promised about ``move`` in ``role``, or None."""
        with self._lock:
            rows = self._database.execute(
                "SELECT epoch, state, details FROM record WHERE move = ? AND role = ? ORDER BY number",
                (move, role.value),
            ).fetchall()
        if not rows:
            return None
        details: dict[str, Any] = {}
        for _, _, text in rows:
            details.update(json.loads(text))
        epoch, state, _ = rows[-1]
        return Record(move, role, epoch, State(state), details)

    def unfinished(self) -> list[Record]:
        """Every move whose newest record is not an end, or whose end the peer may not know yet; oldest first."""
        with self._lock:
            moves = self._database.execute(
                "SELECT move, role FROM record GROUP BY move, role ORDER BY min(number)"
            ).fetchall()
        found = (self.latest(move, Role(role)) for move, role in moves)
        return [
            record
            for record in found
            if record is not None and (record.state not in ENDED or record.details.get("owes_abort"))
        ]

    def forget_ended(self, keep: int) -> None:
        """Drop all but the newest ``keep`` ended moves, so that the file stays bounded."""
        marks = ",".join("?" for _ in ENDED)
        with self._lock:
            self._database.execute(
                f"""
                DELETE FROM record WHERE (move, role) IN (
                    SELECT move, role FROM record GROUP BY move, role
                    HAVING sum(state IN ({marks})) > 0 ORDER BY max(number) DESC LIMIT -1 OFFSET ?
                )
                """,  # noqa: S608 - only question marks are formatted in
                (*(state.value for state in ENDED), keep),
            )
