"""The ``streamhop`` command: parse, ask the daemon, render. Results on stdout, everything else on stderr."""

from __future__ import annotations

from .main import main

__all__ = ["main"]
