"""What users asked for and were told is there after a restart, and bounded."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from streamhop.handover.journal import Journal
from streamhop.handover.operation_log import KeptOperation

MOVES = [bytes([number]) * 16 for number in range(5)]


def test_what_was_told_is_there_after_a_restart(tmp_path: Path) -> None:
    ticks = count(1_000.0)
    journal = Journal(tmp_path / "journal.sqlite", clock=lambda: next(ticks))
    journal.operations.begin(MOVES[0], "web", "edge-b")
    journal.operations.begin(MOVES[1], "db", "edge-c")
    journal.operations.end(MOVES[0], {"outcome": "moved"})
    journal.close()
    again = Journal(tmp_path / "journal.sqlite")
    assert again.operations.all() == [
        KeptOperation(MOVES[0], "web", "edge-b", {"outcome": "moved"}, 1_000.0, 1_002.0),
        KeptOperation(MOVES[1], "db", "edge-c", None, 1_001.0, None),
    ]
    assert again.operations.get(MOVES[2]) is None
    again.close()


def test_the_oldest_are_forgotten(journal: Journal) -> None:
    journal.operations.forget(2)
    for move in MOVES:
        journal.operations.begin(move, "web", "edge-b")
    journal.operations.forget(2)
    assert [kept.move for kept in journal.operations.all()] == MOVES[-2:]
