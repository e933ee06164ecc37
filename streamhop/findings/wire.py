"""Findings as a peer tells them: maps as in JSON, of which nothing is believed before it is checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from streamhop_protocol.errors import LimitError, MalformedError

from .finding import Finding, Severity, told

FINDINGS_MAX = 64
"""Of one answer; SPEC.md has it, too."""

TEXT_BYTES_MAX = 1024

_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")
_TEXTS = ("what", "why", "reference", "fix")
_MORE = "check.more"


def findings_to_wire(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Findings for a message: cut to what it may hold, those that refuse first."""
    ordered = sorted(findings, key=lambda finding: not finding.refuses)
    if len(ordered) > FINDINGS_MAX:
        left_out = ordered[FINDINGS_MAX - 1 :]
        severity = Severity.REFUSES if any(finding.refuses for finding in left_out) else Severity.WARNS
        ordered = [*ordered[: FINDINGS_MAX - 1], Finding(_MORE, f"{len(left_out)} more findings", severity=severity)]
    return [{name: _cut(text) for name, text in told(finding).items()} for finding in ordered]


def findings_from_wire(value: Any) -> list[Finding]:
    """Check a peer's findings; fields that are not known are passed over.

    :raises MalformedError: it is not a list of findings.
    :raises LimitError: there are too many, or a text is too long.
    """
    if not isinstance(value, list):
        raise MalformedError("findings must be a list")
    if len(value) > FINDINGS_MAX:
        raise LimitError(f"{len(value)} findings, at most {FINDINGS_MAX} allowed")
    return [_finding(entry) for entry in value]


def _finding(entry: Any) -> Finding:
    if not isinstance(entry, dict):
        raise MalformedError("a finding is not a map")
    name = entry.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise MalformedError("a finding's id is not one")
    try:
        severity = Severity(entry.get("severity"))
    except ValueError:
        raise MalformedError("a finding neither refuses nor warns") from None
    what, why, reference, fix = (_text(entry.get(field)) for field in _TEXTS)
    return Finding(name, what, fix, why, reference, severity)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedError("a finding lacks a text")
    if len(value.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
        raise LimitError(f"a finding's text has more than {TEXT_BYTES_MAX} bytes")
    return value


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:TEXT_BYTES_MAX].decode("utf-8", "ignore")
