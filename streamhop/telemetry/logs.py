"""The daemon's log: one line an event, and nothing in it that steers the terminal it is read on."""

from __future__ import annotations

import logging
from typing import TextIO

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class HarmlessFormatter(logging.Formatter):
    """Escapes what is not printable: peers and workloads choose words that end up in messages."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name for it
        """The line without a traceback, which is of our own making."""
        record.message = "".join(
            letter if letter.isprintable() else ascii(letter)[1:-1] for letter in record.getMessage()
        )
        return super().formatMessage(record)


def log_to(stream: TextIO) -> None:
    """Log everything from INFO on to ``stream``."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HarmlessFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
