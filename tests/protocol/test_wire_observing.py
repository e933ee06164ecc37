"""Somebody who only watches sees what the ends see, and finds what they would find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamhop_protocol.connection import Phase, Received, encode_body
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.frames import FLAG_REQUIRED, PREAMBLE, FrameType, encode_frame
from streamhop_protocol.inflow import ChunkArrived, StreamEnded, StreamOpened
from streamhop_protocol.messages import Ready
from streamhop_protocol.observing import Broken, ConnectionObserver, Passed, SessionObserver
from streamhop_protocol.signals import (
    Credit,
    Data,
    Done,
    End,
    Error,
    Hello,
    Join,
    Joined,
    Open,
    Ping,
    Reset,
    Welcome,
    encode_signal,
)  # fmt: skip

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
MOVE, SESSION, TOKEN = bytes(16), bytes(16), bytes(32)
HELLO, WELCOME = Hello("a", 1, 1, 1, 4), Welcome("b", 1, SESSION, TOKEN, 2)


def bodies(found: list[Passed | Broken]) -> list[Any]:
    return [each.received.body if isinstance(each, Passed) and each.received else each for each in found]


def established(observer: ConnectionObserver) -> None:
    """A control connection whose handshake is over."""
    assert bodies(observer.feed(PREAMBLE + encode_body(HELLO), from_dialer=True)) == [HELLO]
    assert bodies(observer.feed(PREAMBLE + encode_body(WELCOME), from_dialer=False)) == [WELCOME]
    assert observer.phase is Phase.CONTROL


def test_a_transcript_is_seen_as_the_ends_see_it() -> None:
    """The golden session, both directions, byte by byte."""
    observers: dict[str, ConnectionObserver] = {}
    seen = 0
    for step in json.loads((VECTORS / "transcripts.json").read_text()):
        observer = observers.setdefault(step["on"], ConnectionObserver())
        for byte in bytes.fromhex(step["hex"]):
            found = observer.feed(bytes([byte]), from_dialer=step["by"] == "dialer")
            assert not any(isinstance(each, Broken) for each in found)
            seen += len(found)
    assert seen > 10


def test_both_directions_of_a_payload_connection() -> None:
    observer = ConnectionObserver()
    observer.feed(PREAMBLE, from_dialer=False)  # sent without waiting for the dialer's
    join = Join(SESSION, TOKEN)
    assert bodies(observer.feed(PREAMBLE + encode_body(join), from_dialer=True)) == [join]
    assert bodies(observer.feed(encode_body(Joined()), from_dialer=False)) == [Joined()]
    opening = Open("memory")
    assert bodies(observer.feed(encode_body(opening, stream=1), from_dialer=True)) == [opening]
    assert observer.phase is Phase.PAYLOAD


def test_frames_that_receivers_skip_are_seen() -> None:
    observer = ConnectionObserver()
    established(observer)
    unknown = encode_frame(0x7E, b"header", b"payload", stream=9)
    found = observer.feed(encode_body(Ping(1)) + unknown + encode_body(Ping(2)), from_dialer=True)
    assert [(each.frame.type, each.received is None) for each in found if isinstance(each, Passed)] == [
        (FrameType.PING, False), (0x7E, True), (FrameType.PING, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(0x7E, b"", flags=FLAG_REQUIRED), "unexpected"),
        (encode_frame(FrameType.PING, b"\xc1"), "malformed"),
        (encode_frame(FrameType.PING, b"", b"x"), "limit"),
        (encode_body(Open("memory"), stream=1), "unexpected"),
        (encode_frame(FrameType.HELLO, b""), "unexpected"),
    ],
)
def test_what_breaks_the_protocol_is_told_once_and_the_other_direction_goes_on(data: bytes, code: str) -> None:
    observer = ConnectionObserver()
    established(observer)
    found = observer.feed(encode_body(Ping(1)) + data + encode_body(Ping(2)), from_dialer=True)
    broken = found[-1]
    assert isinstance(broken, Broken)
    assert (broken.error.code, broken.from_dialer) == (code, True)
    assert bodies(found)[0] == Ping(1)
    assert observer.feed(encode_body(Ping(3)), from_dialer=True) == []
    assert observer.end(from_dialer=True) == []
    assert bodies(observer.feed(encode_body(Ready(MOVE, 1)), from_dialer=False)) == [Ready(MOVE, 1)]


def test_who_does_not_speak_the_protocol_is_found_out() -> None:
    observer = ConnectionObserver()
    (broken,) = observer.feed(b"GET / HTTP/1.1\r\n", from_dialer=True)
    assert isinstance(broken, Broken)
    assert broken.error.code == "malformed"
    other = ConnectionObserver()
    (broken,) = other.feed(PREAMBLE + b"\0" * 12, from_dialer=False)
    assert isinstance(broken, Broken)
    assert broken.error.code == "unexpected"
    assert other.feed(b"more", from_dialer=False) == []


def test_a_refusal_and_an_end_in_the_middle() -> None:
    observer = ConnectionObserver()
    observer.feed(PREAMBLE + encode_body(HELLO), from_dialer=True)
    refusal = Error("limit", "too many sessions")
    assert bodies(observer.feed(PREAMBLE + encode_body(refusal), from_dialer=False)) == [refusal]
    assert observer.end(from_dialer=False) == []
    observer = ConnectionObserver()
    established(observer)
    observer.feed(encode_body(Ping(1))[:-1], from_dialer=True)
    (broken,) = observer.end(from_dialer=True)
    assert isinstance(broken, Broken)
    assert broken.error.code == "truncated"
    assert observer.end(from_dialer=False) == []


# -- sessions ----------------------------------------------------------------------------------------------------------


def frame(body: Any, stream: int = 1, payload_bytes: int = 0, *, more: bool = False) -> Received:
    _, header = encode_signal(body)
    return Received(body, stream, memoryview(bytes(payload_bytes)), more, 12 + len(header) + payload_bytes)


def session(*steps: tuple[bool, Received]) -> list[str]:
    """What comes of frames, each with whether the dialer sent it: names of events, codes of errors."""
    observer, found = SessionObserver(HELLO, WELCOME), []
    for from_dialer, received in steps:
        try:
            found += [type(event).__name__ for event in observer.receive(received, from_dialer=from_dialer)]
        except ProtocolError as error:
            found.append(error.code)
    return found


A, B = True, False
OPEN, WHOLE = frame(Open("memory")), frame(Data(1, 0, 5), payload_bytes=5)
OPENED, CHUNK, ENDED = StreamOpened.__name__, ChunkArrived.__name__, StreamEnded.__name__
BIG = [(A, frame(Data(n, 2, 1 << 20), payload_bytes=1_000_000)) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([(A, OPEN), (A, WHOLE), (A, frame(End(2))), (B, frame(Done()))], [OPENED, CHUNK, ENDED]),
        ([(A, WHOLE), (A, OPEN), (A, frame(End(2)))], [OPENED, CHUNK, ENDED]),
        ([(A, OPEN), (A, WHOLE), (A, WHOLE)], [OPENED, CHUNK, "unexpected"]),
        ([(A, OPEN), (A, frame(Data(9999, 0, 5), payload_bytes=5))], [OPENED, "flow"]),
        ([(A, OPEN), (B, frame(Done()))], [OPENED, "unexpected"]),
        ([(B, OPEN)], ["unexpected"]),
        ([(A, frame(Open("memory"), stream)) for stream in (1, 3, 5)], [OPENED, OPENED, "limit"]),
        ([(A, OPEN), *BIG], [OPENED, CHUNK, CHUNK, CHUNK, CHUNK, "flow"]),
        ([(A, OPEN), *BIG[:4], (B, frame(Credit(1_000_030))), BIG[4]], [OPENED, *[CHUNK] * 5]),
        ([(A, OPEN), (B, frame(Credit(1000)))], [OPENED, "flow"]),
        ([(A, OPEN), (A, frame(Data(1, 0, 9), payload_bytes=4, more=True)), (A, frame(End(2)))], [OPENED, "malformed"]),
        ([(A, OPEN), (A, frame(Reset("x", ""))), (B, frame(Done())), (A, WHOLE)], [OPENED]),
        ([(A, OPEN), (B, frame(Reset("x", ""))), (A, WHOLE), (A, frame(Reset("x", "")))], [OPENED]),
        ([(B, frame(Open("held"), 2)), (A, frame(Credit(1), 2))], [OPENED, "flow"]),
        ([(A, Received(Ready(MOVE, 1))), (B, Received(Ping(1)))], []),
    ],
)  # fmt: skip
def test_the_rules_for_streams(steps: list[tuple[bool, Received]], found: list[str]) -> None:
    assert session(*steps) == found


def test_fragments_on_two_connections_are_one_chunk() -> None:
    observer = SessionObserver(HELLO, WELCOME)
    observer.receive(OPEN, from_dialer=True)
    last = frame(Data(2), payload_bytes=6)
    assert observer.receive(last, from_dialer=True) == []
    first = frame(Data(1, 0, 10, {"o": 1}), payload_bytes=4, more=True)
    (chunk,) = observer.receive(first, from_dialer=True)
    assert isinstance(chunk, ChunkArrived)
    assert (chunk.raw_bytes, len(chunk.data), chunk.meta) == (10, 10, {"o": 1})
