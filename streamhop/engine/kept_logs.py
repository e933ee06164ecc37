"""Logs of failed dumps and restores: a few of the last ones are kept, so that somebody can read more than the cause."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from .criu_log import explain_file

log = logging.getLogger("streamhop.engine")

LOGS_MAX = 10
"""Kept in one directory; the oldest go first."""

LOG_BYTES_MAX = 1 << 20
"""Of one log, from its end: what failed is there."""

_NAME = re.compile(r"(\d{6})-[a-z]+\.log")


def explain_and_keep(path: Path, directory: Path | None, what: str) -> tuple[str, str]:
    """What a log says, see :func:`.explain_file`, and keep it; the fix then says where.

    :param path: of the log; it may be missing.
    :param directory: where logs are kept; None: nowhere.
    :param what: goes into the kept log's name: ``dump`` or ``restore``.
    """
    reason, fix = explain_file(path)
    kept = keep_log(path, directory, what) if directory is not None else None
    return reason, f"{fix}; CRIU's log is kept: {kept}" if kept is not None else fix


def keep_log(path: Path, directory: Path, what: str) -> Path | None:
    """Copy the end of a log to ``directory``, and remove the oldest logs there.

    :returns: where it is; None if there is none, or if it cannot be kept, which must not hide why it is wanted.
    """
    try:
        with path.open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - LOG_BYTES_MAX))
            content = source.read(LOG_BYTES_MAX)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        logs = _kept(directory)
        number = max(logs, default=0) + 1
        place = directory / f"{number:06}-{what}.log"
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(content)
        for old in sorted(logs)[: max(0, len(logs) + 1 - LOGS_MAX)]:
            logs[old].unlink(missing_ok=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("the log of a failed %s is not kept: %s", what, error)
        return None
    return place


def _kept(directory: Path) -> dict[int, Path]:
    """Logs by their number, which only goes up: a clock may jump."""
    matches = ((entry, _NAME.fullmatch(entry.name)) for entry in directory.iterdir())
    return {int(match[1]): entry for entry, match in matches if match is not None}
