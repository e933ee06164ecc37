"""Reads the journals of the hosts' daemons from outside, while they write them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from hoplab import Host
from hoplab.namespaces import inside
from streamhop.handover.journal import Record
from streamhop.handover.states import Role, State

PATH = "/var/lib/streamhop/journal.sqlite"

BUSY_S_MAX = 1.0

Row = tuple[int, bytes, str, int, str, str]
"""Number, move, role, epoch, state, details."""


def rows_after(host: Host, number: int) -> list[Row]:
    """The records of a host's journal later than ``number``; empty if there is no journal.

    The file is opened where the host sees it, so that SQLite's locks are those that its daemon takes.

    :raises LabError: the host is off.
    :raises sqlite3.Error: the journal cannot be read now.
    """

    def read() -> list[Row]:
        with closing(sqlite3.connect(f"file:{PATH}?mode=ro", uri=True, timeout=BUSY_S_MAX)) as database:
            query = "SELECT number, move, role, epoch, state, details FROM record WHERE number > ? ORDER BY number"
            return database.execute(query, (number,)).fetchall()

    return inside(host.pid, read, ["mnt"])


def newest(rows: list[Row], role: Role) -> dict[bytes, Record]:
    """Each move's newest record in ``role``, with the details of all its records merged."""
    found: dict[bytes, Record] = {}
    for _, move, its_role, epoch, state, text in rows:
        if its_role == role.value:
            before = found[move].details if move in found else {}
            found[move] = Record(move, role, epoch, State(state), {**before, **json.loads(text)})
    return found
