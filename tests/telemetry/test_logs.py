"""What a peer wrote cannot steer the terminal that the log is read on."""

from __future__ import annotations

import logging

from streamhop.telemetry.logs import FORMAT, HarmlessFormatter


def test_escapes_and_line_breaks_are_shown_not_obeyed() -> None:
    """P12: a reason that a peer sent is one line, whatever is in it."""
    hostile = "\x1b[2J\x1b]0;owned\x07\r\n2026-01-01 INFO forged\u202e"
    record = logging.LogRecord("streamhop", logging.INFO, "f", 1, "the peer says: %s", (hostile,), None)
    line = HarmlessFormatter(FORMAT).format(record)
    assert line.isprintable()
    assert "the peer says: \\x1b[2J" in line
    assert HarmlessFormatter(FORMAT).format(record) == line
