"""How late an event loop was in between two looks at its counts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

PERCENTILE = 0.99


def lag_ms(before: Sequence[int], after: Sequence[int], share: float = PERCENTILE) -> float | None:
    """The lag in milliseconds, rounded up, that ``share`` of the waits did not exceed; ``None``: nothing was counted.

    :param before: how many waits were late by 0, 1, 2... whole milliseconds at the first look.
    :param after: the same at the second.
    :raises ValueError: they are not counts of the same.
    """
    counts = [late - early for early, late in zip(before, after, strict=True)]
    if any(count < 0 for count in counts):
        raise ValueError("the counts began again in between")
    total, seen = sum(counts), 0
    for milliseconds, count in enumerate(counts):
        seen += count
        if total and seen >= share * total:
            return float(milliseconds + 1)
    return None
