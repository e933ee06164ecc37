"""Frames and sessions."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import lz4.block
import zstandard

from fuzz.cases.case import Case, case
from fuzz.targets.wire import HELLO, MOVE, WELCOME, arrives, data_frame
from streamhop_protocol.codecs import Codec
from streamhop_protocol.connection import encode_body
from streamhop_protocol.errors import (
    FlowError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnexpectedError,
    VersionError,
)
from streamhop_protocol.frames import FLAG_MORE, FLAG_REQUIRED, MAGIC, PREAMBLE, FrameType, encode_frame
from streamhop_protocol.messages import MESSAGE_TYPES, Abort, Prepared, Release, Started
from streamhop_protocol.signals import SIGNAL_TYPES, Credit, Data, Done, End, Open, Ping, Pong, Reset, Signal
from streamhop_protocol.signals import encode_signal as encode
from streamhop_protocol.wirepack import pack

NEWCOMER, DIALER, PAYLOAD, CONTROL = b"\0\0", b"\1\0", b"\4\0", b"\3\0"
"""How an input of the target ``connection`` begins: which end, and in one piece."""

THEN_THE_END = b"\x84\0"
"""A newcomer whose connection ends after the input."""

QUERY = 0x2C


def _prefix(payload_bytes: int, header_bytes: int, frame_type: int, flags: int = 1, stream: int = 0) -> bytes:
    return struct.pack(">IHBBI", payload_bytes, header_bytes, frame_type, flags, stream)


def _frame(body: Signal, stream: int = 0) -> bytes:
    return encode_body(body, stream=stream)


def lengths() -> Iterator[Case]:
    """Lengths that lie, of payloads and headers."""
    for payload_bytes in (1, 1 << 31, (1 << 32) - 1):
        yield case(
            "connection", f"payload-of-{payload_bytes}-before-hello",
            NEWCOMER + PREAMBLE + _prefix(payload_bytes, 0, FrameType.HELLO), LimitError, "payload",
        )  # fmt: skip
        yield case(
            "connection", f"ping-with-payload-of-{payload_bytes}",
            CONTROL + _prefix(payload_bytes, 0, FrameType.PING), LimitError, "payload",
        )  # fmt: skip
    yield case(
        "connection", "data-with-payload-of-2-32-1",
        PAYLOAD + _prefix((1 << 32) - 1, 4, FrameType.DATA, stream=1), LimitError, "payload",
    )  # fmt: skip
    yield case(
        "connection", "optional-unknown-with-payload-of-2-31",
        CONTROL + _prefix(1 << 31, 0, 0x7F, flags=0), LimitError, "payload",
    )  # fmt: skip
    yield case(
        "connection", "all-lengths-0", NEWCOMER + PREAMBLE + _prefix(0, 0, FrameType.HELLO), MalformedError, "lacks"
    )
    yield case(
        "connection",
        "hello-over-1-kib",
        NEWCOMER + PREAMBLE + _prefix(0, 1025, FrameType.HELLO),
        LimitError,
        "handshake",
    )
    yield case("connection", "zeros", NEWCOMER + bytes(64), MalformedError, "does not speak")
    yield case("connection", "ones", NEWCOMER + b"\xff" * 64, MalformedError, "does not speak")


def strangers() -> Iterator[Case]:
    """Who speaks something else, or another version."""
    for name, banner in (
        ("http", b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n"),
        ("ssh", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        ("tls", bytes.fromhex("160301020001000001fc0303")),
    ):
        yield case("connection", f"speaks-{name}", NEWCOMER + banner, MalformedError, "does not speak")
        yield case("connection", f"answers-in-{name}", DIALER + banner, MalformedError, "does not speak")
    yield case("connection", "framing-of-tomorrow", NEWCOMER + MAGIC + b"\0\2", VersionError, "version 2")
    yield case("connection", "line-ends-changed", NEWCOMER + b"\xf5HOP\n\0\1", MalformedError, "does not speak")
    yield case(
        "connection", "version-that-was-not-offered",
        DIALER + PREAMBLE + encode_body(_welcome(version=2)), VersionError, "not on offer",
    )  # fmt: skip
    yield case("connection", "hello-twice", NEWCOMER + PREAMBLE + encode_body(HELLO) * 2, UnexpectedError, "phase")
    yield case("connection", "ping-before-hello", NEWCOMER + PREAMBLE + _frame(Ping(1)), UnexpectedError, "phase")
    yield case(
        "connection", "message-before-hello", NEWCOMER + PREAMBLE + _prefix(0, 0, QUERY), UnexpectedError, "phase"
    )
    yield case("connection", "hello-to-a-dialer", DIALER + PREAMBLE + encode_body(HELLO), UnexpectedError, "phase")
    yield case("connection", "data-on-control", CONTROL + data_frame(1, b"x"), UnexpectedError, "phase")
    yield case("connection", "ping-on-payload", PAYLOAD + _frame(Ping(1)), UnexpectedError, "phase")
    yield case("connection", "unknown-type-required", CONTROL + _prefix(0, 0, 0x7F), UnexpectedError, "required")
    yield case("connection", "unknown-type-optional", CONTROL + _prefix(0, 0, 0x7F, flags=0), None)
    yield case(
        "connection", "ping-with-a-stream", CONTROL + _prefix(0, 0, FrameType.PING, stream=1), MalformedError, "stream"
    )
    yield case("connection", "data-without-a-stream", PAYLOAD + _prefix(0, 0, FrameType.DATA), MalformedError, "stream")
    yield case(
        "connection",
        "more-of-a-ping",
        CONTROL + _prefix(0, 0, FrameType.PING, flags=1 | FLAG_MORE),
        MalformedError,
        "MORE",
    )
    yield case("connection", "million-pings", CONTROL + _frame(Ping(1)) * 20_000, None, kept=False)


def _welcome(*, version: int) -> Signal:
    return type(WELCOME)("fuzz", version, bytes(16), bytes(32), 8)


def truncations() -> Iterator[Case]:
    """The connection ends at every offset of the handshake."""
    whole = PREAMBLE + encode_body(HELLO)
    for length in range(len(whole)):
        yield case(
            "connection", f"ends-after-{length}-bytes", THEN_THE_END + whole[:length], TruncatedError, "hello",
            kept=length in (0, 7, 8, 19, 20, len(whole) - 1),
        )  # fmt: skip


def values() -> Iterator[Case]:
    """msgpack that is none, or that no reader should be asked to hold."""
    yield case("value", "empty", b"", MalformedError, "not one msgpack value")
    yield case("value", "reserved-byte", b"\xc1", MalformedError, "not one msgpack value")
    yield case("value", "trailing-bytes", b"\x01\x02", MalformedError, "not one msgpack value")
    yield case("value", "nested-too-deep", b"\x91" * 17 + b"\x90", LimitError, "nested")
    yield case("value", "nested-a-million-deep", b"\x91" * 60_000, LimitError, "nested", kept=False)
    yield case("value", "array32-of-2-32-1", b"\xdd\xff\xff\xff\xff", MalformedError, "not one msgpack value")
    yield case("value", "map32-of-2-32-1", b"\xdf\xff\xff\xff\xff", MalformedError, "not one msgpack value")
    yield case("value", "str32-of-2-32-1", b"\xdb\xff\xff\xff\xff", MalformedError, "not one msgpack value")
    yield case("value", "bin32-of-2-32-1", b"\xc6\xff\xff\xff\xff", MalformedError, "not one msgpack value")
    yield case(
        "message",
        "million-empty-maps",
        b"\0\0" + b"\xdd\0\x10\0\0" + b"\x80" * (1 << 20),
        LimitError,
        "items",
        kept=False,
    )
    yield case("value", "integer-key", b"\x81\x01\x02", MalformedError, "key")
    yield case("value", "map-as-key", b"\x81\x80\x02", MalformedError, "")
    yield case("value", "list-as-key", b"\x81\x90\x02", MalformedError, "")
    yield case("value", "key-twice", b"\x82\xa1a\x01\xa1a\x02", MalformedError, "twice")
    yield case("value", "key-twice-inside", b"\x81\xa1b\x82\xa1a\x01\xa1a\x02", MalformedError, "twice")
    yield case("value", "extension-type", b"\xd4\x05\x00", MalformedError, "extension")
    yield case("value", "extension-of-2-32-1", b"\xc9\xff\xff\xff\xff\x05", MalformedError, "not one msgpack value")
    yield case("value", "bad-utf-8", b"\xa2\xff\xfe", MalformedError, "not one msgpack value")
    yield case("value", "surrogate-in-utf-8", b"\xa3\xed\xa0\x80", MalformedError, "not one msgpack value")


def fields() -> Iterator[Case]:
    """Fields of the wrong kind, or out of bounds."""

    def offer(epoch: object, manifest: object = None) -> bytes:
        return b"\0\0" + pack({"move": MOVE, "epoch": epoch, "manifest": {} if manifest is None else manifest})

    yield case("message", "epoch-is-a-bool", offer(True), MalformedError, "bool")
    yield case("message", "epoch-is-a-float", offer(1.0), MalformedError, "float")
    yield case("message", "epoch-is-0", offer(0), LimitError, "epoch")
    yield case("message", "epoch-is-negative", offer(-1), LimitError, "epoch")
    yield case("message", "epoch-is-huge", offer(1 << 63), LimitError, "epoch")
    yield case("message", "manifest-with-nan", offer(1, {"a": [float("nan")]}), MalformedError, "not finite")
    yield case("message", "manifest-with-infinity", offer(1, {"a": float("-inf")}), MalformedError, "not finite")
    yield case("message", "manifest-is-a-list", offer(1, [1]), MalformedError, "not a map")
    yield case("message", "move-is-text", b"\x0c\0" + pack({"move": "m" * 16}), MalformedError, "not bytes")
    yield case("message", "move-is-too-short", b"\x0c\0" + pack({"move": bytes(15)}), MalformedError, "15 bytes")
    yield case("message", "move-is-missing", b"\x0c\0" + pack({}), MalformedError, "lacks move")
    yield case(
        "message", "state-is-bytes", b"\x0d\0" + pack({"move": MOVE, "epoch": 1, "state": b"open"}), MalformedError, ""
    )
    yield case(
        "message", "state-is-empty", b"\x0d\0" + pack({"move": MOVE, "epoch": 1, "state": ""}), MalformedError, ""
    )
    yield case(
        "message", "state-is-long", b"\x0d\0" + pack({"move": MOVE, "epoch": 1, "state": "x" * 65}), LimitError, ""
    )
    yield case(
        "message",
        "reason-is-long",
        b"\x0a\0" + pack({"move": MOVE, "epoch": 1, "code": "x", "reason": "x" * 5000}),
        LimitError,
        "reason",
    )
    lacks = {"move": MOVE, "epoch": 1, "lacks": ["a"] * 4097, "reused": []}
    yield case("message", "lacks-too-many", b"\1\0" + pack(lacks), LimitError, "4097 entries", kept=False)
    yield case("message", "unknown-number", bytes([len(MESSAGE_TYPES), 0]) + pack({}), UnexpectedError, "no message")
    yield case("message", "map-is-a-list", b"\x0c\0" + pack([1]), MalformedError, "not a map")

    def signal(frame: FrameType, **values: object) -> bytes:
        return bytes([sorted(SIGNAL_TYPES).index(frame)]) + pack(values)

    yield case("signal", "credit-of-0", signal(FrameType.CREDIT, size_bytes=0), LimitError, "size_bytes")
    yield case("signal", "credit-is-negative", signal(FrameType.CREDIT, size_bytes=-5), LimitError, "size_bytes")
    yield case(
        "signal",
        "raw-bytes-over-the-bound",
        signal(FrameType.DATA, seq=1, codec=0, raw_bytes=(1 << 20) + 1),
        LimitError,
        "raw_bytes",
    )
    yield case(
        "signal", "raw-bytes-negative", signal(FrameType.DATA, seq=1, codec=0, raw_bytes=-1), LimitError, "raw_bytes"
    )
    yield case("signal", "seq-is-0", signal(FrameType.DATA, seq=0), LimitError, "seq")
    yield case("signal", "seq-is-huge", signal(FrameType.END, seq=1 << 48), LimitError, "seq")
    yield case(
        "signal", "meta-with-nan", signal(FrameType.DATA, seq=1, meta={"a": float("nan")}), MalformedError, "not finite"
    )
    yield case("signal", "kind-is-unknown", signal(FrameType.OPEN, kind="shell"), MalformedError, "shell")
    yield case(
        "signal",
        "no-payload-connections",
        signal(FrameType.HELLO, name="x", version_min=1, version_max=1, connections=0, streams_max=1),
        LimitError,
        "connections",
    )
    yield case(
        "signal",
        "token-too-short",
        signal(FrameType.JOIN, session=bytes(16), token=bytes(31)),
        MalformedError,
        "31 bytes",
    )


def chunks() -> Iterator[Case]:
    """Chunks that are not what they are declared to be."""
    raw = b"page" * 1000
    zstd = zstandard.ZstdCompressor().compress(raw)
    block = lz4.block.compress(raw, store_size=False)

    def chunk(codec: int, raw_bytes: int, data: bytes) -> bytes:
        return bytes([codec]) + raw_bytes.to_bytes(3, "big") + data

    for name, codec, data in (("lz4", Codec.LZ4, block), ("zstd", Codec.ZSTD, zstd)):
        yield case("chunk", f"{name}-declared-too-small", chunk(codec, 3999, data), MalformedError, "")
        yield case("chunk", f"{name}-declared-too-large", chunk(codec, 4001, data), MalformedError, "")
        yield case("chunk", f"{name}-declared-a-bomb", chunk(codec, (1 << 24) - 1, data), LimitError, "at most")
        yield case("chunk", f"{name}-cut-off", chunk(codec, 4000, data[:-3]), MalformedError, "")
        yield case("chunk", f"{name}-with-more-behind", chunk(codec, 4000, data + b"more"), MalformedError, "")
        yield case("chunk", f"{name}-empty", chunk(codec, 4000, b""), MalformedError, "")
        yield case("chunk", f"{name}-no-smaller-than-raw", chunk(codec, 4, data), LimitError, "compressed")
    twice = zstandard.ZstdCompressor().compress(zstandard.ZstdCompressor().compress(bytes(1 << 20)))
    yield case("chunk", "compressed-inside-compressed", chunk(Codec.ZSTD, 1 << 20, twice), MalformedError, "says")
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    yield case("chunk", "zstd-bomb-that-says-4000", chunk(Codec.ZSTD, 4000, bomb), MalformedError, "says", kept=False)
    yield case(
        "chunk", "zstd-bomb-that-says-1-mib", chunk(Codec.ZSTD, 1 << 20, bomb), MalformedError, "says", kept=False
    )
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
    yield case("chunk", "zstd-without-a-size", chunk(Codec.ZSTD, 4000, unsized), MalformedError, "says")
    window = bytearray(zstd)
    yield case("chunk", "two-zstd-frames", chunk(Codec.ZSTD, 4000, bytes(window) * 2), MalformedError, "")
    yield case("chunk", "raw-of-another-size", chunk(Codec.NONE, 5, b"four"), LimitError, "uncompressed")
    yield case("chunk", "codec-unknown", chunk(3, 4, b"four"), MalformedError, "codec 3")


def streams() -> Iterator[Case]:
    """Streams, credit, and messages out of turn for the codec; what a move makes of them is the handover's."""
    opened = _frame(Open("memory"), 1)
    yield case(
        "session",
        "data-of-a-stream-never-opened",
        arrives(1, data_frame(1, b"x", stream=2)),
        UnexpectedError,
        "not the peer's",
    )
    yield case("session", "frame-number-twice", arrives(1, opened + data_frame(1, b"x") * 2), UnexpectedError, "twice")
    yield case("session", "open-twice", arrives(1, opened * 2), UnexpectedError, "twice")
    whole = opened + _frame(End(1), 1)
    yield case(
        "session",
        "data-of-a-stream-that-ended",
        arrives(1, whole + data_frame(2, b"x")),
        UnexpectedError,
        "after its end",
    )
    yield case(
        "session",
        "data-of-a-stream-that-is-done",
        arrives(1, whole) + arrives(1, data_frame(2, b"x")),
        UnexpectedError,
        "over",
    )
    yield case(
        "session",
        "end-before-what-it-ends",
        arrives(1, opened + data_frame(5, b"x") + _frame(End(2), 1)),
        UnexpectedError,
        "after its end",
    )
    yield case("session", "number-far-ahead", arrives(1, opened + data_frame(1 << 40, b"x")), FlowError, "has not come")
    overrun = opened + b"".join(data_frame(seq, bytes(60_000)) for seq in range(2, 80))
    yield case("session", "credit-overrun", _all_at_once(overrun), FlowError, "credit", kept=False)
    tiny = opened + b"".join(data_frame(seq, b"") for seq in range(2, 4200))
    yield case("session", "tiny-frames-beyond-credit", _all_at_once(tiny), FlowError, "credit", kept=False)
    many = b"".join(_frame(Open("memory"), stream) for stream in range(1, 19, 2))
    yield case("session", "too-many-streams", arrives(1, many), LimitError, "streams at once")
    yield case(
        "session",
        "stream-number-far-ahead",
        arrives(1, _frame(Open("memory"), 2**32 - 1)),
        LimitError,
        "streams at once",
    )
    yield case(
        "session",
        "credit-for-a-stream-never-opened",
        arrives(0, _frame(Credit(4096), 2)),
        UnexpectedError,
        "never opened",
    )
    yield case(
        "session", "credit-that-overflows", b"\4" + arrives(0, _frame(Credit(4 << 20), 2)), FlowError, "overflows"
    )
    yield case(
        "session", "done-for-a-stream-never-opened", arrives(0, _frame(Done(), 2)), UnexpectedError, "never opened"
    )
    yield case(
        "session", "done-before-the-end", b"\4" + arrives(0, _frame(Done(), 2)), UnexpectedError, "has not ended"
    )
    yield case(
        "session",
        "reset-of-a-stream-never-opened",
        arrives(0, _frame(Reset("x", ""), 2)),
        UnexpectedError,
        "never opened",
    )
    yield case("session", "pong-to-nothing", arrives(0, _frame(Pong(99))), None)
    more = encode_frame(
        FrameType.DATA, encode(Data(1, 0, 4))[1], b"four and more", flags=FLAG_REQUIRED | FLAG_MORE, stream=1
    )
    yield case("session", "chunk-that-goes-on-and-on", arrives(1, opened + more), LimitError, "on and on")
    begun = encode_frame(FrameType.DATA, encode(Data(1, 0, 4))[1], b"fo", flags=FLAG_REQUIRED | FLAG_MORE, stream=1)
    yield case(
        "session",
        "ends-inside-a-chunk",
        arrives(1, opened + begun + _frame(End(2), 1)),
        MalformedError,
        "middle of a chunk",
    )
    yield case(
        "session",
        "chunk-within-a-chunk",
        arrives(1, opened + begun + data_frame(2, b"x")),
        MalformedError,
        "begins no chunk",
    )
    resets = b"".join(_frame(Reset("x", ""), stream) for stream in range(1, 2101, 2))
    yield case("session", "never-reads-the-answers-to-its-resets", arrives(0, resets), FlowError, "answers", kept=False)
    ended = b"".join(
        arrives(1, _frame(Open("memory"), stream) + _frame(End(1), stream)) for stream in range(1, 2101, 2)
    )
    yield case("session", "never-reads-the-answers-to-its-streams", ended, FlowError, "answers", kept=False)
    said = [
        Prepared(move=MOVE, epoch=1, image_digest=bytes(32)),
        Started(move=MOVE, epoch=1),
        Release(move=MOVE, epoch=1, image_digest=bytes(32)),
        Abort(move=MOVE, epoch=1, code="x", reason=""),
    ]
    yield case("session", "messages-twice-and-out-of-order", arrives(0, b"".join(map(encode_body, said * 2))), None)


def _all_at_once(frames: bytes) -> bytes:
    return b"".join(arrives(1, frames[at : at + 65535]) for at in range(0, len(frames), 65535))


CASES = [
    *lengths(), *strangers(), *truncations(), *values(), *fields(), *chunks(), *streams(),
]  # fmt: skip
