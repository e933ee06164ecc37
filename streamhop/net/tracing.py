"""What a daemon's trace tells of connections: each frame with its sizes and what its header says, never a payload."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from streamhop.telemetry.trace import Trace
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.frames import (
    PREAMBLE,
    PREFIX_BYTES,
    Frame,
    FrameType,
    Prefix,
    decode_prefix,
    is_known,
    is_message,
)
from streamhop_protocol.limits import CONTROL_PAYLOAD_BYTES_MAX
from streamhop_protocol.messages import MESSAGE_TYPES
from streamhop_protocol.wirepack import unpack

_MESSAGE_FIELDS = frozenset({"move", "epoch", "code", "reason", "state"})
_SIGNAL_FIELDS = frozenset(
    {
        "name", "version_min", "version_max", "version", "connections", "streams_max", "session", "number", "code",
        "reason", "kind", "seq", "codec", "raw_bytes", "size_bytes", "attributes",
    }
)  # fmt: skip
"""Closed lists: no token, no manifest, no seed of hashes, nothing that describes a chunk."""

_ATTRIBUTES_BYTES_MAX = 2048
"""Of a header whose attributes are told: a peer's may be long, and mean nothing."""


class WireTrace:
    """Gives every connection of a daemon a number."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._numbers = itertools.count(1)

    def connection(self) -> ConnectionTrace:
        """For a connection that is being made."""
        return ConnectionTrace(self.trace, next(self._numbers))


class ConnectionTrace:
    """Tells of one connection."""

    def __init__(self, trace: Trace, number: int) -> None:
        self.number = number
        self._trace = trace
        self._greeted = False
        self._payload_left_bytes = 0
        """Bytes of a payload whose frame has begun in an earlier buffer."""
        self._broken = False

    def made(self, *, dialer: bool, here: tuple[str, int], peer: tuple[str, int], tls: bool) -> None:
        """It is there."""
        role = "dialer" if dialer else "acceptor"
        places = {"here": f"{here[0]}:{here[1]}", "peer": f"{peer[0]}:{peer[1]}"}
        self._trace.emit("wire:connection_made", connection=self.number, role=role, **places, tls=tls)

    def lost(self, reason: str) -> None:
        """It is gone."""
        self._trace.emit("wire:connection_lost", connection=self.number, reason=reason)

    def broken(self, error: ProtocolError) -> None:
        """The peer broke the protocol; only the first time counts."""
        if not self._broken:
            self._broken = True
            self._trace.emit("wire:broken", connection=self.number, code=error.code, reason=str(error))

    def received(self, frame: Frame) -> None:
        """A whole frame has arrived."""
        prefix = Prefix(frame.type, frame.flags, frame.stream, len(frame.header), len(frame.payload))
        self._frame("wire:frame_received", prefix, frame.header or _message(prefix, frame.payload))

    def sent(self, buffers: Iterable[bytes | memoryview]) -> None:
        """Buffers were handed to the kernel: frames, each with prefix and header in one buffer."""
        for buffer in buffers:
            view = memoryview(buffer).cast("B") if buffer else memoryview(b"")
            at = min(self._payload_left_bytes, len(view))
            self._payload_left_bytes -= at
            if not self._greeted and len(view) >= len(PREAMBLE):
                self._greeted = True
                at = len(PREAMBLE)
            while at < len(view):
                at = self._sent_one(view, at)

    def _sent_one(self, view: memoryview, at: int) -> int:
        """One frame; returns where the next begins in the buffer."""
        prefix = decode_prefix(view, at)
        header_at = at + PREFIX_BYTES
        payload_at = header_at + prefix.header_bytes
        end = payload_at + prefix.payload_bytes
        said = view[header_at:payload_at] or _message(prefix, view[payload_at:end])
        self._frame("wire:frame_sent", prefix, said)
        self._payload_left_bytes = max(0, end - len(view))
        return min(end, len(view))

    def _frame(self, name: str, prefix: Prefix, said: bytes | memoryview) -> None:
        self._trace.emit(
            name,
            connection=self.number,
            type=_name(prefix.type),
            stream=prefix.stream,
            header=prefix.header_bytes,
            payload=prefix.payload_bytes,
            flags=prefix.flags,
            fields=_fields(prefix, said),
        )


def _name(number: int) -> str:
    if is_message(number):
        return MESSAGE_TYPES[number].__name__.upper()
    return FrameType(number).name if is_known(number) else f"{number:#04x}"


def _message(prefix: Prefix, payload: bytes | memoryview) -> bytes | memoryview:
    """A message that was too long for a header; else nothing."""
    return payload if is_message(prefix.type) else b""


def _fields(prefix: Prefix, said: bytes | memoryview) -> dict[str, Any]:
    if not said or not is_known(prefix.type):
        return {}
    try:
        found = unpack(said, bytes_max=CONTROL_PAYLOAD_BYTES_MAX)
    except ProtocolError:  # whoever decodes it says so
        return {}
    if not isinstance(found, dict):
        return {}
    told = _MESSAGE_FIELDS if is_message(prefix.type) else _SIGNAL_FIELDS
    if prefix.header_bytes > _ATTRIBUTES_BYTES_MAX:
        told = told - {"attributes"}
    return {name: value for name, value in found.items() if name in told}
