"""Credit windows: how much of a stream may be under way. Pure arithmetic.

After the flow control of HTTP/2 (RFC 9113, 5.2)."""

from __future__ import annotations

from .errors import FlowError
from .limits import FRAME_COST_BYTES_MIN, KIB, STREAM_WINDOW_BYTES

CHUNK_BYTES_FITTING = STREAM_WINDOW_BYTES // 4 - 16 * KIB
"""Of chunks of this size, four fit into a window with what is around them: none has to be cut, and put together again,
because there was not credit for all of it."""


def frame_cost_bytes(wire_bytes: int) -> int:
    """Credit that a DATA frame takes.

    :param wire_bytes: length of the whole frame on the wire.
    """
    return max(FRAME_COST_BYTES_MIN, wire_bytes)


class SendWindow:
    """What this side may still send."""

    __slots__ = ("available_bytes",)

    def __init__(self, size_bytes: int = STREAM_WINDOW_BYTES) -> None:
        self.available_bytes = size_bytes

    def take(self, cost_bytes: int) -> None:
        """Use up credit.

        :raises FlowError: more than there is; a bug of the caller.
        """
        if cost_bytes > self.available_bytes:
            raise FlowError(f"{cost_bytes} bytes to send, {self.available_bytes} of credit left")
        self.available_bytes -= cost_bytes

    def grant(self, size_bytes: int) -> None:
        """Add what the peer gave.

        :raises FlowError: more than a whole window would be available.
        """
        if self.available_bytes + size_bytes > STREAM_WINDOW_BYTES:
            raise FlowError(f"credit of {size_bytes} bytes overflows the window")
        self.available_bytes += size_bytes


class ReceiveWindow:
    """What the peer may still send.

    :param grant_bytes_min: credit is given back in steps of at least this, not frame by frame.
    """

    __slots__ = ("_allowed_bytes", "_grant_bytes_min", "_held_bytes", "_owed_bytes")

    def __init__(self, size_bytes: int = STREAM_WINDOW_BYTES, grant_bytes_min: int = STREAM_WINDOW_BYTES // 16) -> None:
        self._allowed_bytes = size_bytes
        self._held_bytes = 0
        self._owed_bytes = 0
        self._grant_bytes_min = grant_bytes_min

    def received(self, cost_bytes: int) -> None:
        """Count a frame.

        :raises FlowError: the peer sent more than it was given.
        """
        if cost_bytes > self._allowed_bytes:
            raise FlowError(f"the peer sent {cost_bytes} bytes with {self._allowed_bytes} of credit left")
        self._allowed_bytes -= cost_bytes
        self._held_bytes += cost_bytes

    def consumed(self, cost_bytes: int) -> int:
        """Count what was taken out; returns the credit to give to the peer now, or 0.

        :raises FlowError: more than was received; a bug of the caller.
        """
        if cost_bytes > self._held_bytes:
            raise FlowError(f"{cost_bytes} bytes taken out of {self._held_bytes}")
        self._held_bytes -= cost_bytes
        self._owed_bytes += cost_bytes
        if self._owed_bytes < self._grant_bytes_min:
            return 0
        granted, self._owed_bytes = self._owed_bytes, 0
        self._allowed_bytes += granted
        return granted
