"""What goes wrong in the lab: one line for a person, saying what failed and what to do."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what was asked."""


class UsageError(LabError):
    """What was asked makes no sense: a bad name, a bad unit, an unknown host."""


class WaitError(LabError):
    """A condition was waited for and did not come."""


class LinkOffError(LabError):
    """A link was measured and is not what was asked for."""
