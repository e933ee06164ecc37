"""The durable journal: what this host has promised about each move, in the order it was promised.

A record is on disk (file and directory synced, by SQLite's ``synchronous=FULL``) before :meth:`Journal.record`
returns; only then may the promise be acted upon. The rules that give the records their meaning are in
:mod:`streamhop.handover.states`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import forward_log, operation_log
from .forward_log import ForwardLog
from .operation_log import OperationLog
from .states import DEBTS, ENDED, FIRST, LOST, RESTING, STAGED, Role, State

_AFFIRM = "INSERT INTO affirmed VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    move BLOB NOT NULL,
    role TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    details TEXT NOT NULL,
    at REAL
);
CREATE INDEX IF NOT EXISTS record_of_move ON record (move, role, number);
CREATE TABLE IF NOT EXISTS affirmed (id INTEGER PRIMARY KEY CHECK (id = 1), times INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Record:
    """The newest record of a move in one role, with the details of all its records merged.

    :param began_at: when the first one was written, in seconds since the epoch; None if a daemon of an earlier version
        wrote it. The wall clock's, for people: nothing is decided by it.
    :param ended_at: when the move came to rest here; None as before, or if it has not.
    """

    move: bytes
    role: Role
    epoch: int
    state: State
    details: Mapping[str, Any]
    began_at: float | None = None
    ended_at: float | None = None

    @property
    def unsettled(self) -> bool:
        """Whether this host has something left to do, to ask or to tell about the move."""
        if self.lost:
            return False
        return self.state not in RESTING[self.role] or self._indebted

    @property
    def lost(self) -> bool:
        """Whether the move ended here with the host, at the moment of the start. See :data:`.states.LOST`."""
        return self.role is Role.TARGET and self.state is State.OWNED and bool(self.details.get(LOST))

    @property
    def forgettable(self) -> bool:
        """Whether nothing but a late question could still need the record."""
        return self.state in ENDED and not self._indebted

    @property
    def _indebted(self) -> bool:
        return any(self.details.get(debt) for debt in DEBTS)


class Journal:
    """Journal in one SQLite file. Thread-safe; calls block for a disk sync.

    After a write that failed nothing is read before another one has succeeded: what can be seen then need not be what
    is on disk, and the other way round. Reading raises :class:`sqlite3.Error` until that is settled.
    """

    def __init__(
        self, path: Path, database: sqlite3.Connection | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        """Open or create the journal.

        :param database: to be used instead of ``path``, in autocommit mode.
        :param clock: seconds since the epoch, for people; by default the host's.
        :raises sqlite3.Error: the file cannot be opened or is not a database.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._database = database or sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = TRUNCATE")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA + operation_log.SCHEMA + forward_log.SCHEMA)
        for table, column in (("record", "at"), ("operation", "began_at"), ("operation", "ended_at")):
            self._add_column(table, column)
        self._clock = clock or time.time
        self.operations = OperationLog(self._database, self._lock, self._clock)
        """What users asked for and were told; no promise is kept there."""
        self.forwards = ForwardLog(self._database, self._lock)
        self._doubtful = False
        if database is None:
            path.chmod(0o600)

    def _add_column(self, table: str, column: str) -> None:
        """A file of an earlier version has no times."""
        if column not in {row[1] for row in self._database.execute(f"PRAGMA table_info({table})")}:
            self._database.execute(f"ALTER TABLE {table} ADD COLUMN {column} REAL")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def record(self, move: bytes, role: Role, epoch: int, state: State, **details: Any) -> None:
        """Write one record and sync it.

        :raises sqlite3.Error: it may not be durable; the caller must not act on it.
        """
        with self._lock:
            self._write(
                "INSERT INTO record (move, role, epoch, state, details, at) VALUES (?, ?, ?, ?, ?, ?)",
                (move, role.value, epoch, state.value, json.dumps(details), self._clock()),
            )

    def note(self, move: bytes, role: Role, **details: Any) -> None:
        """Add details to a move's newest record, whatever its state is by now, and sync it.

        :raises sqlite3.Error: they may not be durable.
        """
        with self._lock:
            self._write(
                """
                INSERT INTO record (move, role, epoch, state, details, at)
                SELECT move, role, epoch, state, ?, ? FROM record
                WHERE move = ? AND role = ? ORDER BY number DESC LIMIT 1
                """,
                (json.dumps(details), self._clock(), move, role.value),
            )

    def latest(self, move: bytes, role: Role) -> Record | None:
        """What was last promised about ``move`` in ``role``, or None."""
        found = self._records("WHERE move = ? AND role = ?", (move, role.value))
        return found[0] if found else None

    def all(self) -> list[Record]:
        """Every move that is remembered, in the order in which they began."""
        return self._records()

    def unsettled(self) -> list[Record]:
        """Every move that this host has to do something about; oldest first."""
        return [record for record in self._records() if record.unsettled]

    def forget_ended(self, keep: int) -> None:
        """Drop all but the newest ``keep`` ended moves, so that the file stays bounded. Debts are never dropped.

        Nobody asks for what was only staged: all of that goes.
        """
        with self._lock:
            ended = [record for record in self._read() if record.forgettable]
            moves = [record for record in ended if not record.details.get(STAGED)]
            forgotten = [record for record in ended if record.details.get(STAGED)] + moves[: max(0, len(moves) - keep)]
            self._database.executemany(
                "DELETE FROM record WHERE move = ? AND role = ?",
                [(record.move, record.role.value) for record in forgotten],
            )

    def _write(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        self._doubtful = True
        self._database.execute(statement, values)
        # It is synced, and everything before it with it.
        self._doubtful = False

    def _records(self, where: str = "", values: tuple[Any, ...] = ()) -> list[Record]:
        """The newest record of each move and role with all its details, in the order in which the moves began."""
        with self._lock:
            return self._read(where, values)

    def _read(self, where: str = "", values: tuple[Any, ...] = ()) -> list[Record]:
        if self._doubtful:
            self._write(_AFFIRM)
        rows = self._database.execute(
            f"SELECT move, role, epoch, state, details, at FROM record {where} ORDER BY number",  # noqa: S608 - no values
            values,
        ).fetchall()
        found: dict[tuple[bytes, str], Record] = {}
        for move, role, epoch, state, text, at in rows:
            record = Record(move, Role(role), epoch, State(state), json.loads(text), at)
            found[move, role] = _merged(found.get((move, role)), record)
        return list(found.values())


def _merged(before: Record | None, record: Record) -> Record:
    """``record``, whose ``began_at`` is when it was written itself, after ``before``."""
    rests, rested = (each is not None and each.state in RESTING[each.role] for each in (record, before))
    ended_at = record.began_at if rests else None
    if before is None:
        return replace(record, ended_at=ended_at)
    if rests and rested:
        ended_at = before.ended_at
    # Of another attempt: what was owed and made in the one before is settled.
    again = before.epoch != record.epoch and record.state in FIRST
    details = {**({} if again else before.details), **record.details}
    return replace(record, details=details, began_at=before.began_at, ended_at=ended_at)
