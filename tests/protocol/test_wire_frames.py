"""The frame reader: whole, byte by byte, with trailing data, truncated anywhere, damaged anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamhop_protocol.connection import Connection, Phase, Received, choose_version, encode_body
from streamhop_protocol.errors import (
    LimitError,
    MalformedError,
    ProtocolError,
    TruncatedError,
    UnexpectedError,
    VersionError,
)
from streamhop_protocol.frames import (
    BUFFER_BYTES,
    FLAG_REQUIRED,
    HANDSHAKE_BUFFER_BYTES,
    PREAMBLE,
    PREFIX_BYTES,
    FrameReader,
    FrameType,
    encode_frame,
    encode_head,
)
from streamhop_protocol.limits import MIB
from streamhop_protocol.messages import Offer, Ready, Started
from streamhop_protocol.signals import Credit, Data, Hello, Join, Joined, Ping, Welcome, encode_signal

HELLO = Hello("edge-a", 1, 1, 2, 32)
WELCOME = Welcome("edge-b", 1, bytes(16), bytes(32), 32)
BODIES = [
    Ping(1),
    Offer(move=bytes(16), epoch=1, manifest={"a": "x" * 40_000}),
    Ready(move=bytes(16), epoch=1),
    Started(move=bytes(16), epoch=1),
]
FRAMES = b"".join(map(encode_body, BODIES)) + encode_body(Credit(9), stream=3)


def trusted_reader() -> FrameReader:
    reader = FrameReader()
    reader.trusted = True
    return reader


def control() -> Connection:
    connection = Connection.dial_control(HELLO)
    connection.receive_data(PREAMBLE + encode_body(WELCOME))
    assert [received.body for received in connection.events()] == [WELCOME]
    return connection


def bodies(received: list[Received]) -> list[object]:
    return [one.body for one in received]


@given(st.lists(st.integers(0, len(FRAMES)), max_size=12))
def test_any_way_of_cutting_gives_the_same_frames(cuts: list[int]) -> None:
    connection, at, seen = control(), 0, []
    for cut in [*sorted(cuts), len(FRAMES)]:
        connection.receive_data(FRAMES[at:cut])
        seen += connection.events()
        at = cut
    assert connection.error is None
    assert bodies(seen) == [*BODIES, Credit(9)]


def test_byte_by_byte() -> None:
    connection, seen = control(), []
    small = encode_body(Ping(1)) + encode_body(Credit(9), stream=3)
    for value in small:
        connection.receive_data(bytes((value,)))
        seen += connection.events()
    assert bodies(seen) == [Ping(1), Credit(9)]


def test_an_end_anywhere_but_between_frames_is_an_error() -> None:
    frame = encode_body(Ping(300))
    for length in range(len(frame) + 1):
        connection = control()
        connection.receive_data(frame[:length])
        connection.receive_eof()
        if length in (0, len(frame)):
            assert connection.error is None
        else:
            assert isinstance(connection.error, TruncatedError)


def test_an_end_in_the_handshake_is_an_error() -> None:
    connection = Connection.accepted()
    connection.receive_data(PREAMBLE)
    connection.receive_eof()
    assert isinstance(connection.error, TruncatedError)


@given(st.integers(0, len(FRAMES) - 1), st.integers(1, 255))
def test_a_changed_byte_is_harmless(at: int, change: int) -> None:
    connection = control()
    damaged = bytearray(FRAMES)
    damaged[at] ^= change
    connection.receive_data(damaged)  # must not raise
    if connection.error is not None:
        assert connection.phase is Phase.CLOSED


@given(st.binary(max_size=200))
def test_garbage_after_the_handshake_is_harmless(data: bytes) -> None:
    connection = control()
    connection.receive_data(data)
    assert connection.error is None or isinstance(connection.error, ProtocolError)


@given(st.binary(min_size=8, max_size=64).filter(lambda data: not data.startswith(PREAMBLE[:6])))
def test_garbage_instead_of_a_preamble_is_refused(data: bytes) -> None:
    connection = Connection.accepted()
    connection.receive_data(data)
    assert isinstance(connection.error, MalformedError)
    assert b"malformed" in connection.data_to_send()


def test_nothing_is_taken_after_an_error() -> None:
    connection = control()
    connection.receive_data(encode_body(Ping(1)) + encode_head(0x7F, b"", flags=FLAG_REQUIRED) + encode_body(Ping(2)))
    connection.receive_data(encode_body(Ping(3)))
    assert bodies(connection.events()) == [Ping(1)]
    assert connection.error is not None


def test_an_unknown_optional_frame_is_skipped() -> None:
    connection = control()
    connection.receive_data(encode_frame(0x7F, b"\xc1", bytes(5000), stream=4) + encode_body(Ping(2)))
    assert bodies(connection.events()) == [Ping(2)]


@pytest.mark.parametrize("payload_bytes", [(1 << 20) + 1, 1 << 31, (1 << 32) - 1])
def test_a_length_is_refused_before_anything_is_kept(payload_bytes: int) -> None:
    reader = trusted_reader()
    reader.feed(PREAMBLE + payload_bytes.to_bytes(4, "big") + b"\x00\x00\x11\x01\x00\x00\x00\x01")
    with pytest.raises(LimitError):
        reader.next_frame()


def test_the_largest_payload_of_a_frame_is_taken() -> None:
    reader = trusted_reader()
    payload = bytes(1 << 20)
    _, header = encode_signal(Data(1, 0, 1 << 20))
    reader.feed(PREAMBLE + encode_frame(0x11, header, payload, stream=1))
    frame = reader.next_frame()
    assert frame is not None
    assert frame.payload == payload
    assert frame.wire_bytes == PREFIX_BYTES + len(header) + len(payload)
    assert not reader.mid_frame


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 1 << 20)), min_size=1, max_size=8))
def test_bytes_put_where_the_reader_says_are_read_in_bounded_memory(plan: list[tuple[int, int]]) -> None:
    """Payloads of any size, in reads of any size, as an event loop does it that fills the reader's own memory."""
    reader = trusted_reader()
    frames = [encode_frame(0x11, b"\x80", bytes([number]) * size, stream=1) for number, (size, _) in enumerate(plan)]
    left = memoryview(PREAMBLE + b"".join(frames))
    reads = [size for _, size in plan]
    seen = []
    while left:
        room = reader.room()
        size = min(len(room), len(left), reads[0])
        assert size > 0
        reads.append(reads.pop(0))
        room[:size] = left[:size]
        reader.received(size)
        left = left[size:]
        while (frame := reader.next_frame()) is not None:
            seen.append(bytes(frame.payload))
        assert reader.held_bytes <= BUFFER_BYTES + max(size for size, _ in plan)
    assert seen == [bytes([number]) * size for number, (size, _) in enumerate(plan)]
    assert not reader.mid_frame


def test_what_was_read_does_not_change_with_what_comes_after() -> None:
    reader = trusted_reader()
    sizes = (10, 100_000)
    reader.feed(PREAMBLE)
    payloads = []
    for byte in (b"a", b"b"):
        for size in sizes:
            reader.feed(encode_frame(0x11, b"\x80", byte * size, stream=1))
            frame = reader.next_frame()
            assert frame is not None
            payloads.append(frame.payload)
    assert payloads == [byte * size for byte in (b"a", b"b") for size in sizes]
    assert all(memoryview(payload).readonly for payload in payloads)


def test_a_reader_of_a_stranger_holds_little() -> None:
    reader = FrameReader()
    assert len(reader.room()) == reader.held_bytes == HANDSHAKE_BUFFER_BYTES


def test_a_header_that_no_prefix_can_announce_is_not_sent() -> None:
    with pytest.raises(LimitError):
        encode_head(1, bytes(1 << 16))


def test_handshake_of_both_ends() -> None:
    dialer, acceptor = Connection.dial_control(HELLO), Connection.accepted()
    acceptor.receive_data(dialer.data_to_send())
    assert bodies(acceptor.events()) == [HELLO]
    acceptor.accept(WELCOME)
    acceptor.send(Ping(1))
    dialer.receive_data(acceptor.data_to_send())
    assert bodies(dialer.events()) == [WELCOME, Ping(1)]
    assert dialer.phase is acceptor.phase is Phase.CONTROL
    join = Join(bytes(16), bytes(32))
    dialer, acceptor = Connection.dial_payload(join), Connection.accepted()
    acceptor.receive_data(dialer.data_to_send())
    assert bodies(acceptor.events()) == [join]
    acceptor.accept(Joined())
    dialer.receive_data(acceptor.data_to_send())
    assert dialer.phase is acceptor.phase is Phase.PAYLOAD


def test_nothing_may_follow_hello_before_welcome() -> None:
    acceptor = Connection.accepted()
    acceptor.receive_data(PREAMBLE + encode_body(HELLO) + encode_body(Ping(1)))
    assert acceptor.error is not None
    assert acceptor.error.code == "unexpected"


def test_only_who_was_asked_may_answer() -> None:
    with pytest.raises(ProtocolError):
        Connection.accepted().accept(Joined())


@pytest.mark.parametrize(("low", "high", "chosen"), [(1, 1, 1), (1, 9, 1)])
def test_the_highest_common_version_is_chosen(low: int, high: int, chosen: int) -> None:
    assert choose_version(Hello("a", low, high, 1, 1)) == chosen


def test_no_common_version() -> None:
    with pytest.raises(VersionError):
        choose_version(Hello("a", 2, 9, 1, 1))
    with pytest.raises(MalformedError):
        choose_version(Hello("a", 2, 1, 1, 1))


@pytest.mark.parametrize(("payload_bytes", "frame_type"), [(8 * MIB, 0x20), (1, 0x2D), (0, 0x05)])
def test_a_payload_connection_makes_no_room_for_what_may_not_arrive(payload_bytes: int, frame_type: int) -> None:
    """P10: a prefix of twelve bytes took eight megabytes on each payload connection."""
    acceptor = Connection.accepted()
    acceptor.receive_data(PREAMBLE + encode_body(Join(bytes(16), bytes(32))))
    acceptor.accept(Joined())
    acceptor.receive_data(payload_bytes.to_bytes(4, "big") + bytes((0, 0, frame_type, 1, 0, 0, 0, 0)))
    assert isinstance(acceptor.error, UnexpectedError)
    assert acceptor._reader.held_bytes <= BUFFER_BYTES


def test_a_newcomer_cannot_send_an_error_and_gets_no_room_for_one() -> None:
    """P11: its header may be long, but only a dialer may be told so."""
    acceptor = Connection.accepted()
    acceptor.receive_data(PREAMBLE + bytes((0, 0, 0, 0, 0xFF, 0xFF, FrameType.ERROR, 1, 0, 0, 0, 0)) + bytes(60_000))
    assert isinstance(acceptor.error, UnexpectedError)
    assert acceptor._reader.held_bytes == HANDSHAKE_BUFFER_BYTES
