"""The journal keeps what was promised, in order, over restarts."""

from __future__ import annotations

import contextlib
import sqlite3
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from streamhop.handover.journal import Journal
from streamhop.handover.states import Role, State

MOVE, OTHER = b"m" * 16, b"o" * 16


def test_the_newest_record_counts_and_details_add_up(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.sqlite"
    journal = Journal(path)
    journal.record(MOVE, Role.SOURCE, 1, State.PRECOPY, container="c", peer="p")
    journal.record(MOVE, Role.SOURCE, 1, State.FREEZING)
    journal.record(MOVE, Role.TARGET, 1, State.RECEIVING)
    journal.close()
    again = Journal(path)
    record = again.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert (record.state, record.details) == (State.FREEZING, {"container": "c", "peer": "p"})
    assert again.latest(OTHER, Role.SOURCE) is None
    assert [found.state for found in again.unsettled()] == [State.FREEZING, State.RECEIVING]
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_abort_that_the_peer_does_not_know_of_is_unfinished(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record(MOVE, Role.SOURCE, 1, State.ABORTED, owes_abort=True)
    assert len(journal.unsettled()) == 1
    journal.record(MOVE, Role.SOURCE, 1, State.ABORTED, owes_abort=False)
    assert journal.unsettled() == []
    journal.close()


def test_only_ended_moves_are_forgotten_oldest_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    moves = [bytes([number]) * 16 for number in range(4)]
    journal.record(moves[0], Role.SOURCE, 1, State.RELEASED)
    for move in moves[1:]:
        journal.record(move, Role.SOURCE, 1, State.PRECOPY)
        journal.record(move, Role.SOURCE, 1, State.DONE)
    journal.forget_ended(keep=1)
    left = [move for move in moves if journal.latest(move, Role.SOURCE) is not None]
    assert left == [moves[0], moves[3]]
    journal.close()


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        Journal(path)


def test_a_note_leaves_the_state_as_it_is_by_then(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record(MOVE, Role.TARGET, 5, State.OPEN, owes_settling_in=True)
    journal.record(MOVE, Role.TARGET, 5, State.DONE)
    journal.note(MOVE, Role.TARGET, owes_settling_in=False)
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    assert (record.state, record.epoch, record.unsettled) == (State.DONE, 5, False)
    journal.close()


def test_another_attempt_begins_with_nothing_of_the_one_before(journal: Journal) -> None:
    """P5: what was made and owed in an aborted attempt is settled, or the next one would not have begun."""
    journal.record(MOVE, Role.TARGET, 1, State.RECEIVING, peer="edge-a", container="old")
    journal.record(MOVE, Role.TARGET, 1, State.ABORTED, owes_settling_in=True)
    journal.record(MOVE, Role.TARGET, 2, State.RECEIVING, peer="edge-a")
    record = journal.latest(MOVE, Role.TARGET)
    assert record is not None
    assert (record.epoch, record.state) == (2, State.RECEIVING)
    assert dict(record.details) == {"peer": "edge-a"}


def test_a_move_ends_when_it_comes_to_rest_and_begins_with_its_first_attempt(tmp_path: Path) -> None:
    ticks = count(1_000.0)
    journal = Journal(tmp_path / "journal.sqlite", clock=lambda: next(ticks))

    def times() -> tuple[float | None, float | None]:
        record = journal.latest(MOVE, Role.TARGET)
        assert record is not None
        return record.began_at, record.ended_at

    journal.record(MOVE, Role.TARGET, 1, State.RECEIVING)
    assert times() == (1_000.0, None)
    journal.record(MOVE, Role.TARGET, 1, State.ABORTED)
    assert times() == (1_000.0, 1_001.0)
    journal.record(MOVE, Role.TARGET, 2, State.RECEIVING)
    assert times() == (1_000.0, None)
    journal.record(MOVE, Role.TARGET, 2, State.OPEN)
    journal.note(MOVE, Role.TARGET, owes_settling_in=False)
    journal.record(MOVE, Role.TARGET, 2, State.DONE)
    assert times() == (1_000.0, 1_003.0)
    journal.close()


def test_a_file_of_an_earlier_version_is_read_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as earlier:
        earlier.executescript(
            """
            CREATE TABLE record (number INTEGER PRIMARY KEY AUTOINCREMENT, move BLOB NOT NULL, role TEXT NOT NULL,
                epoch INTEGER NOT NULL, state TEXT NOT NULL, details TEXT NOT NULL);
            CREATE TABLE operation (number INTEGER PRIMARY KEY AUTOINCREMENT, move BLOB NOT NULL UNIQUE,
                container TEXT NOT NULL, peer TEXT NOT NULL, result TEXT);
            """
        )
        earlier.execute("INSERT INTO record VALUES (1, ?, 'source', 1, 'precopy', '{}')", (MOVE,))
        earlier.execute("INSERT INTO operation VALUES (1, ?, 'web', 'edge-b', NULL)", (MOVE,))
    for at in (7.0, 8.0):
        journal = Journal(path, clock=lambda at=at: at)  # type: ignore[misc]
        journal.record(MOVE, Role.SOURCE, 1, State.ABORTED)
        (record,), (operation,) = journal.all(), journal.operations.all()
        assert (record.state, record.began_at, record.ended_at) == (State.ABORTED, None, 7.0)
        assert (operation.container, operation.began_at, operation.ended_at) == ("web", None, None)
        journal.close()


class _SyncFails(sqlite3.Connection):
    """Writes are seen and raise, as many as ``left``: nobody knows what of them is on disk."""

    left = 0

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        cursor = super().execute(sql, parameters)
        if sql.lstrip().startswith("INSERT") and self.left:
            self.left -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return cursor


def test_after_a_sync_that_failed_nothing_is_read_before_another_has_succeeded(tmp_path: Path) -> None:
    """P1: a RELEASED that can be seen and is not on disk must not be followed by GO: a power-off would undo it."""
    database = sqlite3.connect(":memory:", isolation_level=None, factory=_SyncFails)
    journal = Journal(tmp_path / "journal.sqlite", database)
    journal.record(MOVE, Role.SOURCE, 1, State.FREEZING)
    database.left = 2
    with pytest.raises(sqlite3.Error):
        journal.record(MOVE, Role.SOURCE, 1, State.RELEASED)
    with pytest.raises(sqlite3.Error):
        journal.latest(MOVE, Role.SOURCE)
    assert journal.latest(MOVE, Role.SOURCE).state is State.RELEASED  # type: ignore[union-attr]
    journal.close()
