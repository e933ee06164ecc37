"""A limit on the rate at which payload leaves: pure arithmetic, with the time passed in."""

from __future__ import annotations

from streamhop.config import LIMIT_BYTES_PER_S_MIN

from .link import FRAGMENT_BYTES_MIN

BURST_S = 0.25
"""After a pause as much may leave at once as in this time: with one frame more that is within 5 % over 10 s."""

assert FRAGMENT_BYTES_MIN <= LIMIT_BYTES_PER_S_MIN * BURST_S


CLOCK_S = 1e-6
"""Resolution that is expected of the clock."""


class RateLimit:
    """A token bucket that may be overdrawn by one frame: whoever overdraws it has to wait until it is level again.

    :param bytes_per_s: at least ``LIMIT_BYTES_PER_S_MIN``.
    :param now: monotonic seconds, as in all methods.
    """

    def __init__(self, bytes_per_s: float, now: float) -> None:
        if not bytes_per_s >= LIMIT_BYTES_PER_S_MIN:
            raise ValueError(f"a limit of {bytes_per_s} B/s is below {LIMIT_BYTES_PER_S_MIN}")
        self.bytes_per_s = bytes_per_s
        self._burst_bytes = bytes_per_s * BURST_S
        self._level_bytes = self._burst_bytes
        self._filled_at = now

    def delay_s(self, now: float) -> float:
        """Seconds until the next frame may leave; 0 if it may now."""
        self._level_bytes = min(self._burst_bytes, self._level_bytes + (now - self._filled_at) * self.bytes_per_s)
        self._filled_at = now
        delay_s = -self._level_bytes / self.bytes_per_s
        # What a sum of floats leaves over is no time that a clock could show to pass.
        return delay_s if delay_s > CLOCK_S else 0.0

    def take(self, size_bytes: int) -> None:
        """A frame has left, of ``size_bytes``."""
        self._level_bytes -= size_bytes
