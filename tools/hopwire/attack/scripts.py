"""Frames made by hand: what a script may say, and the bytes that come of it. Pure.

A script is a list of steps, each a map. As JSON it is a file; a Python file has a function ``steps`` that returns or
yields them. A step is one of

    {"session": {"connections": 1, "name": "x"}}      HELLO, WELCOME and every JOIN as an honest dialer does them;
                                                      connections are called control, p1, p2, ...
    {"connect": "c", "preamble": true}                open a connection by itself
    {"type": "PING", "on": "control", "fields": {"number": 7}}     send a frame; more keys: stream, flags, payload,
                                                      header (instead of fields), header_len, payload_len (lies)
    {"raw": {"hex": "00ff"}, "on": "control"}         send bytes
    {"wait": "PONG", "seconds": 5}                    until the daemon has sent one more of these, or until closed
    {"pause": 0.5}                                    send nothing
    {"close": "p1"}                                   close a connection

Bytes are written ``{"hex": "00ff"}``, ``{"text": "abc"}``, ``{"zeros": 1000}``, or ``{"repeat": BYTES, "times": 3}``;
``"$move"``, ``"$session"`` and ``"$token"`` stand for a move's ID, drawn once, and what WELCOME has said. Fields are
not checked: what no peer would send is what scripts are for.
"""

from __future__ import annotations

import json
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hopwire.errors import WireError
from hopwire.events import TYPE_NUMBERS
from streamhop_protocol.frames import FLAG_MORE, FLAG_REQUIRED, PREFIX_BYTES, Prefix
from streamhop_protocol.messages import MOVE_ID_BYTES
from streamhop_protocol.signals import Welcome
from streamhop_protocol.wirepack import pack

STEPS_MAX = 100_000
BYTES_MAX = 64 * 1024 * 1024
NESTING_MAX = 64
SCRIPT_BYTES_MAX = 64 * 1024 * 1024
_FLAGS = {"required": FLAG_REQUIRED, "more": FLAG_MORE}
_KINDS = ("session", "connect", "type", "raw", "wait", "pause", "close")
_KEYS = {
    "session": set(),
    "connect": {"preamble"},
    "type": {"on", "stream", "flags", "fields", "header", "payload", "header_len", "payload_len"},
    "raw": {"on"},
    "wait": {"seconds"},
    "pause": set(),
    "close": set(),
}
WAIT_S_DEFAULT = 5.0
SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a script, its shape checked.

    :param kind: one of those in the module's text.
    :param value: what the kind's key holds.
    :param more: the other keys.
    """

    number: int
    kind: str
    value: Any
    more: Mapping[str, Any]

    def fail(self, why: str) -> WireError:
        """An error that says which step it is."""
        return WireError(f"step {self.number}: {why}")


@dataclass(slots=True)
class Names:
    """What the names that begin with ``$`` stand for."""

    move: bytes = field(default_factory=lambda: secrets.token_bytes(MOVE_ID_BYTES))
    welcome: Welcome | None = None

    def get(self, name: str) -> bytes | None:
        """The bytes; None if the name stands for nothing yet."""
        if name == "$move":
            return self.move
        if self.welcome is None:
            return None
        return {"$session": self.welcome.session, "$token": self.welcome.token}.get(name)


def parse_json(text: str | bytes) -> list[Step]:
    """The steps of a script in JSON.

    :raises WireError: it is none; the text says where.
    """
    if len(text) > SCRIPT_BYTES_MAX:
        raise WireError(f"longer than {SCRIPT_BYTES_MAX} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    return check_steps(value)


def check_steps(value: object) -> list[Step]:
    """Check the shape of every step.

    :raises WireError: of the first that has none.
    """
    if not isinstance(value, list):
        raise WireError("a script is a list of steps")
    if len(value) > STEPS_MAX:
        raise WireError(f"a script of {len(value)} steps; at most {STEPS_MAX}")
    return [_step(number, entry) for number, entry in enumerate(value, 1)]


def _step(number: int, entry: object) -> Step:
    if not isinstance(entry, dict):
        raise WireError(f"step {number}: a {type(entry).__name__}, not a map")
    kinds = [kind for kind in _KINDS if kind in entry]
    if len(kinds) != 1:
        raise WireError(f"step {number}: it needs exactly one of {', '.join(_KINDS)}")
    (kind,) = kinds
    more = {key: item for key, item in entry.items() if key != kind}
    if unknown := sorted(set(map(str, more)) - _KEYS[kind]):
        raise WireError(f"step {number}: {unknown[0]!r} means nothing beside {kind!r}")
    step = Step(number, kind, entry[kind], more)
    _check(step)
    return step


def _check(step: Step) -> None:
    match step.kind:
        case "wait" | "connect" | "close":
            if not isinstance(step.value, str):
                raise step.fail(f"{step.kind} takes a name")
        case "pause":
            seconds(step, step.value)
        case "session":
            if not isinstance(step.value, dict) or not set(step.value) <= {"connections", "name"}:
                raise step.fail("session takes a map of connections and name")
    if "seconds" in step.more:
        seconds(step, step.more["seconds"])


def seconds(step: Step, value: object) -> float:
    """A length of time.

    :raises WireError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SECONDS_MAX:
        raise step.fail(f"seconds must be between 0 and {SECONDS_MAX:g}")
    return float(value)


def frame_of(step: Step, names: Names) -> bytes:
    """The bytes of a step that sends a frame.

    :raises WireError: a value that means nothing, or does not fit into a prefix.
    """
    more = step.more
    payload = bytes_of(step, more["payload"], names) if "payload" in more else b""
    if "header" in more:
        header = bytes_of(step, more["header"], names)
    else:
        fields = resolved(step, more.get("fields", {}), names)
        try:
            header = pack(fields) if fields else b""
        except (ValueError, TypeError, OverflowError) as error:
            raise step.fail(f"fields cannot be packed: {error}") from error
    try:
        prefix = Prefix(
            _type(step),
            _flags(step),
            more.get("stream", 0),
            more.get("header_len", len(header)),
            more.get("payload_len", len(payload)),
        ).pack()
    except struct.error as error:
        raise step.fail(f"a number that does not fit into a prefix of {PREFIX_BYTES} bytes: {error}") from error
    return prefix + header + payload


def _type(step: Step) -> int:
    value = step.value
    if isinstance(value, str):
        number = TYPE_NUMBERS.get(value.upper())
        if number is None:
            raise step.fail(f"{value!r} is no type of frames; known are {', '.join(TYPE_NUMBERS)}, or a number")
        return number
    if isinstance(value, bool) or not isinstance(value, int):
        raise step.fail("type must be a name or a number")
    return value


def _flags(step: Step) -> int:
    value = step.more.get("flags", ["required"])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, list) or not all(each in _FLAGS for each in value):
        raise step.fail(f"flags must be a number, or a list of {', '.join(_FLAGS)}")
    return sum(_FLAGS[each] for each in set(value))


def resolved(step: Step, value: Any, names: Names, depth_left: int = NESTING_MAX) -> Any:
    """``value`` with bytes in place of what stands for them."""
    if depth_left == 0:
        raise step.fail(f"nested deeper than {NESTING_MAX}")
    if isinstance(value, str) and value.startswith("$"):
        return bytes_of(step, value, names)
    if isinstance(value, dict):
        if _stands_for_bytes(value):
            return bytes_of(step, value, names)
        return {key: resolved(step, item, names, depth_left - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(step, item, names, depth_left - 1) for item in value]
    return value


def _stands_for_bytes(value: dict[Any, Any]) -> bool:
    return set(value) in ({"hex"}, {"text"}, {"zeros"}, {"repeat", "times"})


def bytes_of(step: Step, value: Any, names: Names) -> bytes:
    """The bytes that a value stands for.

    :raises WireError: it stands for none, or for too many.
    """
    match value:
        case bytes():
            return value
        case str():
            found = names.get(value)
            if found is None:
                raise step.fail(f"{value!r} stands for no bytes here: $move, and after WELCOME $session and $token do")
            return found
        case {"hex": str() as digits}:
            try:
                return bytes.fromhex(digits)
            except ValueError as error:
                raise step.fail(f"not hexadecimal: {error}") from error
        case {"text": str() as text}:
            return text.encode("utf-8", "surrogatepass")
        case {"zeros": int() as count} if 0 <= count <= BYTES_MAX:
            return bytes(count)
        case {"repeat": part, "times": int() as times} if times >= 0:
            once = bytes_of(step, part, names)
            if len(once) * times <= BYTES_MAX:
                return once * times
    raise step.fail("bytes are written as hex, text, zeros, or repeat and times, and are at most 64 MiB")
