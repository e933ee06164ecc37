"""Reads the trace of a daemon (``streamhop daemon --trace``) as what was seen on the wire. Pure.

The format is that of :mod:`streamhop.telemetry.trace`: JSON, one event a line, first one that says what it is. Frames
have their sizes and the fields of their headers, never a payload.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streamhop_protocol.connection import Received
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.fields import from_map
from streamhop_protocol.frames import PREFIX_BYTES, FrameType, Prefix, is_message
from streamhop_protocol.limits import CONTROL_PAYLOAD_BYTES_MAX
from streamhop_protocol.signals import JOIN_TOKEN_BYTES, SIGNAL_TYPES

from .errors import FlowError, FlowTruncatedError
from .events import TYPE_NUMBERS, BrokenSeen, ConnectionSeen, EndSeen, FrameSeen, NoteSeen, Seen, blank
from .flow.reader import READ_BYTES, Source
from .roster import CONNECTIONS_KEPT_MAX, Recent

TRACE_BEGINS = b"{"
TRACE_VERSION = 1
LINE_BYTES_MAX = 256 * 1024
NESTING_MAX = 32
_NUMBER_MAX = (1 << 32) - 1
_SECONDS_MAX = 1e9


class _DamagedError(Exception):
    """A line that is none of a trace's; the text says why."""


def _lines(source: Source, wait_for_more: Callable[[], bool] | None) -> Iterator[bytes]:
    """All lines that end."""
    left = b""
    while True:
        data = source.read(READ_BYTES)
        if not data:
            if wait_for_more is not None and wait_for_more():
                continue
            break
        *lines, left = (left + data).split(b"\n")
        if len(left) > LINE_BYTES_MAX or any(len(line) > LINE_BYTES_MAX for line in lines):
            raise FlowError(f"damaged: a line of more than {LINE_BYTES_MAX} bytes")
        yield from lines
    if left:
        raise FlowTruncatedError("cut off: the trace ends in the middle of a line")


def seen_in_trace(source: Source, wait_for_more: Callable[[], bool] | None = None) -> Iterator[Seen]:
    """Everything that the trace tells, in order.

    :raises FlowError: it is no trace, or damaged; :class:`FlowTruncatedError` if it ends in the middle of a line.
    """
    reading = _Reading()
    for number, line in enumerate(_lines(source, wait_for_more), 1):
        try:
            seen = reading.take(_object(line), first=number == 1)
        except _DamagedError as damage:
            raise FlowError(f"damaged at line {number}: {damage}") from None
        if seen is not None:
            yield seen
    if not reading.begun:
        raise FlowTruncatedError("cut off: the trace ends before it says what it is")


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise _DamagedError("not JSON") from None
    if not isinstance(value, dict):
        raise _DamagedError("not an object")
    _check_nesting(value, NESTING_MAX)
    return value


def _check_nesting(value: dict[str, Any] | list[Any], depth_left: int) -> None:
    """JSON may be nested as deep as its parser goes; whoever shows it goes less deep."""
    if depth_left == 0:
        raise _DamagedError(f"nested deeper than {NESTING_MAX}")
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, dict | list):
            _check_nesting(child, depth_left - 1)


class _Reading:
    """Makes events of lines. Which side of each connection the daemon is on is said once."""

    def __init__(self) -> None:
        self.begun = False
        self._dialed: Recent[int, bool] = Recent(CONNECTIONS_KEPT_MAX)

    def take(self, line: Mapping[str, Any], *, first: bool) -> Seen | None:
        if first:
            if line.get("trace") != "streamhop":
                raise _DamagedError("it is no trace of streamhop")
            if line.get("version") != TRACE_VERSION:
                raise _DamagedError(
                    f"a trace of version {line.get('version')!r:.20}; this program reads {TRACE_VERSION}"
                )
            self.begun = True
            return None
        name, data = line.get("name"), line.get("data")
        if not isinstance(name, str) or not isinstance(data, dict):
            raise _DamagedError("an event without name or data")
        at_ns = _at_ns(line.get("time"))
        match name:
            case "wire:connection_made":
                return self._connection(at_ns, data)
            case "wire:frame_sent" | "wire:frame_received":
                return self._frame(at_ns, data, sent=name == "wire:frame_sent")
            case "wire:connection_lost":
                return EndSeen(at_ns, connection := _number(data, "connection"), not self._dialed.get(connection))
            case "wire:broken":
                connection = _number(data, "connection")
                from_dialer = not self._dialed.get(connection)
                return BrokenSeen(at_ns, connection, from_dialer, _text(data, "code"), _text(data, "reason"))
            case _:
                return NoteSeen(at_ns, name, {key: _bytes(value) for key, value in data.items()})

    def _connection(self, at_ns: int, data: Mapping[str, Any]) -> Seen:
        connection, dialed = _number(data, "connection"), data.get("role") == "dialer"
        self._dialed.put(connection, dialed)
        here, there = _text(data, "here"), _text(data, "peer")
        dialer, acceptor = (here, there) if dialed else (there, here)
        return ConnectionSeen(at_ns, connection, dialer, acceptor, data.get("tls") is True)

    def _frame(self, at_ns: int, data: Mapping[str, Any], *, sent: bool) -> Seen:
        connection = _number(data, "connection")
        prefix = Prefix(
            _type(data), _number(data, "flags", 255), _number(data, "stream"), _number(data, "header", 0xFFFF),
            _number(data, "payload", CONTROL_PAYLOAD_BYTES_MAX),
        )  # fmt: skip
        fields = data.get("fields", {})
        if not isinstance(fields, dict):
            raise _DamagedError("fields are no object")
        from_dialer = sent == bool(self._dialed.get(connection))
        said = {str(name): _bytes(value) for name, value in fields.items()}
        return FrameSeen(at_ns, connection, from_dialer, prefix, _received(prefix, said), said=said)


def _received(prefix: Prefix, said: Mapping[str, Any]) -> Received | None:
    """The frame as its receiver decoded it, if the trace has all that takes; messages are told in part only."""
    cls = SIGNAL_TYPES.get(FrameType(prefix.type)) if not is_message(prefix.type) and prefix.type in _SIGNALS else None
    if cls is None:
        return None
    try:
        body = from_map(cls, {"token": bytes(JOIN_TOKEN_BYTES), **said})
    except ProtocolError:
        return None
    wire_bytes = PREFIX_BYTES + prefix.header_bytes + prefix.payload_bytes
    return Received(body, prefix.stream, blank(prefix.payload_bytes), bool(prefix.flags & 2), wire_bytes)


_SIGNALS = frozenset(frame_type.value for frame_type in SIGNAL_TYPES)


def _bytes(value: Any) -> Any:
    """Undo ``{"hex": ...}``."""
    if isinstance(value, dict) and value.keys() == {"hex"} and isinstance(value["hex"], str):
        try:
            return bytes.fromhex(value["hex"])
        except ValueError:
            raise _DamagedError("bytes that are not hexadecimal") from None
    return value


def _at_ns(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _DamagedError("an event without a time")
    if not 0 <= value <= _SECONDS_MAX:
        raise _DamagedError("a time that cannot be")
    return round(value * 1e9)


def _number(data: Mapping[str, Any], name: str, most: int = _NUMBER_MAX) -> int:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise _DamagedError(f"{name} is no number between 0 and {most}")
    return value


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise _DamagedError(f"{name} is no text")
    return value


def _type(data: Mapping[str, Any]) -> int:
    name = _text(data, "type")
    number = TYPE_NUMBERS.get(name)
    if number is None:
        try:
            number = int(name, 16)
        except ValueError:
            number = -1
    if not 0 <= number <= 255:
        raise _DamagedError("type is none")
    return number
