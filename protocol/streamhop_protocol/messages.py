"""The messages of a move, and the kinds of streams that carry its content.

A message is one frame on the control connection. ``decode_message`` is the only way in for a peer's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

from .errors import LimitError, MalformedError, UnexpectedError
from .fields import binary, from_map, integer, mapping, optional, pairs, text, texts, to_map
from .limits import (
    CODE_BYTES_MAX,
    CONTROL_PAYLOAD_BYTES_MAX,
    CONTROL_TEXT_BYTES_MAX,
    EPOCH_MAX,
    MESSAGE_HEADER_BYTES_MAX,
    NAME_BYTES_MAX,
    OTHER_REASONS_MAX,
)
from .wirepack import pack, unpack

MOVE_ID_BYTES = 16
DIGEST_BYTES = 32


class StreamKind(Enum):
    """What a stream carries; the value is its name on the wire."""

    LAYER = "layer"
    TREE = "tree"
    MEMORY = "memory"
    FINAL = "final"
    HELD = "held"
    """The only one from the target to the source."""

    @property
    def priority(self) -> int:
        """Lower goes first: what is sent while the container is frozen must wait for nothing."""
        return _PRIORITIES[self]


_PRIORITIES = {
    StreamKind.FINAL: 0,
    StreamKind.HELD: 0,
    StreamKind.MEMORY: 1,
    StreamKind.TREE: 2,
    StreamKind.LAYER: 3,
}


MoveId = Annotated[bytes, binary(MOVE_ID_BYTES)]
Epoch = Annotated[int, integer(1, EPOCH_MAX)]
Digest = Annotated[bytes, binary(DIGEST_BYTES)]
Code = Annotated[str, text(CODE_BYTES_MAX, empty=False)]
Prose = Annotated[str, text(CONTROL_TEXT_BYTES_MAX)]
Reasons = Annotated[list[list[str]] | None, optional(pairs(CONTROL_TEXT_BYTES_MAX, OTHER_REASONS_MAX))]
Names = Annotated[list[str], texts(NAME_BYTES_MAX)]
Attributes = Annotated[dict[str, Any], mapping()]


@dataclass(frozen=True, slots=True)
class Message:
    """Anything that travels as a message on the control connection."""


@dataclass(frozen=True, slots=True)
class MoveMessage(Message):
    """A message about one move."""

    move: MoveId


@dataclass(frozen=True, slots=True)
class Offer(MoveMessage):
    """Source: here is a container; may it come?

    Of a higher epoch than an earlier one about the same move: that attempt is over, this is another.
    """

    epoch: Epoch
    manifest: Attributes
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accept(MoveMessage):
    """Target: yes; ``lacks`` and ``reused`` are digests of layers."""

    epoch: Epoch
    lacks: Names
    reused: Names
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refuse(MoveMessage):
    """Target: no, why not, and what would change that. Nothing was made for the move.

    ``others`` has what else is in the way, pairs of reason and fix; ``attributes`` the findings behind all of it.
    """

    epoch: Epoch
    code: Code
    reason: Prose
    fix: Prose
    others: Reasons = None
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready(MoveMessage):
    """Target: everything but the last difference is in place."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Prepare(MoveMessage):
    """Source: the final stage is under way; restore the image of this digest behind the gate."""

    epoch: Epoch
    image_digest: Digest
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared(MoveMessage):
    """Target: restored, and durable; it waits for RELEASE."""

    epoch: Epoch
    image_digest: Digest
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed(MoveMessage):
    """Target: it cannot go on, has cleared up, and will never start the container."""

    epoch: Epoch
    code: Code
    reason: Prose
    fix: Prose


@dataclass(frozen=True, slots=True)
class Release(MoveMessage):
    """Source: the container is yours. The point of commitment."""

    epoch: Epoch
    image_digest: Digest


@dataclass(frozen=True, slots=True)
class Started(MoveMessage):
    """Target: it runs here."""

    epoch: Epoch
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finish(MoveMessage):
    """Source: the old container is gone; the move is over."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Abort(MoveMessage):
    """Source: the move is off; clear up."""

    epoch: Epoch
    code: Code
    reason: Prose


@dataclass(frozen=True, slots=True)
class Aborted(MoveMessage):
    """Target: cleared up after ABORT; it will never start the container."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Query(MoveMessage):
    """Source: where does this move stand?"""


@dataclass(frozen=True, slots=True)
class State(MoveMessage):
    """Target: the state in its journal."""

    epoch: Epoch
    state: Code
    attributes: Attributes = field(default_factory=dict)


MESSAGE_TYPES: dict[int, type[MoveMessage]] = {
    0x20: Offer,
    0x21: Accept,
    0x22: Refuse,
    0x23: Ready,
    0x24: Prepare,
    0x25: Prepared,
    0x26: Failed,
    0x27: Release,
    0x28: Started,
    0x29: Finish,
    0x2A: Abort,
    0x2B: Aborted,
    0x2C: Query,
    0x2D: State,
}
"""Closed: a number that is not here is no message of this version."""

_NUMBERS = {cls: number for number, cls in MESSAGE_TYPES.items()}


def encode_message(message: Message) -> tuple[int, bytes, bytes]:
    """Type number, header and payload of the frame that says ``message``.

    :raises ProtocolError: a field that the peer would refuse.
    """
    number = _NUMBERS.get(type(message))  # type: ignore[arg-type]  # a class that is not there gives None
    if number is None:
        raise UnexpectedError(f"{type(message).__name__} is no message of this protocol")
    packed = pack(to_map(message))
    if len(packed) <= MESSAGE_HEADER_BYTES_MAX:
        return number, packed, b""
    if len(packed) > CONTROL_PAYLOAD_BYTES_MAX:
        raise LimitError(
            f"{type(message).__name__} of {len(packed)} bytes, at most {CONTROL_PAYLOAD_BYTES_MAX} allowed"
        )
    return number, b"", packed


def decode_message(number: int, header: bytes, payload: bytes | memoryview) -> MoveMessage:
    """The message that a frame holds.

    :raises ProtocolError: no such message, header and payload both used, or content out of bounds.
    """
    cls = MESSAGE_TYPES.get(number)
    if cls is None:
        raise UnexpectedError(f"frame type {number:#04x} is no message")
    if header and payload:
        raise MalformedError(f"{cls.__name__} has both a header and a payload")
    return from_map(cls, unpack(header or payload, bytes_max=CONTROL_PAYLOAD_BYTES_MAX))
