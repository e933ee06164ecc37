"""The disk under a journal: an SQLite database in memory that outlives daemons, and what can go wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

NOT_WRITTEN = "not written"
WRITTEN = "written, but an error"
TO_APPEAR = "an error, and there after a power-off though it is not seen before"
TO_VANISH = "an error, and gone after a power-off though it is seen before"
RECORD_VALUES = 6
"""Of the statement that writes a record; none of the others has as many."""

FAULTS = (NOT_WRITTEN, WRITTEN, TO_APPEAR, TO_VANISH)


class Database(sqlite3.Connection):
    """A connection in autocommit mode whose writes can fail, before or after they are durable.

    A torn write is one that was not made: SQLite rolls it back when the file is opened next. After a sync that failed
    the page cache and the disk may differ, either way, until the next write succeeds.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.full = False
        """Every write fails."""

        self.next_fault: str | None = None
        self.writes = 0
        self.written: Callable[[str, str], None] = lambda *_: None
        """Told the role and state of each record."""

        self._at_power_off: tuple[str, Any] | None = None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As its base; INSERT and DELETE meet faults."""
        if not sql.lstrip().startswith(("INSERT", "DELETE")):
            return super().execute(sql, parameters)
        fault, self.next_fault = self.next_fault, None
        if self.full or fault in (NOT_WRITTEN, TO_APPEAR):
            if fault == TO_APPEAR:
                self._at_power_off = sql, parameters
            raise sqlite3.OperationalError("database or disk is full")
        cursor = super().execute(sql, parameters)
        self.writes += 1
        self._at_power_off = None
        if len(parameters) == RECORD_VALUES:
            self.written(parameters[1], parameters[3])
        if fault == TO_VANISH:
            self._at_power_off = "DELETE FROM record WHERE number = ?", (cursor.lastrowid,)
        if fault is not None:
            raise sqlite3.OperationalError("disk I/O error")
        return cursor

    def power_lost(self) -> None:
        """What the disk has is what counts from now on."""
        pending, self._at_power_off = self._at_power_off, None
        if pending is not None:
            super().execute(*pending)
            self.writes += 1

    def close(self) -> None:
        """Nothing: the next daemon finds it as it is."""


def new_database() -> Database:
    """An empty one."""
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None, factory=Database)
