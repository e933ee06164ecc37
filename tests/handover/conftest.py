"""A real journal, and a network gate that only notes what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamhop.handover.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes whose gate was opened."""
    opened: list[int] = []

    async def open_gate(pid: int) -> None:
        opened.append(pid)

    monkeypatch.setattr("streamhop.handover.source_actions.open_gate", open_gate)
    return opened
