"""CRIU's logs are turned into a cause and a fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamhop.engine.criu_log import LOG_BYTES_MAX, UNKNOWN_FIX, explain, explain_file

IO_URING = """\
(00.000412) Parsing config file /run/x/criu.conf
(00.021003) Error (criu/proc_parse.c:116): handle_device_vma plugin failed: No such file or directory
(00.021010) Error (criu/proc_parse.c:631): Can't handle non-regular mapping on 812's map 7f0a anon_inode:[io_uring]
(00.021100) Error (criu/cr-dump.c:2111): Dumping FAILED.
"""

BAD_SIZE = """\
(00.084120)      1: Error (criu/files-reg.c:2143): File usr/bin/app has bad size 9 (expect 12)
(00.084300) Error (criu/cr-restore.c:1480): 33 exited, status=1
(00.084400) Error (criu/cr-restore.c:2447): Restoring FAILED.
"""


def test_names_the_cause_first_and_what_to_do() -> None:
    reason, fix = explain(BAD_SIZE)
    assert reason == "File usr/bin/app has bad size 9 (expect 12)"
    assert "differs between the hosts" in fix


def test_a_known_error_wins_over_an_unknown_one_before_it() -> None:
    reason, fix = explain(IO_URING)
    assert reason.startswith("handle_device_vma plugin failed")
    assert "Dumping FAILED" not in reason
    assert "io_uring" in fix


def test_a_log_with_nothing_but_the_end_still_gives_a_reason() -> None:
    assert explain("(00.1) Error (criu/cr-dump.c:2111): Dumping FAILED.\n") == ("Dumping FAILED.", UNKNOWN_FIX)


@pytest.mark.parametrize("text", ["", "(00.000100) all is well\n", "Error without a place\n"])
def test_without_an_error_line_there_is_no_reason(text: str) -> None:
    assert explain(text) == ("", UNKNOWN_FIX)


def test_an_error_repeated_is_told_once_and_the_text_is_bounded() -> None:
    line = "(00.000001) Error (criu/x.c:1): " + "y" * 5000 + "\n"
    reason, _ = explain(line * 100)
    assert set(reason) == {"y"}
    assert len(reason) <= 600


def test_reads_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text("(00.000001) noise\n" * (LOG_BYTES_MAX // 10) + BAD_SIZE)
    assert explain_file(log)[0].startswith("File usr/bin/app")
    assert explain_file(tmp_path / "missing.log") == ("", UNKNOWN_FIX)
