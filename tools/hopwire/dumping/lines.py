"""One line a frame. Pure; whatever came from a peer is escaped.

    time, direction, session, connection, stream, type, bytes on the wire, flags, what it says

The direction is ``>`` from the dialer to the acceptor, ``<`` back; the flags are R for REQUIRED and M for MORE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hopwire.escaping import printable, shown_value
from hopwire.events import BrokenSeen, ConnectionSeen, EndSeen, FrameSeen, NoteSeen, Seen
from hopwire.roster import Roster
from streamhop_protocol.codecs import Codec

from .hexadecimal import hex_lines

HEADING = f"{'time s':>11}   ses con stream type      {'bytes':>10} fl says"

Painter = Callable[[str, str], str]
"""Takes a text and what it is (``type``, ``error``, ``dim``, ``note``); returns it with colours, or as it is."""

_INDENT = " " * 14


_FLAGS = ("  ", "R ", "M ", "RM")
"""By the two bits that mean something: FLAG_REQUIRED is 1, FLAG_MORE is 2."""


def plain(text: str, _what: str) -> str:
    """Without colours."""
    return text


def lines_of(
    seen: Seen, roster: Roster, *, verbose: bool = False, hex_bytes_max: int = 0, paint: Painter = plain
) -> Iterator[str]:
    """The lines that tell of one event; the roster has taken it.

    :param verbose: with the decoded header.
    :param hex_bytes_max: bytes of the payload to show.
    """
    match seen:
        case FrameSeen():
            yield _frame(seen, roster, paint)
            if verbose:
                yield from _decoded(seen, paint)
            if hex_bytes_max and seen.prefix.payload_bytes:
                yield from _payload(seen, hex_bytes_max, paint)
        case _:
            yield _other(seen, roster, paint)


def _frame(seen: FrameSeen, roster: Roster, paint: Painter) -> str:
    prefix = seen.prefix
    session = roster.session(seen.connection)
    # The number of a type that is not known is at most 4 characters, a name at most 8.
    flags = _FLAGS[prefix.flags & 3]
    return (
        f"{seen.at_ns / 1e9:11.6f} {'>' if seen.from_dialer else '<'} {session or '-':>3} {seen.connection:>3} "
        f"{prefix.stream or '-':>6} {paint(f'{seen.type_name:<8}', 'type')} {prefix.wire_bytes:>11} {flags} "
        f"{_summary(seen, roster, paint)}"
    ).rstrip()


def _summary(seen: FrameSeen, roster: Roster, paint: Painter) -> str:
    if seen.error is not None:
        return paint(f"broken, {printable(seen.error)}", "error")
    if seen.type_name == "DATA":
        return _chunk(seen, roster)
    told = _TOLD - {"attributes"} if seen.type_name == "OFFER" else _TOLD  # a secret is in there
    words = [_word(name, value) for name, value in seen.fields().items() if name in told]
    return " ".join(word for word in words if word)


def _chunk(seen: FrameSeen, roster: Roster) -> str:
    part = roster.stream(seen)
    kind = part.kind if part is not None else "?"
    # A trace has the fields as the peer sent them, of whatever type: nobody has decoded the chunk.
    seq, codec = shown_value(seen.field("seq"), _NUMBER_CHARACTERS), seen.field("codec")
    if codec is None:
        return f"{kind} {seq} fragment"
    return f"{kind} {seq} {codec_name(codec)} of {shown_value(seen.field('raw_bytes'), _NUMBER_CHARACTERS)}"


_NUMBER_CHARACTERS = 20
"""The largest of 64 bits has as many digits."""


def codec_name(number: Any) -> str:
    """What the specification calls a codec; its number, or what is in its place, if it is none of this version."""
    try:
        return Codec(number).name.lower()
    except ValueError:
        return shown_value(number, _NUMBER_CHARACTERS)


_TOLD = frozenset(
    {
        "name", "version", "version_min", "version_max", "connections", "number", "code", "reason", "kind", "seq",
        "size_bytes", "move", "epoch", "lacks", "reused", "fix", "state", "attributes",
    }
)  # fmt: skip
"""Fields worth a place in the line; the others take ``-v``."""

_ID_DIGITS = 8


def _word(name: str, value: Any) -> str:
    if name == "move" and isinstance(value, bytes):
        return f"move={value.hex()[:_ID_DIGITS]}"
    if name in ("lacks", "reused") and isinstance(value, list):
        return f"{name}={len(value)}"
    if name == "attributes":
        return shown_value(value, 80) if value else ""
    return f"{name}={shown_value(value, 80)}"


def _decoded(seen: FrameSeen, paint: Painter) -> Iterator[str]:
    fields: Mapping[str, Any] = seen.fields()
    hidden = " (what is secret was left out)" if seen.redacted else ""
    sizes = f"header {seen.prefix.header_bytes} bytes, payload {seen.prefix.payload_bytes} bytes{hidden}"
    yield _INDENT + paint(sizes, "dim")
    for name, value in fields.items():
        yield f"{_INDENT}{printable(name)} = {shown_value(value, 1000)}"


def _payload(seen: FrameSeen, bytes_max: int, paint: Painter) -> Iterator[str]:
    if seen.payload is None:
        told = f", digest {seen.digest.hex()}" if seen.digest else ""
        yield _INDENT + paint(f"payload not recorded{told}", "dim")
        return
    for line in hex_lines(seen.payload, bytes_max):
        yield _INDENT + line


def _other(seen: Seen, roster: Roster, paint: Painter) -> str:
    head = f"{seen.at_ns / 1e9:11.6f} "
    match seen:
        case ConnectionSeen():
            tls = ", TLS" if seen.tls else ""
            text = f"connection {seen.connection}: {printable(seen.dialer)} to {printable(seen.acceptor)}{tls}"
            return head + paint(f"* {text}", "note")
        case BrokenSeen():
            who = "dialer" if seen.from_dialer else "acceptor"
            text = f"connection {seen.connection}: the {who} broke the protocol, {seen.code}: {seen.reason}"
            return head + paint(f"! {printable(text)}", "error")
        case EndSeen():
            unread = f", {seen.unread_bytes} bytes not read" if seen.unread_bytes else ""
            who = "dialer" if seen.from_dialer else "acceptor"
            session = roster.session(seen.connection)
            where = f"connection {seen.connection}" + (f" of session {session}" if session else "")
            return head + paint(f"* {where}: the {who} closed{unread}", "note")
        case NoteSeen():
            told = " ".join(f"{printable(name)}={shown_value(value, 120)}" for name, value in seen.data.items())
            return head + paint(f"= {printable(seen.name)} {told}", "note")
    return head
