"""What can go wrong with a recording, a script or a target. Each text is for the user, in one line."""

from __future__ import annotations


class WireError(Exception):
    """Anything that is expected to go wrong; the text says what, and where."""


class FlowError(WireError):
    """A recording that cannot be read on: not one of ours, damaged, or cut off."""


class FlowTruncatedError(FlowError):
    """A recording that ends in the middle: it is still being written, or its writer was killed."""


class FilterError(WireError):
    """A filter that cannot be understood; the text shows where."""
