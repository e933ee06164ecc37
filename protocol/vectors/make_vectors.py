"""Writes the golden frames of this directory: bytes and what they mean.

``make_vectors.py`` writes the files, ``make_vectors.py --check`` says whether they are what would be written. Bytes
are shown as ``{"hex": ...}``; the sections of each file are explained in ``SPEC.md``, "Test vectors".
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from streamhop_protocol import messages as m
from streamhop_protocol import signals as s
from streamhop_protocol.codecs import Codec, CodecChoice, compress
from streamhop_protocol.connection import Connection, encode_body
from streamhop_protocol.frames import FLAG_MORE, FLAG_REQUIRED, MAGIC, PREAMBLE, FrameType, encode_frame
from streamhop_protocol.limits import CONTROL_PAYLOAD_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX
from streamhop_protocol.session import Session
from streamhop_protocol.wirepack import pack

HERE = Path(__file__).parent
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


def shown(value: Any) -> Any:
    """``value`` as JSON has it."""
    if isinstance(value, bytes | memoryview):
        return {"hex": value.hex()}
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return meaning(value)
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list) else value


def meaning(body: Any, **more: Any) -> dict[str, Any]:
    """What a frame says: its name and its fields; fields that are absent on the wire are left out.

    So are those that two of the same meaning may differ in. What is still packed is shown unpacked.
    """
    names = [field.name.removeprefix("packed_") for field in dataclasses.fields(body) if field.compare]
    fields = {name: shown(getattr(body, name)) for name in names}
    return {"name": type(body).__name__, "fields": {k: v for k, v in fields.items() if v is not None}, **more}


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


def _invalid(phase: str, error: str, why: str, data: bytes) -> dict[str, Any]:
    return {"phase": phase, "error": error, "why": why, "hex": data.hex()}


def _message(number: int, fields: dict[str, Any]) -> bytes:
    return encode_frame(number, pack(fields), flags=FLAG_REQUIRED)


def _hello(**changes: Any) -> bytes:
    fields = {"name": "edge-a", "version_min": 1, "version_max": 1, "connections": 2, "streams_max": 32}
    return _message(int(FrameType.HELLO), {**fields, **changes})


def _head(payload_bytes: int, header_bytes: int, frame_type: int, flags: int = 1, stream: int = 0) -> bytes:
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
        _invalid("await first", "limit", "handshake with a payload", _head(1, len(hello), 1) + hello + b"x"),
        _invalid("await first", "limit", "handshake header over 1 KiB", _head(0, 1025, 1)),
        _invalid("await first", "unexpected", "a message before the handshake", _message(0x23, ready)),
        _invalid("await first", "limit", "version 0", _hello(version_min=0)),
        _invalid("await first", "malformed", "an empty name", _hello(name="")),
        _invalid("await first", "limit", "a name of 256 bytes", _hello(name="a" * 256)),
        _invalid("await first", "limit", "no payload connection", _hello(connections=0)),
        _invalid("await welcome", "version", "a version that was not offered", encode_body(chosen)),
        _invalid("control", "unexpected", "unknown type, required", _head(0, 0, 0x7F)),
        _invalid(
            "control", "limit", "unknown type, payload over 1 MiB", _head(FRAME_PAYLOAD_BYTES_MAX + 1, 0, 0x7F, 0)
        ),
        _invalid("control", "limit", "message payload over 8 MiB", _head(CONTROL_PAYLOAD_BYTES_MAX + 1, 0, 0x20)),
        _invalid("control", "limit", "payload of 2^32-1", _head(0xFFFF_FFFF, 0, 0x20)),
        _invalid("control", "limit", "PING with a payload", _head(1, 0, ping)),
        _invalid("control", "unexpected", "DATA on the control connection", data_frame(s.Data(1, 0, 1), b"x")),
        _invalid("control", "unexpected", "HELLO again", encode_body(s.Hello("a", 1, 1, 2, 32))),
        _invalid("control", "malformed", "PING with a stream", _head(0, 0, ping, 1, 5)),
        _invalid("control", "malformed", "CREDIT without a stream", encode_body(s.Credit(1))),
        _invalid("control", "malformed", "PING with the flag MORE", _head(0, 0, ping, FLAG_REQUIRED | FLAG_MORE)),
        _invalid("control", "malformed", "header and payload", encode_frame(0x23, pack(ready), pack(ready))),
        _invalid("control", "malformed", "no header", _head(0, 0, 0x23)),
        _invalid("control", "malformed", "bytes after the map", encode_frame(0x23, pack(ready) + b"\xc0")),
        _invalid("control", "malformed", "not a map", encode_frame(0x23, pack([1]))),
        _invalid("control", "malformed", "a key twice", encode_frame(ping, b"\x82\xa6number\x01\xa6number\x02")),
        _invalid("control", "malformed", "an integer as key", encode_frame(ping, b"\x81\x01\x02")),
        _invalid("control", "malformed", "an extension type", encode_frame(ping, b"\x81\xa6number\xd4\x05\x00")),
        _invalid("control", "malformed", "bad UTF-8", encode_frame(0x2D, b"\x81\xa5state\xa1\xff")),
        _invalid(
            "control", "malformed", "array32 of 2^32-1", encode_frame(ping, b"\x81\xa6number\xdd\xff\xff\xff\xff")
        ),
        _invalid("control", "limit", "nested 17 deep", encode_frame(ping, b"\x81\xa1x" + b"\x91" * 17 + b"\xc0")),
        _invalid("control", "malformed", "a field is missing", _message(0x23, {"move": MOVE})),
        _invalid("control", "malformed", "a move of 15 bytes", _message(0x23, {"move": MOVE[1:], "epoch": 1})),
        _invalid("control", "malformed", "a string for bytes", _message(0x23, {"move": "a" * 16, "epoch": 1})),
        _invalid("control", "malformed", "a bool for an integer", _message(0x23, {"move": MOVE, "epoch": True})),
        _invalid("control", "malformed", "a float for an integer", _message(0x23, {"move": MOVE, "epoch": 1.0})),
        _invalid("control", "limit", "epoch 0", _message(0x23, {"move": MOVE, "epoch": 0})),
        _invalid("control", "limit", "a negative epoch", _message(0x23, {"move": MOVE, "epoch": -1})),
        _invalid("control", "limit", "epoch 2^32", _message(0x23, {"move": MOVE, "epoch": 1 << 32})),
        _invalid("control", "malformed", "NaN in a map", _message(0x28, {**ready, "attributes": {"s": float("nan")}})),
        _invalid("control", "limit", "a code of 65 bytes", _message(0x2D, {**ready, "state": "x" * 65})),
        _invalid("control", "malformed", "an empty code", _message(0x2D, {**ready, "state": ""})),
        _invalid("control", "limit", "a reason of 4097 bytes", _message(0x2A, abort)),
        _invalid("control", "limit", "credit of 0", encode_frame(0x13, pack({"size_bytes": 0}), stream=1)),
        _invalid("payload", "unexpected", "a message on a payload connection", _message(0x23, ready)),
        _invalid("payload", "unexpected", "PING on a payload connection", encode_body(s.Ping(1))),
        _invalid("payload", "malformed", "an unknown kind", encode_frame(0x10, pack({"kind": "disk"}), stream=1)),
        _invalid("payload", "limit", "payload over 1 MiB", _head(FRAME_PAYLOAD_BYTES_MAX + 1, 0, DATA, 1, 1)),
        _invalid("payload", "limit", "frame number 0", encode_frame(DATA, pack({"seq": 0}), b"x", stream=1)),
        _invalid("payload", "limit", "a chunk over 1 MiB", encode_frame(DATA, huge, b"x", stream=1)),
    ]


def preambles() -> list[dict[str, Any]]:
    """First bytes of a connection."""
    return [
        {"hex": PREAMBLE.hex(), "error": None},
        {"hex": (MAGIC + b"\x00\x02").hex(), "error": "version"},
        {"hex": b"GET / HTTP/1.1\r\n\r\n".hex(), "error": "malformed"},
        {"hex": b"SSH-2.0-OpenSSH_9.9\r\n".hex(), "error": "malformed"},
        {"hex": PREAMBLE.replace(b"\r\n", b"\n").hex(), "error": "malformed"},
        {"hex": bytes(8).hex(), "error": "malformed"},
    ]


def chunks() -> list[dict[str, Any]]:
    """Chunks as they are on the wire; ``raw`` or ``error``. Compressors differ: only the way back is fixed."""
    raw = b"streamhop " * 20
    rows: list[dict[str, Any]] = [{"codec": 0, "raw_bytes": len(raw), "hex": raw.hex(), "raw": raw.hex()}]
    for codec in (Codec.LZ4, Codec.ZSTD):
        packed = bytes(compress(raw, CodecChoice(codec, 3))[1])
        number = int(codec)
        rows += [
            {"codec": number, "raw_bytes": len(raw), "hex": packed.hex(), "raw": raw.hex()},
            {"codec": number, "raw_bytes": len(raw) - 1, "hex": packed.hex(), "error": "malformed"},
            {"codec": number, "raw_bytes": len(raw) + 1, "hex": packed.hex(), "error": "malformed"},
            {"codec": number, "raw_bytes": len(raw), "hex": packed[:-1].hex(), "error": "malformed"},
            {"codec": number, "raw_bytes": len(raw), "hex": (packed + b"\x00").hex(), "error": "malformed"},
            {"codec": number, "raw_bytes": 1 << 31, "hex": packed.hex(), "error": "limit"},
            {"codec": number, "raw_bytes": len(packed), "hex": packed.hex(), "error": "limit"},
        ]
    rows.append({"codec": 0, "raw_bytes": len(raw) + 1, "hex": raw.hex(), "error": "limit"})
    return rows


FRAGMENT_BYTES = 4096
PLAIN = b"as it is"
REPEATED = (b"streamhop " * 24)[:234]
LZ4_BLOCK = b"\xafstreamhop \x0a\x00\xc8\x50" + REPEATED[-5:]
"""``REPEATED``: ten literals, a match of 219 bytes at offset 10, five literals. By hand: compressors differ."""


class End:
    """One end of a session of one control and one payload connection."""

    def __init__(self, *, dialer: bool) -> None:
        accepted = {"control": Connection.accepted(), "payload": Connection.accepted()}
        dialed = {
            "control": Connection.dial_control(s.Hello("edge-a", 1, 1, 1, 32)),
            "payload": Connection.dial_payload(s.Join(MOVE, TOKEN)),
        }
        self.connections = dialed if dialer else accepted
        self.session = Session(dialer=dialer, streams_max_in=32, streams_max_out=32)

    def to_send(self, on: str) -> bytes:
        """Everything that has to leave on a connection."""
        out = self.connections[on].data_to_send()
        if on == "control":
            return out + self.session.control_to_send()
        while (frame := self.session.next_frame(FRAGMENT_BYTES)) is not None:
            out += frame.head + bytes(frame.payload)
        return out

    def receive(self, on: str, data: bytes) -> list[Any]:
        """What bytes on a connection mean: what was said in the handshake, then events of the session.

        :raises ProtocolError: they break the protocol.
        """
        connection = self.connections[on]
        connection.receive_data(data)
        found: list[Any] = []
        for received in connection.events():
            if isinstance(received.body, s.Hello | s.Welcome | s.Join | s.Joined):
                found.append(received.body)
            else:
                self.session.receive(received, now=1.0)
        found += self.session.events()
        error = connection.error or self.session.error
        if error is not None:
            raise error
        return found

    def stream(
        self, kind: m.StreamKind, attributes: dict[str, Any], content: Sequence[tuple[Codec, bytes, bytes, Any]]
    ) -> None:
        """Send a whole stream of chunks, each of which is its codec, its content, the same compressed, and its meta."""
        number = self.session.open_stream(kind, attributes)
        for codec, raw, packed, meta in content:
            self.session.fill_chunk(self.session.put_chunk(number, len(raw), meta), codec, packed)
        self.session.end_stream(number, {"digest": DIGEST})


def _script() -> list[tuple[str, str, Callable[[End], object] | None]]:
    """A session: who acts, on which connection that shows, and what is called; None if it speaks by itself."""

    def say(message: m.Message) -> Callable[[End], object]:
        return lambda end: end.session.send(message)

    layer = ((Codec.NONE, PLAIN, PLAIN, None), (Codec.LZ4, REPEATED, LZ4_BLOCK, None))
    pages = PLAIN * 513  # a little more than one fragment
    memory = ((Codec.NONE, pages, pages, {"o": "anything"}),)
    welcome = s.Welcome("edge-b", 1, MOVE, TOKEN, 32)
    return [
        ("dialer", "control", None),
        ("acceptor", "control", lambda end: end.connections["control"].accept(welcome)),
        ("dialer", "payload", None),
        ("acceptor", "payload", lambda end: end.connections["payload"].accept(s.Joined())),
        ("dialer", "control", lambda end: end.session.ping(1.0)),
        ("acceptor", "control", None),
        ("dialer", "control", say(m.Offer(MOVE, 1, {"container": "web"}, {"hash_seed": bytes(8)}))),
        ("acceptor", "control", say(m.Accept(MOVE, 1, ["sha256:aa"], ["sha256:bb"], {"held": False}))),
        ("dialer", "payload", lambda end: end.stream(m.StreamKind.LAYER, {"digest": "sha256:aa", "offset": 0}, layer)),
        ("acceptor", "control", lambda end: end.session.done(1, {})),
        ("dialer", "payload", lambda end: end.stream(m.StreamKind.MEMORY, {"round": 0}, memory)),
        ("acceptor", "control", lambda end: end.session.done(3, {})),
        ("acceptor", "control", say(m.Ready(MOVE, 1))),
        ("dialer", "control", say(m.Prepare(MOVE, 1, DIGEST))),
        ("acceptor", "control", say(m.Prepared(MOVE, 1, DIGEST, {"restore_s": 0.25}))),
        ("dialer", "control", say(m.Release(MOVE, 1, DIGEST))),
        ("acceptor", "control", say(m.Started(MOVE, 1))),
        ("dialer", "control", say(m.Finish(MOVE, 1))),
        ("dialer", "control", say(m.Query(MOVE))),
        ("acceptor", "control", say(m.State(MOVE, 1, "done", {"health": "none"}))),
        ("dialer", "control", lambda end: end.session.bye()),
    ]


def transcript(
    recorded: Sequence[dict[str, Any]] = (), pieces: Callable[[bytes], Sequence[bytes]] = lambda data: (data,)
) -> list[dict[str, Any]]:
    """A whole session, step by step: the bytes of one end, and what they mean to the other.

    :param recorded: what arrives at either end instead of what the other one sends now.
    :param pieces: cuts what arrives.
    :raises ProtocolError: one end does not understand the other.
    """
    ends = {"dialer": End(dialer=True), "acceptor": End(dialer=False)}
    rows = []
    for (by, on, call), before in zip_longest(_script(), recorded):
        if call is not None:
            call(ends[by])
        data = ends[by].to_send(on)
        other = ends["acceptor" if by == "dialer" else "dialer"]
        arriving = bytes.fromhex(before["hex"]) if before is not None else data
        means = [shown(event) for piece in pieces(arriving) for event in other.receive(on, piece)]
        rows.append({"by": by, "on": on, "hex": data.hex(), "means": means})
    return rows


def files() -> dict[str, str]:
    """Name and content of each file."""
    content = {
        "preambles.json": preambles(),
        "frames_valid.json": valid_frames(),
        "frames_invalid.json": invalid_frames(),
        "chunks.json": chunks(),
        "transcripts.json": transcript(),
    }
    return {name: "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n" for name, rows in content.items()}


def main() -> int:
    """Write or check."""
    if "--check" in sys.argv[1:]:
        stale = [name for name, text in files().items() if (HERE / name).read_text(encoding="utf-8") != text]
        sys.stderr.write("".join(f"{name} is not what make_vectors.py writes\n" for name in stale))
        return 1 if stale else 0
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
