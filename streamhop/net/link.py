"""Pure estimates of a link from what a session sees of it."""

from __future__ import annotations

from collections import deque

RTT_MEMORY_S = 60.0
SAMPLES = 8
SAMPLE_S_MIN = 0.1

QUEUE_S = 0.010
"""What is handed to the kernel at once should leave within about this time: something more urgent may come."""

FRAGMENT_BYTES_MIN = 8 * 1024
FRAGMENT_BYTES_MAX = 1024 * 1024
FRAGMENT_BYTES_DEFAULT = 64 * 1024
PACE_MAX = 1024
BUSY_SHARE_MIN = 0.5
"""Compressors that are busier than this are what the session waits for, unless it is the link."""

IDLE_SHARE_MAX = 0.1

UNSENT_BYTES_MIN = 16 * 1024
UNSENT_BYTES_MAX = 512 * 1024


class RttWindow:
    """The least round trip of the last minute. The least is the link; the rest is queues."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()
        self._last: float | None = None

    def add(self, now: float, rtt_s: float) -> None:
        """Count one measured round trip."""
        while self._samples and self._samples[-1][1] >= rtt_s:
            self._samples.pop()
        self._samples.append((now, rtt_s))
        self._last = rtt_s

    def minimum_s(self, now: float) -> float | None:
        """Seconds, or None before the first sample."""
        while len(self._samples) > 1 and self._samples[0][0] < now - RTT_MEMORY_S:
            self._samples.popleft()
        return self._samples[0][1] if self._samples else None


class GoodputEstimate:
    """Bytes a second that the link delivers, from how fast the peer's kernel acknowledges.

    An interval tells about the link only if there was always something waiting to be sent. The first such interval
    after a pause is left out: TCP may still be finding its speed. The estimate is the median of the last few
    samples: acknowledgements come in bursts, and one stall is not a slower link.
    """

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self._was_limited = False
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._floor_bytes_per_s = 0.0

    def update(self, now: float, acked_bytes: int, *, limited: bool) -> None:
        """Tell how much was acknowledged in all, and whether the link was the limit ever since the last update."""
        if self._began is None:
            self._began = now, acked_bytes
            return
        began, acked_before = self._began
        if now - began < SAMPLE_S_MIN:
            if not limited:
                self._was_limited = False
            return
        rate = (acked_bytes - acked_before) / (now - began)
        self._floor_bytes_per_s = max(self._floor_bytes_per_s, rate)
        if limited and self._was_limited and rate > 0:
            self._samples.append(rate)
        self._was_limited = limited
        self._began = now, acked_bytes

    @property
    def bytes_per_s(self) -> float | None:
        """The link's rate, or None if it was never the limit."""
        if not self._samples:
            return None
        return sorted(self._samples)[len(self._samples) // 2]

    @property
    def at_least_bytes_per_s(self) -> float | None:
        """What the link is known to do at least, even if something else was the limit; None before anything crossed."""
        return self.bytes_per_s or self._floor_bytes_per_s or None


class CodecPace:
    """The rate for which chunks are to be compressed.

        It is the link's while the link is what the session waits for. Each interval in which the link waited for the
    compressors doubles it, so that a lighter codec is chosen; each in which it was the limit itself, or the
    compressors had next to nothing to do, halves it again.
    """

    def __init__(self) -> None:
        self._factor = 1

    def update(self, *, link_limited: bool, packing_share: float) -> None:
        """Tell what the last interval waited for.

        :param packing_share: the part of their time that the compressors were busy.
        """
        if link_limited or packing_share < IDLE_SHARE_MAX:
            self._factor = max(1, self._factor // 2)
        elif packing_share > BUSY_SHARE_MIN:
            self._factor = min(PACE_MAX, self._factor * 2)

    def bytes_per_s(self, link_bytes_per_s: float | None) -> float | None:
        """What to choose a codec by; None if nothing is known of the link."""
        return None if link_bytes_per_s is None else link_bytes_per_s * self._factor


def fragment_bytes(link_bytes_per_s: float | None) -> int:
    """Payload of a frame: a larger one costs less work, a smaller one lets urgent content in earlier.

    The work is what limits a session on a fast link: with 1 MiB rather than 64 KiB, both ends need two thirds of the
    CPU time, measured with TLS and chunks of 1 MiB.
    """
    if link_bytes_per_s is None:
        return FRAGMENT_BYTES_DEFAULT
    return round(min(FRAGMENT_BYTES_MAX, max(FRAGMENT_BYTES_MIN, link_bytes_per_s * QUEUE_S)))


def grown_fragment_bytes(size_bytes: int, left_in_s: float) -> int:
    """Payload of the next frame while nothing is known of the link.

    Until its first measurement a fast link would carry frames that cost more work than their content. A slow one takes
    no more at once than the kernel does, measured or not.

    :param size_bytes: payload of a frame up to now.
    :param left_in_s: how long the last frame took to go to the kernel as a whole, after it did not at once.
    """
    return min(FRAGMENT_BYTES_MAX, 2 * size_bytes) if left_in_s < QUEUE_S / 2 else size_bytes


def unsent_bytes(link_bytes_per_s: float) -> int:
    """Bytes that the kernel may hold unsent of one connection."""
    return round(min(UNSENT_BYTES_MAX, max(UNSENT_BYTES_MIN, link_bytes_per_s * QUEUE_S)))
