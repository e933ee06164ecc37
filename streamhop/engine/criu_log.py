"""From CRIU's log to a reason and what to do about it.

runc says little more than "criu failed: type NOTIFY errno 0"; what failed is in ``dump.log`` or ``restore.log``. What
is known of such lines is in :mod:`.criu_failures`.
"""

from __future__ import annotations

import re
from pathlib import Path

from .criu_failures import KNOWN_FAILURES, KnownFailure

LOG_BYTES_MAX = 256 * 1024
"""How much of a log is looked at, from its end."""

REASON_CHARACTERS_MAX = 600
LINE_CHARACTERS_MAX = 1024
LINES_MAX = 50
"""Telling error lines that are looked at, and characters of each: a log quotes what a peer has sent."""

_ERROR = re.compile(r"^(?:\(\d+\.\d+\)\s+)?(?:pie:\s+)?(?:\d+:\s+)?Error \([^)]*\):\s*(.*)$")

_UNTELLING = re.compile(
    r"(Dumping FAILED|Restoring FAILED|Can't (?:open|read) .*: No such process|Pid \d+ .* exited|\d+ (?:killed|exited)"
    r"|rlimit: Can't setup RLIMIT_NOFILE for self|/no-such-path|Dump files \(pid: \d+\) failed"
    r"|Collect mappings \(pid: \d+\) failed|Unable to open fd=\d+ id=)",
    re.IGNORECASE,
)
"""Error lines that only follow from another one, or that mean no harm."""

UNKNOWN_FIX = "look at the log for what CRIU cannot handle"


def explain(log_text: str) -> tuple[str, str]:
    """What failed and what to do.

    :param log_text: the log, or its end.
    :returns: reason (the cause if it is known, and the telling error lines, the first one first) and fix; reason is
        empty if there is no error line.
    """
    lines = (line.strip()[:LINE_CHARACTERS_MAX] for line in log_text.splitlines())
    errors = [match[1].strip() for line in lines if (match := _ERROR.match(line))]
    telling = [text for text in dict.fromkeys(errors) if not _UNTELLING.search(text)] or errors[-1:]
    telling = telling[:LINES_MAX]
    if not telling:
        return "", UNKNOWN_FIX
    # The first error is the cause; those after it are what came of it.
    for text in telling:
        if (known := known_failure(text)) is not None:
            return _joined([known.cause, *telling]), _fix(known)
    return _joined(telling), UNKNOWN_FIX


def explain_output(output: str) -> tuple[str, str]:
    """The same of what runc itself has printed, where CRIU has left no log."""
    told = output.strip()
    known = known_failure(told[-LINE_CHARACTERS_MAX:])
    if known is None:
        return told[:REASON_CHARACTERS_MAX], ""
    return _joined([known.cause, told]), _fix(known)


def explain_file(path: Path) -> tuple[str, str]:
    """As :func:`explain`, of a log file that may be missing or long."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES_MAX))
            return explain(file.read(LOG_BYTES_MAX).decode("utf-8", errors="replace"))
    except OSError:
        return "", UNKNOWN_FIX


def known_failure(text: str) -> KnownFailure | None:
    """The row of the table that an error line matches."""
    return next((known for known in KNOWN_FAILURES if known.pattern.search(text)), None)


def _fix(known: KnownFailure) -> str:
    return f"{known.fix} (see {known.issues[0]})" if known.issues else known.fix


def _joined(lines: list[str]) -> str:
    return "; ".join(lines[:4])[:REASON_CHARACTERS_MAX]
