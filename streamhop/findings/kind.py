"""What all findings of one kind have in common."""

from __future__ import annotations

from dataclasses import dataclass

from .finding import Severity


@dataclass(frozen=True, slots=True)
class Kind:
    """See the fields of :class:`.Finding`."""

    why: str
    reference: str = ""
    severity: Severity = Severity.REFUSES


CRIU = "https://criu.org"
CRIU_ISSUE = "https://github.com/checkpoint-restore/criu/issues/"
CRIU_LIMITS = f"{CRIU}/What_cannot_be_checkpointed"
