"""One JSON object a line, for programs. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from hopwire.events import BrokenSeen, ConnectionSeen, EndSeen, FrameSeen, NoteSeen, Seen
from hopwire.roster import Roster

_SEEN = {ConnectionSeen: "connection", BrokenSeen: "violation", EndSeen: "end", NoteSeen: "note", FrameSeen: "frame"}


def json_line(seen: Seen, roster: Roster, *, hex_bytes_max: int = 0) -> str:
    """One event; ASCII only, so that nothing in it steers a terminal. Bytes are ``{"hex": ...}``.

    :param hex_bytes_max: bytes of the payload to show.
    """
    return json.dumps(
        {"event": _SEEN[type(seen)], "at_s": round(seen.at_ns / 1e9, 9), **_fields(seen, roster, hex_bytes_max)}
    )


def _fields(seen: Seen, roster: Roster, hex_bytes_max: int) -> dict[str, Any]:
    match seen:
        case FrameSeen():
            return _frame(seen, roster, hex_bytes_max)
        case ConnectionSeen():
            return {"connection": seen.connection, "dialer": seen.dialer, "acceptor": seen.acceptor, "tls": seen.tls}
        case BrokenSeen():
            return {**_where(seen, roster), "code": seen.code, "reason": seen.reason}
        case EndSeen():
            return {**_where(seen, roster), "unread_bytes": seen.unread_bytes}
        case NoteSeen():
            return {"name": seen.name, "data": jsonable(seen.data)}


def _where(seen: FrameSeen | BrokenSeen | EndSeen, roster: Roster) -> dict[str, Any]:
    sender = "dialer" if seen.from_dialer else "acceptor"
    return {"from": sender, "session": roster.session(seen.connection), "connection": seen.connection}


def _frame(seen: FrameSeen, roster: Roster, hex_bytes_max: int) -> dict[str, Any]:
    prefix, part = seen.prefix, roster.stream(seen)
    found: dict[str, Any] = {
        **_where(seen, roster),
        "stream": prefix.stream,
        "type": seen.type_name,
        "size": prefix.wire_bytes,
        "header": prefix.header_bytes,
        "payload": prefix.payload_bytes,
        "flags": [name for name, there in (("required", seen.required), ("more", seen.more)) if there],
        "kind": part.kind if part is not None else None,
        "fields": jsonable(seen.fields()),
    }
    if seen.error is not None:
        found["error"] = seen.error
    if seen.redacted:
        found["redacted"] = True
    if seen.digest:
        found["digest"] = seen.digest.hex()
    if hex_bytes_max and seen.payload:
        found["payload_hex"] = bytes(seen.payload[:hex_bytes_max]).hex()
    return found


def jsonable(value: Any) -> Any:
    """``value`` as JSON has it."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"hex": bytes(value).hex()}
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
