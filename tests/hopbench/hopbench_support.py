"""Rows as a run would make them."""

from __future__ import annotations

from typing import Any

from hopbench.figures import Floor, Row
from hopbench.scenarios import STREAMHOP, UNSHAPED, Link


def row(scenario: str = "vision", link: Link = UNSHAPED, who: str = STREAMHOP, **fields: Any) -> Row:
    """A row of one scenario, link and mover."""
    return Row(scenario, link.mbit_per_s, link.rtt_ms, who, **fields)


def floor(zstd_bytes: int) -> Floor:
    """A floor of so many bytes."""
    return Floor(changed_pages=zstd_bytes // 1000, zstd_bytes=zstd_bytes)
