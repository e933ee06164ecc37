"""Logs of failures are kept: few, bounded, for root alone; and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamhop.engine import kept_logs
from streamhop.engine.kept_logs import LOG_BYTES_MAX, LOGS_MAX, explain_and_keep, keep_log

ERROR = "(00.1) Error (criu/files-reg.c:2175): File usr/bin/app has bad size 9 (expect 12)\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "dump.log"
    path.write_text(ERROR)
    return path


def test_it_is_kept_for_root_alone_and_named(log: Path, tmp_path: Path) -> None:
    reason, fix = explain_and_keep(log, tmp_path / "logs", "dump")
    kept = tmp_path / "logs" / "000001-dump.log"
    assert "bad size" in reason
    assert str(kept) in fix
    assert kept.read_text() == ERROR
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_the_last_few_stay_whatever_the_clock_says(log: Path, tmp_path: Path) -> None:
    for number in range(LOGS_MAX + 3):
        log.write_text(str(number))
        keep_log(log, tmp_path / "logs", "restore")
    left = sorted((tmp_path / "logs").iterdir())
    assert [path.read_text() for path in left] == [str(number) for number in range(3, LOGS_MAX + 3)]


def test_of_a_long_one_the_end_is_kept(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"x" * LOG_BYTES_MAX + ERROR.encode())
    kept = keep_log(log, tmp_path / "logs", "dump")
    assert kept is not None
    assert kept.stat().st_size == LOG_BYTES_MAX
    assert kept.read_bytes().endswith(ERROR.encode())


def test_what_is_not_ours_is_left_alone(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "logs" / "notes.txt"
    other.parent.mkdir()
    other.write_text("mine")
    for _ in range(LOGS_MAX + 1):
        keep_log(log, tmp_path / "logs", "dump")
    assert other.read_text() == "mine"


def test_without_a_log_or_room_the_cause_is_told_all_the_same(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keep_log(tmp_path / "missing.log", tmp_path / "logs", "dump") is None
    assert "kept" not in explain_and_keep(log, None, "dump")[1]

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_logs.os, "open", full)
    reason, fix = explain_and_keep(log, tmp_path / "logs", "dump")
    assert "bad size" in reason
    assert "kept" not in fix
