"""One finding of a check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

SHOWN_CHARACTERS_MAX = 80


class Severity(Enum):
    """What a finding means for the move; the value is its name in JSON and on the wire."""

    REFUSES = "refuses"
    """The container is not moved like this."""

    WARNS = "warns"
    """It is moved; somebody should know all the same."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is in the way, why that matters, where to read about it and what to do."""

    id: str
    """Stable, for scripts: ``place.what``."""

    reason: str
    """What was found, for a person."""

    fix: str = ""
    """What to do about it; empty if there is nothing to do."""

    why: str = ""
    """Why it matters; empty if the reason says it."""

    reference: str = ""
    """Where to read more: a page, an issue, a manual page; may be empty."""

    severity: Severity = Severity.REFUSES

    @property
    def refuses(self) -> bool:
        """Whether the container is not moved because of it."""
        return self.severity is Severity.REFUSES


def refusing(findings: Iterable[Finding]) -> list[Finding]:
    """Those because of which a container is not moved."""
    return [finding for finding in findings if finding.refuses]


def warning(findings: Iterable[Finding]) -> list[Finding]:
    """Those that only warn."""
    return [finding for finding in findings if not finding.refuses]


def told(finding: Finding) -> dict[str, str]:
    """A finding as JSON has it."""
    return {
        "id": finding.id,
        "severity": finding.severity.value,
        "what": finding.reason,
        "why": finding.why,
        "reference": finding.reference,
        "fix": finding.fix,
    }


def shown(text: object) -> str:
    """``text`` for a message: short, on one line, without control characters a terminal would obey."""
    printable = ascii(str(text)[:SHOWN_CHARACTERS_MAX])[1:-1]
    return printable if len(printable) <= SHOWN_CHARACTERS_MAX else f"{printable[: SHOWN_CHARACTERS_MAX - 3]}..."
