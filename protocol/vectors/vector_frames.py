"""Golden frames: what each is, and what it means or which error it causes."""

from __future__ import annotations

from typing import Any

from streamhop_protocol import messages as m
from streamhop_protocol import signals as s
from streamhop_protocol.codecs import Codec
from streamhop_protocol.connection import encode_body
from streamhop_protocol.frames import FLAG_MORE, FLAG_REQUIRED, FrameType, encode_frame
from streamhop_protocol.limits import CONTROL_PAYLOAD_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX
from streamhop_protocol.wirepack import pack
from vector_meanings import meaning, shown

MOVE = bytes(range(16))
DIGEST = bytes(range(32))
TOKEN = bytes(range(32, 64))
DATA = FrameType.DATA

FINDING = {
    "id": "target.port",
    "severity": "refuses",
    "what": "port 80 is taken",
    "why": "a published port can have one owner",
    "reference": "",
    "fix": "free it",
}

CONTROL = (
    m.Offer(MOVE, 1, {"container": "web", "page_size": 4096, "trees": ["rootfs"]}),
    m.Offer(MOVE, 2, {"container": "web"}, {"hash_seed": bytes(range(8))}),
    m.Offer(MOVE, 1, {"container": "web"}, {"check": True}),
    m.Accept(MOVE, 1, ["sha256:aa"], ["sha256:bb"], {}),
    m.Accept(MOVE, 2, ["sha256:aa"], [], {"begun": {"sha256:aa": 1000}, "held": True}),
    m.Refuse(MOVE, 1, "refused", "port 80 is taken", "free it"),
    m.Refuse(MOVE, 1, "refused", "port 80 is taken", "free it", [["its pages have 16384 bytes", ""]]),
    m.Refuse(MOVE, 1, "refused", "port 80 is taken", "free it", attributes={"findings": [FINDING]}),
    m.Ready(MOVE, 1),
    m.Prepare(MOVE, 1, DIGEST),
    m.Prepared(MOVE, 1, DIGEST, {"restore_s": 0.25}),
    m.Failed(MOVE, 1, "failed", "no space left", "make room"),
    m.Release(MOVE, 1, DIGEST),
    m.Started(MOVE, 1),
    m.Finish(MOVE, 1),
    m.Abort(MOVE, 1, "cancelled", "it was cancelled"),
    m.Aborted(MOVE, 1),
    m.Query(MOVE),
    m.State(MOVE, 2, "prepared"),
    m.State(MOVE, 1, "open", {"health": "starting"}),
    s.Ping(7),
    s.Pong(7),
    s.Bye(),
    s.Error("flow", "more than it was given"),
)
STREAM_CONTROL = (
    s.Credit(262144),
    s.Done({"bytes": 10}),
    s.Reset("integrity", "the digest differs"),
)
HANDSHAKE = (
    ("await first", s.Hello("edge-a", 1, 1, 2, 32)),
    ("await welcome", s.Welcome("edge-b", 1, MOVE, TOKEN, 32)),
    ("await first", s.Join(MOVE, TOKEN)),
    ("await joined", s.Joined()),
    ("await welcome", s.Error("version", "no version in common")),
)


def data_frame(data: s.Data, payload: bytes, *, more: bool = False) -> bytes:
    """A DATA frame of stream 1."""
    _, header = s.encode_signal(data)
    return encode_frame(DATA, header, payload, flags=FLAG_REQUIRED | (FLAG_MORE if more else 0), stream=1)


def valid_frames() -> list[dict[str, Any]]:
    """Frames that must be understood, with the phase in which they arrive."""
    rows = [{"phase": phase, "hex": encode_body(body).hex(), "means": meaning(body)} for phase, body in HANDSHAKE]
    rows += [{"phase": "control", "hex": encode_body(body).hex(), "means": meaning(body)} for body in CONTROL]
    rows += [
        {"phase": "control", "hex": encode_body(body, stream=1).hex(), "means": meaning(body, stream=1)}
        for body in STREAM_CONTROL
    ]
    opening, end = s.Open("memory", {"round": 0}), s.End(3, {"digest": DIGEST})
    whole = s.Data(1, int(Codec.NONE), 5, {"offset": 0})
    first, second = s.Data(1, int(Codec.NONE), 8), s.Data(2)
    rows += [
        {"phase": "payload", "hex": frame.hex(), "means": meaning(body, stream=1, payload=shown(payload), more=more)}
        for frame, body, payload, more in (
            (encode_body(opening, stream=1), opening, b"", False),
            (data_frame(whole, b"hello"), whole, b"hello", False),
            (data_frame(first, b"part", more=True), first, b"part", True),
            (data_frame(second, b"rest"), second, b"rest", False),
            (encode_body(end, stream=1), end, b"", False),
        )
    ]
    extended = pack({"number": 9, "of a later version": [1, 2]})
    large = m.Offer(MOVE, 1, {"x": "y"})
    as_payload = encode_frame(0x20, b"", pack({"move": MOVE, "epoch": 1, "manifest": {"x": "y"}}), flags=FLAG_REQUIRED)
    rows += [
        {"phase": "control", "hex": encode_frame(FrameType.PING, extended).hex(), "means": meaning(s.Ping(9))},
        {"phase": "control", "hex": as_payload.hex(), "means": meaning(large)},
        {"phase": "control", "hex": encode_frame(0x7F, b"\xc1any", b"thing", stream=9).hex(), "means": None},
    ]
    return rows


def invalid(phase: str, error: str, why: str, data: bytes) -> dict[str, Any]:
    """A row of ``frames_invalid.json``."""
    return {"phase": phase, "error": error, "why": why, "hex": data.hex()}


def _message(number: int, fields: dict[str, Any]) -> bytes:
    return encode_frame(number, pack(fields), flags=FLAG_REQUIRED)


def _hello(**changes: Any) -> bytes:
    fields = {"name": "edge-a", "version_min": 1, "version_max": 1, "connections": 2, "streams_max": 32}
    return _message(int(FrameType.HELLO), {**fields, **changes})


def head(payload_bytes: int, header_bytes: int, frame_type: int, flags: int = 1, stream: int = 0) -> bytes:
    """The prefix of a frame."""
    lengths = payload_bytes.to_bytes(4, "big") + header_bytes.to_bytes(2, "big")
    return lengths + bytes((frame_type, flags)) + stream.to_bytes(4, "big")


def invalid_frames() -> list[dict[str, Any]]:
    """Frames that must end the connection, with the code of the error."""
    ready, ping = {"move": MOVE, "epoch": 1}, int(FrameType.PING)
    chosen = s.Welcome("edge-b", 9, MOVE, TOKEN, 32)
    abort = {**ready, "code": "c", "reason": "x" * 4097}
    huge = pack({"seq": 1, "codec": 1, "raw_bytes": 1048577})
    hello = s.encode_signal(s.Hello("edge-a", 1, 1, 2, 32))[1]
    return [
        invalid("await first", "limit", "handshake with a payload", head(1, len(hello), 1) + hello + b"x"),
        invalid("await first", "limit", "handshake header over 1 KiB", head(0, 1025, 1)),
        invalid("await first", "unexpected", "a message before the handshake", _message(0x23, ready)),
        invalid("await first", "limit", "version 0", _hello(version_min=0)),
        invalid("await first", "malformed", "an empty name", _hello(name="")),
        invalid("await first", "limit", "a name of 256 bytes", _hello(name="a" * 256)),
        invalid("await first", "limit", "no payload connection", _hello(connections=0)),
        invalid("await welcome", "version", "a version that was not offered", encode_body(chosen)),
        invalid("control", "unexpected", "unknown type, required", head(0, 0, 0x7F)),
        invalid("control", "limit", "unknown type, payload over 1 MiB", head(FRAME_PAYLOAD_BYTES_MAX + 1, 0, 0x7F, 0)),
        invalid("control", "limit", "message payload over 8 MiB", head(CONTROL_PAYLOAD_BYTES_MAX + 1, 0, 0x20)),
        invalid("control", "limit", "payload of 2^32-1", head(0xFFFF_FFFF, 0, 0x20)),
        invalid("control", "limit", "PING with a payload", head(1, 0, ping)),
        invalid("control", "unexpected", "DATA on the control connection", data_frame(s.Data(1, 0, 1), b"x")),
        invalid("control", "unexpected", "HELLO again", encode_body(s.Hello("a", 1, 1, 2, 32))),
        invalid("control", "malformed", "PING with a stream", head(0, 0, ping, 1, 5)),
        invalid("control", "malformed", "CREDIT without a stream", encode_body(s.Credit(1))),
        invalid("control", "malformed", "PING with the flag MORE", head(0, 0, ping, FLAG_REQUIRED | FLAG_MORE)),
        invalid("control", "malformed", "header and payload", encode_frame(0x23, pack(ready), pack(ready))),
        invalid("control", "malformed", "no header", head(0, 0, 0x23)),
        invalid("control", "malformed", "bytes after the map", encode_frame(0x23, pack(ready) + b"\xc0")),
        invalid("control", "malformed", "not a map", encode_frame(0x23, pack([1]))),
        invalid("control", "malformed", "a key twice", encode_frame(ping, b"\x82\xa6number\x01\xa6number\x02")),
        invalid("control", "malformed", "an integer as key", encode_frame(ping, b"\x81\x01\x02")),
        invalid("control", "malformed", "an extension type", encode_frame(ping, b"\x81\xa6number\xd4\x05\x00")),
        invalid("control", "malformed", "bad UTF-8", encode_frame(0x2D, b"\x81\xa5state\xa1\xff")),
        invalid("control", "malformed", "array32 of 2^32-1", encode_frame(ping, b"\x81\xa6number\xdd\xff\xff\xff\xff")),
        invalid("control", "limit", "nested 17 deep", encode_frame(ping, b"\x81\xa1x" + b"\x91" * 17 + b"\xc0")),
        invalid("control", "malformed", "a field is missing", _message(0x23, {"move": MOVE})),
        invalid("control", "malformed", "a move of 15 bytes", _message(0x23, {"move": MOVE[1:], "epoch": 1})),
        invalid("control", "malformed", "a string for bytes", _message(0x23, {"move": "a" * 16, "epoch": 1})),
        invalid("control", "malformed", "a bool for an integer", _message(0x23, {"move": MOVE, "epoch": True})),
        invalid("control", "malformed", "a float for an integer", _message(0x23, {"move": MOVE, "epoch": 1.0})),
        invalid("control", "limit", "epoch 0", _message(0x23, {"move": MOVE, "epoch": 0})),
        invalid("control", "limit", "a negative epoch", _message(0x23, {"move": MOVE, "epoch": -1})),
        invalid("control", "limit", "epoch 2^32", _message(0x23, {"move": MOVE, "epoch": 1 << 32})),
        invalid("control", "malformed", "NaN in a map", _message(0x28, {**ready, "attributes": {"s": float("nan")}})),
        invalid("control", "limit", "a code of 65 bytes", _message(0x2D, {**ready, "state": "x" * 65})),
        invalid("control", "malformed", "an empty code", _message(0x2D, {**ready, "state": ""})),
        invalid("control", "limit", "a reason of 4097 bytes", _message(0x2A, abort)),
        invalid("control", "limit", "credit of 0", encode_frame(0x13, pack({"size_bytes": 0}), stream=1)),
        invalid("payload", "unexpected", "a message on a payload connection", _message(0x23, ready)),
        invalid("payload", "unexpected", "PING on a payload connection", encode_body(s.Ping(1))),
        invalid("payload", "malformed", "an unknown kind", encode_frame(0x10, pack({"kind": "disk"}), stream=1)),
        invalid("payload", "limit", "payload over 1 MiB", head(FRAME_PAYLOAD_BYTES_MAX + 1, 0, DATA, 1, 1)),
        invalid("payload", "limit", "frame number 0", encode_frame(DATA, pack({"seq": 0}), b"x", stream=1)),
        invalid("payload", "limit", "a chunk over 1 MiB", encode_frame(DATA, huge, b"x", stream=1)),
    ]
