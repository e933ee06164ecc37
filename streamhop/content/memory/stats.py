"""What a pass over memory found."""

from __future__ import annotations

from dataclasses import dataclass

from streamhop_protocol.page_batches import LIKE, XOR, ZERO

from .encoding import Kinds
from .table import Verdict


@dataclass(slots=True)
class RoundStats:
    """Counts of one round, or of the comparison with the final image; all in pages."""

    scanned_pages: int = 0
    """Read and hashed."""

    changed_pages: int = 0
    """Not what the target holds; pages seen for the first time included."""

    new_pages: int = 0
    """Of those changed, seen for the first time."""

    deferred_pages: int = 0
    """Of those changed, left to the final stage because they change all the time."""

    sent_pages: int = 0
    """Changed and yielded."""

    zero_pages: int = 0
    """Of those sent, the ones that hold zeros alone and cost next to nothing."""

    difference_pages: int = 0
    """Of those sent, the ones that went as the difference to what was sent before."""

    like_pages: int = 0
    """Of those sent, the ones that another process has too, for which that one was named."""

    def count(self, verdict: Verdict, kinds: Kinds) -> None:
        """Add the pages of one visit, and how they were sent."""
        self.changed_pages += verdict.changed
        self.new_pages += verdict.new
        self.deferred_pages += verdict.deferred
        self.sent_pages += int(verdict.send.sum())
        self.zero_pages += int((kinds == ZERO).sum())
        self.difference_pages += int((kinds == XOR).sum())
        self.like_pages += int((kinds == LIKE).sum())
