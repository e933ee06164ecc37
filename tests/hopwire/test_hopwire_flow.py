"""The flow file: what is written is read again, what is secret is not in it, and damage is told as what it is."""

from __future__ import annotations

import io

import pytest
from hopwire_support import (
    ABOUT,
    BEGAN_NS,
    MEMORY,
    MOVE,
    PASSWORD,
    SEED,
    TOKEN,
    Wire,
    a_move,
    handshake,
    records,
    seen,
)  # fmt: skip

from hopwire.errors import FlowError, FlowTruncatedError
from hopwire.events import BrokenSeen, EndSeen, FrameSeen, NoteSeen
from hopwire.flow.reader import READ_BYTES, FlowReader
from hopwire.flow.records import HEAD, RECORD, RECORD_BYTES_MAX, About, Closed, FrameRecord, encode
from streamhop_protocol.frames import encode_frame
from streamhop_protocol.messages import Offer
from streamhop_protocol.signals import Data, Open, Welcome


class Trickle:
    """A file that gives a few bytes at a time, and counts the most that were asked for."""

    def __init__(self, data: bytes, at_once: int) -> None:
        self._file = io.BytesIO(data)
        self._at_once = at_once
        self.asked_max = 0

    def read(self, size: int, /) -> bytes:
        self.asked_max = max(self.asked_max, size)
        return self._file.read(min(size, self._at_once))


@pytest.mark.parametrize("payload", [False, True])
def test_what_is_recorded_is_what_was_told_live(payload: bool) -> None:
    wire = a_move(payload=payload)
    read = [event for event in seen(wire.finished()) if isinstance(event, FrameSeen)]
    told = [event for event in wire.told if isinstance(event, FrameSeen)]
    assert len(read) == len(told) > 30

    def what(event: FrameSeen) -> object:
        return event.at_ns, event.connection, event.from_dialer, event.prefix, event.error

    assert list(map(what, read)) == list(map(what, told))
    if payload:
        assert [bytes(event.payload or b"") for event in read] == [bytes(event.payload or b"") for event in told]


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_a_file_is_read_in_pieces_of_any_size(at_once: int) -> None:
    data = a_move(payload=True).finished()
    assert list(FlowReader(Trickle(data, at_once))) == records(data)


def test_without_payload_nothing_is_in_it_that_containers_keep_to_themselves() -> None:
    data = a_move().finished()
    assert MEMORY[:24] not in data
    for secret in (PASSWORD.encode(), TOKEN, SEED):
        assert secret not in data
    frames = [record for record in records(data) if isinstance(record, FrameRecord)]
    contents = [frame for frame in frames if frame.prefix.payload_bytes]
    assert contents
    assert all(frame.payload is None and len(frame.digest) == 16 for frame in contents)
    about = records(data)[0]
    assert about == ABOUT


def test_with_payload_everything_is_in_it_but_the_token() -> None:
    data = a_move(payload=True).finished()
    assert MEMORY[:24] in data
    assert PASSWORD.encode() in data
    assert TOKEN not in data
    about = records(data)[0]
    assert about == About("test", BEGAN_NS, payload=True)
    assert isinstance(about, About)


def test_the_shape_of_what_was_hidden_is_still_there() -> None:
    bodies = [
        event.received.body for event in seen(a_move().finished()) if isinstance(event, FrameSeen) and event.received
    ]
    (offer,) = [body for body in bodies if isinstance(body, Offer)]
    assert offer.move == MOVE
    assert offer.manifest["container"] == "web"
    assert offer.manifest["request"] == {"name": "***", "body": {"Env": ["***"], "Labels": {"team": "***"}}}
    (welcome,) = [body for body in bodies if isinstance(body, Welcome)]
    assert welcome.token == bytes(32)


def test_digests_tell_equal_content_apart_from_other_but_not_across_files() -> None:
    def digests(wire: Wire) -> list[bytes]:
        handshake(wire)
        wire.say(2, Open("memory"), from_dialer=True, stream=1)
        from streamhop_protocol.signals import encode_signal

        for seq, payload in enumerate((b"same", b"same", b"other"), 1):
            frame_type, header = encode_signal(Data(seq, 0, len(payload)))
            wire.put(2, encode_frame(frame_type, header, payload, flags=1, stream=1), from_dialer=True)
        return [r.digest for r in records(wire.finished()) if isinstance(r, FrameRecord) and r.prefix.payload_bytes]

    first, second = digests(Wire()), digests(Wire())
    assert first[0] == first[1] != first[2]
    assert first[0] != second[0]


def test_a_message_that_cannot_be_decoded_is_not_kept_either() -> None:
    wire = Wire()
    handshake(wire)
    wire.put(1, encode_frame(0x20, b"\xc1" + PASSWORD.encode(), flags=1), from_dialer=True)
    data = wire.finished()
    assert PASSWORD.encode() not in data
    (broken,) = [event for event in seen(data) if isinstance(event, BrokenSeen)]
    assert (broken.code, broken.from_dialer) == ("malformed", True)


def test_what_follows_a_violation_is_counted() -> None:
    wire = Wire()
    handshake(wire)
    wire.put(1, encode_frame(0x7E, b"", flags=1), from_dialer=True)
    wire.put(1, b"x" * 1000, from_dialer=True)
    wire.end(1)
    events = seen(wire.finished())
    assert [event.code for event in events if isinstance(event, BrokenSeen)] == ["unexpected"]
    assert [event.unread_bytes for event in events if isinstance(event, EndSeen)] == [1000, 0]


def test_the_file_ends_at_its_bound_and_says_so() -> None:
    whole = a_move(payload=True)
    size = len(whole.finished())
    wire = Wire(payload=True, bytes_max=size // 2)
    handshake(wire)
    wire.say(2, Open("memory"), from_dialer=True, stream=1)
    for number in range(1, 200):
        wire.put(
            2,
            encode_frame(0x11, b"\x81\xa3seq\xcd" + number.to_bytes(2, "big"), bytes(999), flags=3, stream=1),
            from_dialer=True,
        )
    data = wire.finished()
    assert len(data) <= size // 2
    closed = records(data)[-1]
    assert isinstance(closed, Closed)
    assert closed.left_out_frames == wire.writer.left_out_frames > 100
    note = seen(data)[-1]
    assert isinstance(note, NoteSeen)
    assert note.data == {"left_out_frames": closed.left_out_frames}


def test_a_file_that_was_cut_off_gives_what_is_whole_and_then_says_so() -> None:
    data = a_move().finished()
    ends = []
    at = len(HEAD)
    while at < len(data):
        at += RECORD.size + RECORD.unpack_from(data, at)[1]
        ends.append(at)
    for cut in range(len(data)):
        reader = FlowReader(io.BytesIO(data[:cut]))
        given = []
        try:
            given.extend(reader)
            truncated = False
        except FlowTruncatedError:
            truncated = True
        assert len(given) == sum(end <= cut for end in ends)
        assert truncated
    assert len(records(data)) == len(ends)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut off"),
        (b"GET / HTTP/1.1\r\n\r\n", "no flow file"),
        (HEAD[:-1] + b"\x02", "version 2"),
        (HEAD + encode(Closed(0, 0)), "does not begin with what it is"),
        (HEAD + RECORD.pack(3, RECORD_BYTES_MAX + 1), "a record of"),
        (HEAD + RECORD.pack(3, (1 << 32) - 1), "a record of"),
        (HEAD + encode(ABOUT) + RECORD.pack(3, 5) + b"12345", "too short for a frame"),
        (HEAD + encode(ABOUT) + RECORD.pack(3, 40) + b"\xff" * 40, "do not add up"),
        (HEAD + encode(ABOUT) + RECORD.pack(2, 1) + b"\xc0", "damaged record"),
        (HEAD + RECORD.pack(1, 1) + b"\x80", "lacks"),
    ],
)
def test_what_is_no_flow_file_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(FlowError, match=why):
        records(data)


def test_a_record_of_a_later_version_is_skipped() -> None:
    data = HEAD + encode(ABOUT) + RECORD.pack(200, 3) + b"abc" + encode(Closed(1, 0))
    assert records(data) == [ABOUT, Closed(1, 0)]


def test_nothing_is_allocated_for_a_length_that_is_not_there() -> None:
    source = Trickle(HEAD + encode(ABOUT) + RECORD.pack(3, RECORD_BYTES_MAX), 100)
    with pytest.raises(FlowTruncatedError):
        list(FlowReader(source))
    assert source.asked_max <= max(READ_BYTES, RECORD_BYTES_MAX + RECORD.size)
