"""What can be done to one frame on its way. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from streamhop_protocol.frames import PREFIX_BYTES, decode_prefix


class Fault(Enum):
    """What becomes of the chosen frame."""

    NONE = "none"
    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    """It goes after the next one on its connection."""
    DELAY = "delay"
    FLIP = "flip"
    """One bit of it is the other way round."""
    TRUNCATE = "truncate"
    """Half of it goes, then its connection is closed."""


@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection."""


Action = Write | Pause | Close


def flipped(frame: bytes, bit: int | None) -> bytes:
    """``frame`` with one bit the other way round.

    :param bit: counted from the first bit of the frame, highest first; None for one in the middle of the payload, or of
        the header where there is no payload.
    :raises ValueError: the frame has no such bit.
    """
    if bit is None:
        prefix = decode_prefix(frame)
        begin = PREFIX_BYTES + (prefix.header_bytes if prefix.payload_bytes else 0)
        bit = 8 * ((begin + len(frame)) // 2) if begin < len(frame) else 0
    if not 0 <= bit < 8 * len(frame):
        raise ValueError(f"the frame has {8 * len(frame)} bits, none of number {bit}")
    changed = bytearray(frame)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


class Culprit:
    """Does the fault to the one frame that it is given, and knows what of it is still to come.

    :param delay_s: for :attr:`Fault.DELAY`.
    :param bit: for :attr:`Fault.FLIP`, see :func:`flipped`.
    """

    def __init__(self, fault: Fault, *, delay_s: float = 0.0, bit: int | None = None) -> None:
        self._fault = fault
        self._delay_s = delay_s
        self._bit = bit
        self._held: tuple[str, bytes] | None = None

    def chosen(self, connection: str, frame: bytes) -> Iterator[Action]:
        """What is done instead of sending ``frame``.

        :raises ValueError: it has no such bit.
        """
        match self._fault:
            case Fault.NONE:
                yield Write(frame)
            case Fault.DUPLICATE:
                yield Write(frame)
                yield Write(frame)
            case Fault.REORDER:
                self._held = connection, frame
            case Fault.DELAY:
                yield Pause(self._delay_s)
                yield Write(frame)
            case Fault.FLIP:
                yield Write(flipped(frame, self._bit))
            case Fault.TRUNCATE:
                yield Write(frame[: (len(frame) + 1) // 2])
                yield Close()
            case Fault.DROP:
                return

    def other(self, connection: str, frame: bytes) -> Iterator[Action]:
        """What is done with any other frame."""
        yield Write(frame)
        if self._held is not None and self._held[0] == connection:
            held, self._held = self._held, None
            yield Write(held[1])

    def left(self) -> tuple[str, bytes] | None:
        """At the end: what was held back and nothing came after."""
        held, self._held = self._held, None
        return held
