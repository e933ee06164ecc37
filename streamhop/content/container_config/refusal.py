"""Why a container cannot be moved, or not to here."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True)
class Refusal:
    """One objection."""

    reason: str
    """What is in the way, for a person."""

    fix: str = ""
    """What to do about it; empty if there is nothing to do."""


def shown(text: object) -> str:
    """``text`` for a message: short, on one line, without control characters a terminal would obey."""
    printable = ascii(str(text)[:SHOWN_CHARACTERS_MAX])[1:-1]
    return printable if len(printable) <= SHOWN_CHARACTERS_MAX else f"{printable[: SHOWN_CHARACTERS_MAX - 3]}..."
