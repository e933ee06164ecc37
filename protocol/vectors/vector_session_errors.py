"""What only a whole session shows to be wrong: frames that are well-formed, but not after those before them."""

from __future__ import annotations

from typing import Any

from streamhop_protocol import signals as s
from streamhop_protocol.connection import encode_body
from streamhop_protocol.frames import FLAG_MORE, FLAG_REQUIRED, FrameType, encode_frame
from streamhop_protocol.limits import META_BYTES_MAX

STREAMS_MAX = 32
"""As in the handshake before all of these."""

ZEROS_MIN = 4096
"""So many zeros at the end of what is sent are told by their number."""

Step = tuple[str, str, bytes]
"""Who sends it, on which connection, and the bytes."""


def _data(seq: int, payload: bytes, *, stream: int = 1, more: bool = False, **fields: Any) -> bytes:
    _, header = s.encode_signal(s.Data(seq, **fields))
    flags = FLAG_REQUIRED | (FLAG_MORE if more else 0)
    return encode_frame(FrameType.DATA, header, payload, flags=flags, stream=stream)


def _chunk(seq: int, payload: bytes = b"x") -> bytes:
    return _data(seq, payload, codec=0, raw_bytes=len(payload))


def _pay(*frames: bytes) -> list[Step]:
    return [("dialer", "payload", frame) for frame in frames]


def _say(*frames: bytes) -> list[Step]:
    return [("acceptor", "control", frame) for frame in frames]


def _cases() -> list[tuple[str, str, list[Step]]]:
    opening, whole = encode_body(s.Open("layer"), stream=1), _chunk(1)
    end = encode_body(s.End(2), stream=1)
    done, credit = encode_body(s.Done(), stream=1), encode_body(s.Credit(1024), stream=1)
    reset = encode_body(s.Reset("cancelled", ""), stream=1)
    many = [encode_body(s.Open("layer"), stream=1 + 2 * number) for number in range(STREAMS_MAX + 1)]
    full = bytes((1 << 20) - 64)
    long_meta = bytes(META_BYTES_MAX)
    return [
        ("unexpected", "OPEN twice", _pay(opening, opening)),
        ("unexpected", "a number twice", _pay(opening, whole, whole)),
        ("unexpected", "a number twice, before its turn", _pay(_chunk(5), _chunk(5))),
        ("unexpected", "END twice", _pay(opening, whole, end, end)),
        ("unexpected", "a number beyond END", _pay(opening, end, _chunk(3))),
        ("unexpected", "END below a number that came", _pay(_chunk(5), end)),
        (
            "malformed",
            "END in the middle of a chunk",
            _pay(opening, _data(1, b"x", more=True, codec=0, raw_bytes=2), end),
        ),
        ("unexpected", "a stream of the other side's", _pay(encode_body(s.Open("layer"), stream=2))),
        ("limit", "more streams than allowed", _pay(*many)),
        ("flow", "a number 4098 ahead", _pay(opening, _chunk(4099))),
        ("flow", "more than the credit", _pay(opening, *(_chunk(seq, full) for seq in range(1, 6)))),
        ("malformed", "a chunk that does not begin", _pay(opening, _data(1, b"x"))),
        ("malformed", "codec alone", _pay(opening, _data(1, b"x", codec=0))),
        ("malformed", "a codec that is not known", _pay(opening, _data(1, b"x", codec=9, raw_bytes=2))),
        (
            "malformed",
            "a chunk that begins within another",
            _pay(opening, _data(1, b"x", more=True, codec=0, raw_bytes=9), _chunk(2)),
        ),
        ("limit", "a chunk that goes on and on", _pay(opening, _data(1, b"xx", more=True, codec=0, raw_bytes=2))),
        ("limit", "a fragment of no byte", _pay(opening, _data(1, b"", more=True, codec=0, raw_bytes=2))),
        ("limit", "a raw chunk that is too short", _pay(opening, _data(1, b"x", codec=0, raw_bytes=2))),
        ("limit", "a compressed chunk that is no smaller", _pay(opening, _data(1, b"xx", codec=1, raw_bytes=2))),
        ("limit", "meta over 60 KiB", _pay(opening, _data(1, b"\x00", codec=0, raw_bytes=1, meta=long_meta))),
        ("flow", "credit that overflows the window", [*_pay(opening), *_say(credit)]),
        ("unexpected", "credit for a stream that never was", _say(credit)),
        ("unexpected", "DONE for a stream that never was", _say(done)),
        ("unexpected", "DONE before END", [*_pay(opening), *_say(done)]),
        ("unexpected", "a frame after DONE", [*_pay(opening, whole, end), *_say(done), *_pay(end)]),
        ("unexpected", "RESET for a stream that never was", _say(reset)),
    ]


def _step(by: str, on: str, data: bytes) -> dict[str, Any]:
    begin = data.rstrip(b"\x00")
    zeros = len(data) - len(begin)
    row = {"by": by, "on": on, "hex": (begin if zeros >= ZEROS_MIN else data).hex()}
    return {**row, "zeros": zeros} if zeros >= ZEROS_MIN else row


def invalid_sessions() -> list[dict[str, Any]]:
    """Rows of ``sessions_invalid.json``."""
    return [{"error": error, "why": why, "steps": [_step(*step) for step in steps]} for error, why, steps in _cases()]
