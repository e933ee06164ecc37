"""What a filter can ask about, and how its words are read as values. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hopwire.events import TYPE_NUMBERS, FrameSeen
from hopwire.roster import Roster, StreamPart
from streamhop_protocol.codecs import Codec

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kmg]i?)?b?", re.IGNORECASE)
_TIME = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(us|ms|s|m)?", re.IGNORECASE)
_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}

PAGES = "PAGES"
"""DATA of streams that carry memory: what most filters are about."""

_PAGE_KINDS = frozenset({"memory", "final"})


class Kind(Enum):
    """How values of a field are written and compared."""

    NUMBER = "a number, such as 64k or 1Mi"
    SECONDS = "a time, such as 1.5 or 20ms"
    NAME = "a word"
    TYPE = "a type of frames"
    TRUTH = "true or false"


@dataclass(frozen=True, slots=True)
class Context:
    """A frame, and what is known of where it belongs."""

    seen: FrameSeen
    roster: Roster

    @property
    def part(self) -> StreamPart | None:
        """What its stream carries."""
        return self.roster.stream(self.seen)


Getter = Callable[[Context], Any]
"""The value; None if the frame has none, which makes every comparison but ``!=`` false."""


@dataclass(frozen=True, slots=True)
class Field:
    """Something to ask about."""

    kind: Kind
    get: Getter
    about: str


def _said(name: str) -> Getter:
    return lambda context: context.seen.field(name)


def _codec(context: Context) -> str | None:
    number = context.seen.field("codec")
    try:
        return None if number is None else Codec(number).name.lower()
    except ValueError:
        return str(number)


def _hex(name: str) -> Getter:
    def get(context: Context) -> str | None:
        value = context.seen.field(name)
        return value.hex() if isinstance(value, bytes) else value

    return get


def _kind(context: Context) -> str | None:
    return None if (part := context.part) is None else part.kind


def _type(context: Context) -> frozenset[str]:
    name = context.seen.type_name
    return frozenset({name, PAGES} if name == "DATA" and _kind(context) in _PAGE_KINDS else {name})


FIELDS: Mapping[str, Field] = {
    "type": Field(Kind.TYPE, _type, "type of the frame, as in the specification; PAGES: DATA that carries memory"),
    "stream": Field(Kind.NUMBER, lambda c: c.seen.prefix.stream, "ID of the stream; 0: none"),
    "kind": Field(Kind.NAME, _kind, "what the stream carries: layer, tree, memory, final, held"),
    "size": Field(Kind.NUMBER, lambda c: c.seen.prefix.wire_bytes, "bytes on the wire, prefix and all"),
    "header": Field(Kind.NUMBER, lambda c: c.seen.prefix.header_bytes, "bytes of the header"),
    "payload": Field(Kind.NUMBER, lambda c: c.seen.prefix.payload_bytes, "bytes of the payload"),
    "raw": Field(Kind.NUMBER, _said("raw_bytes"), "bytes of the chunk after decompression; first fragment only"),
    "codec": Field(Kind.NAME, _codec, "none, lz4, zstd; first fragment only"),
    "seq": Field(Kind.NUMBER, _said("seq"), "number of the frame within its stream"),
    "session": Field(Kind.NUMBER, lambda c: c.roster.session(c.seen.connection), "number of the session, from 1"),
    "connection": Field(Kind.NUMBER, lambda c: c.seen.connection, "number of the connection"),
    "from": Field(Kind.NAME, lambda c: "dialer" if c.seen.from_dialer else "acceptor", "dialer or acceptor"),
    "time": Field(Kind.SECONDS, lambda c: c.seen.at_ns / 1e9, "seconds since the recording began"),
    "move": Field(Kind.NAME, _hex("move"), "ID of the move, hexadecimal; ~ for its beginning"),
    "epoch": Field(Kind.NUMBER, _said("epoch"), "epoch of a message"),
    "code": Field(Kind.NAME, _said("code"), "code of ERROR, RESET, REFUSE, FAILED, ABORT"),
    "more": Field(Kind.TRUTH, lambda c: c.seen.more, "the chunk goes on in the next frame"),
    "required": Field(Kind.TRUTH, lambda c: c.seen.required, "flag REQUIRED"),
    "broken": Field(Kind.TRUTH, lambda c: c.seen.error is not None, "the frame cannot be decoded"),
}


def read_value(kind: Kind, text: str) -> Any:
    """The value that a word of a filter means.

    :raises ValueError: it means none; the text says what would.
    """
    if kind is Kind.NUMBER:
        found = _SIZE.fullmatch(text)
        if found is not None:
            return float(found.group(1)) * _UNITS[(found.group(2) or "").lower()]
    elif kind is Kind.SECONDS:
        found = _TIME.fullmatch(text)
        if found is not None:
            return float(found.group(1)) * _SECONDS[(found.group(2) or "").lower()]
    elif kind is Kind.TRUTH:
        if text in ("true", "false"):
            return text == "true"
    elif kind is Kind.TYPE:
        return _type_named(text)
    else:
        return text
    raise ValueError(f"{text!r} is not {kind.value}")


def _type_named(text: str) -> str:
    name = text.upper()
    if name in TYPE_NUMBERS or name == PAGES:
        return name
    if re.fullmatch(r"0x[0-9a-f]{1,2}", text, re.IGNORECASE):
        number = int(text, 16)
        return next((known for known, value in TYPE_NUMBERS.items() if value == number), f"{number:#04x}")
    raise ValueError(f"{text!r} is no type of frames; known are {', '.join([*TYPE_NUMBERS, PAGES])}")
