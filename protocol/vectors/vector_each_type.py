"""Golden frames of each type alike: every field at its largest, and every way in which such a frame can be wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from streamhop_protocol import messages as m
from streamhop_protocol import signals as s
from streamhop_protocol.connection import encode_body
from streamhop_protocol.fields import to_map
from streamhop_protocol.frames import FLAG_MORE, FLAG_REQUIRED, STREAM_TYPES, FrameType, encode_frame, is_message
from streamhop_protocol.wirepack import pack
from vector_frames import DIGEST, MOVE, TOKEN, data_frame, head, invalid
from vector_meanings import meaning, shown

U32, SEQ = (1 << 32) - 1, (1 << 48) - 1
NAME, TEXT, CODE = "n" * 255, "t" * 4096, "c" * 64
NAN = float("nan")

LARGEST: tuple[Any, ...] = (
    s.Hello(NAME, 65535, 65535, 15, 256),
    s.Welcome(NAME, 1, bytes(16), TOKEN, 256),
    s.Join(bytes(16), bytes(32)),
    s.Joined(),
    s.Ping((1 << 64) - 1),
    s.Pong((1 << 64) - 1),
    s.Bye(),
    s.Error(CODE, TEXT),
    s.Open("held", {"nothing": None, "nested": {"a": [1.5, -1, "ü"]}}),
    s.Data(SEQ, 2, 1 << 20, {"o": "pagemap-1", "r": [[0, 64, 0]]}),
    s.End(SEQ, {"x": -(1 << 63)}),
    s.Credit(4 << 20),
    s.Done({"x": (1 << 64) - 1}),
    s.Reset(CODE, TEXT),
    m.Offer(MOVE, U32, {"of": "any", "shape": [True, False, None]}, {"hash_seed": bytes(8)}),
    m.Accept(MOVE, U32, [NAME], ["", NAME], {"kept_s": 0.5}),
    m.Refuse(MOVE, U32, CODE, TEXT, TEXT, [["reason", "fix"], ["", ""]], {"of": "any", "shape": [1]}),
    m.Ready(MOVE, U32),
    m.Prepare(MOVE, U32, DIGEST, {"x": 1}),
    m.Prepared(MOVE, U32, DIGEST, {"x": 1}),
    m.Failed(MOVE, U32, CODE, "", TEXT),
    m.Release(MOVE, U32, DIGEST),
    m.Started(MOVE, U32, {"x": "ä"}),
    m.Finish(MOVE, U32),
    m.Abort(MOVE, U32, CODE, TEXT),
    m.Aborted(MOVE, U32),
    m.Query(MOVE),
    m.State(MOVE, U32, CODE, {"health": "none"}),
)
"""Each type once, its fields as large as they may be."""

BEYOND: dict[str, tuple[Any, str]] = {
    "name": ("n" * 256, "limit"),
    "version_min": (65536, "limit"),
    "version_max": (0, "limit"),
    "connections": (16, "limit"),
    "streams_max": (257, "limit"),
    "version": (0, "limit"),
    "session": (bytes(15), "malformed"),
    "token": (bytes(33), "malformed"),
    "number": (-1, "limit"),
    "code": ("c" * 65, "limit"),
    "reason": ("t" * 4097, "limit"),
    "fix": ("t" * 4097, "limit"),
    "kind": ("disk", "malformed"),
    "seq": (SEQ + 1, "limit"),
    "codec": (256, "limit"),
    "raw_bytes": ((1 << 20) + 1, "limit"),
    "meta": ([NAN], "malformed"),
    "attributes": ({"x": NAN}, "malformed"),
    "size_bytes": ((4 << 20) + 1, "limit"),
    "move": (bytes(17), "malformed"),
    "epoch": (U32 + 1, "limit"),
    "manifest": ({"x": [float("inf")]}, "malformed"),
    "lacks": ([NAME + "n"], "limit"),
    "reused": ([NAME + "n"], "limit"),
    "others": ([["no pair"]], "malformed"),
    "image_digest": (bytes(31), "malformed"),
    "state": ("", "malformed"),
}
"""By the name of a field: a value of its type that no frame may have there, and the error."""

ANOTHER_TYPE: dict[type, Any] = {str: 1, int: "1", bytes: "as text", dict: [], list: {}}

HANDSHAKE = {"Hello": "await first", "Welcome": "await welcome", "Join": "await first", "Joined": "await joined"}
OUT_OF_PLACE = {"control": "payload", "payload": "control", "await first": "control"}
"""By the phase in which a frame belongs: one in which it does not. For all others that is the first."""


def _type_of(body: Any) -> int:
    numbers = {cls: number for number, cls in m.MESSAGE_TYPES.items()}
    numbers |= {cls: int(number) for number, cls in s.SIGNAL_TYPES.items()}
    return numbers[type(body)]


def _phase_of(body: Any) -> str:
    if isinstance(body, s.Open | s.Data | s.End):
        return "payload"
    return HANDSHAKE.get(type(body).__name__, "control")


def largest_of_each_type() -> list[dict[str, Any]]:
    """Rows of ``frames_valid.json``."""
    rows = []
    for body in LARGEST:
        stream = 1 if _type_of(body) in STREAM_TYPES else 0
        if isinstance(body, s.Data):
            frame, more = data_frame(body, b"begins", more=True), {"payload": shown(b"begins"), "more": True}
        else:
            frame, more = encode_body(body, stream=stream), {}
        said = meaning(body, **({"stream": 1} if stream else {}), **more)
        rows.append({"phase": _phase_of(body), "hex": frame.hex(), "means": said})
    return rows


def _fields(body: Any) -> dict[str, Any]:
    """Its map, with texts cut: one thing at a time is wrong, and the files stay small."""
    return {key: value[:8] if isinstance(value, str) else value for key, value in to_map(body).items()}


def _wrong_fields(body: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Why, error and the map, one for each way in which a field can be wrong."""
    fields = _fields(body)
    for item in dataclasses.fields(body):
        value, name = fields[item.name], item.name
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            yield f"{name} is missing", "malformed", {key: fields[key] for key in fields if key != name}
        if name != "meta":  # that may be anything
            yield f"{name} is of another type", "malformed", {**fields, name: ANOTHER_TYPE[type(value)]}
        beyond, error = BEYOND[name]
        yield f"{name} out of bounds", error, {**fields, name: beyond}


def _wrong_frames(body: Any) -> Iterator[tuple[str, str, bytes]]:
    """Why, error and the bytes, for all that can be wrong around the fields."""
    number, packed = _type_of(body), pack(_fields(body))
    of_stream = number in STREAM_TYPES
    stream, flags = int(of_stream), FLAG_REQUIRED
    yield "no map", "malformed", encode_frame(number, pack([]), flags=flags, stream=stream)
    yield "trailing bytes", "malformed", encode_frame(number, packed + b"\xc0", flags=flags, stream=stream)
    yield "cut short", "malformed", encode_frame(number, packed[:-1] or b"\x81", flags=flags, stream=stream)
    wrong = "stream 0" if of_stream else "with a stream"
    yield wrong, "malformed", encode_frame(number, packed, flags=flags, stream=1 - stream)
    if number == FrameType.DATA:
        yield "payload over 1 MiB", "limit", head((1 << 20) + 1, 0, number, stream=1)
        return
    yield "the flag MORE", "malformed", encode_frame(number, packed, flags=flags | FLAG_MORE, stream=stream)
    size = (8 << 20) + 1 if is_message(number) and _phase_of(body) == "control" else 1
    yield "payload too long", "limit", head(size, 0, number, stream=stream)


def invalid_of_each_type() -> list[dict[str, Any]]:
    """Rows of ``frames_invalid.json``."""
    rows = []
    for body in LARGEST:
        number, phase, name = _type_of(body), _phase_of(body), type(body).__name__.upper()
        stream = int(number in STREAM_TYPES)
        for why, error, fields in _wrong_fields(body):
            frame = encode_frame(number, pack(fields), flags=FLAG_REQUIRED, stream=stream)
            rows.append(invalid(phase, error, f"{name}: {why}", frame))
        rows += [invalid(phase, error, f"{name}: {why}", data) for why, error, data in _wrong_frames(body)]
        elsewhere = OUT_OF_PLACE.get(phase, "await first")
        rows.append(invalid(elsewhere, "unexpected", f"{name}: out of place", head(0, 0, number, stream=stream)))
    return rows
