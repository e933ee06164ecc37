"""What the command exits with when it is not a move that says so."""

from __future__ import annotations

FAILED = 1
USAGE = 2
INTERRUPTED = 130
"""128 and SIGINT, as a shell has it."""

TERMINATED = 143
"""128 and SIGTERM."""
