"""The disk under a journal: an SQLite database in memory that outlives daemons, and what can go wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

NOT_WRITTEN = "not written"
WRITTEN = "written, but an error"


class Database(sqlite3.Connection):
    """A connection in autocommit mode whose writes can fail, before or after they are durable.

    A torn write is one that was not made: SQLite rolls it back when the file is opened next.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.full = False
        """Every write fails."""

        self.next_fault: str | None = None
        self.writes = 0
        self.written: Callable[[str, str], None] = lambda *_: None
        """Told the role and state of each record."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As its base; INSERT and DELETE meet faults."""
        if not sql.lstrip().startswith(("INSERT", "DELETE")):
            return super().execute(sql, parameters)
        fault, self.next_fault = self.next_fault, None
        if self.full or fault == NOT_WRITTEN:
            raise sqlite3.OperationalError("database or disk is full")
        cursor = super().execute(sql, parameters)
        self.writes += 1
        if len(parameters) == 5:
            self.written(parameters[1], parameters[3])
        if fault == WRITTEN:
            raise sqlite3.OperationalError("disk I/O error")
        return cursor

    def close(self) -> None:
        """Nothing: the next daemon finds it as it is."""


def new_database() -> Database:
    """An empty one."""
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None, factory=Database)
