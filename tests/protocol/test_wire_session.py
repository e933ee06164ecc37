"""Two sessions joined by lists of frames: order, urgency, credit, resets, and peers that break the rules."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop_protocol.codecs import Codec
from streamhop_protocol.connection import Connection, Phase, Received, decode_frame, encode_body
from streamhop_protocol.errors import (
    FlowError,
    IntegrityError,
    LimitError,
    MalformedError,
    ProtocolError,
    UnexpectedError,
)
from streamhop_protocol.frames import PREAMBLE, FrameReader
from streamhop_protocol.limits import CHUNK_RAW_BYTES_MAX, META_BYTES_MAX, STREAM_WINDOW_BYTES
from streamhop_protocol.messages import Query, StreamKind
from streamhop_protocol.session import (
    ChunkArrived,
    CreditArrived,
    MessageArrived,
    PeerLeft,
    PongArrived,
    Session,
    SessionEvent,
    StreamDone,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from streamhop_protocol.signals import Bye, Credit, Data, Done, End, Error, Hello, Open, Ping, Reset

STREAMS_MAX = 4


def pair() -> tuple[Session, Session]:
    return (
        Session(dialer=True, streams_max_in=STREAMS_MAX, streams_max_out=STREAMS_MAX),
        Session(dialer=False, streams_max_in=STREAMS_MAX, streams_max_out=STREAMS_MAX),
    )


def decode(data: bytes) -> list[Received]:
    reader = FrameReader()
    reader.trusted = True
    reader.feed(PREAMBLE + data)
    found = []
    while (frame := reader.next_frame()) is not None:
        found.append(decode_frame(frame))
    assert not reader.mid_frame
    return found


def payload_frames(session: Session, fragment_bytes: int = 65536) -> list[Received]:
    found = []
    while (frame := session.next_frame(fragment_bytes)) is not None:
        found += decode(frame.head + bytes(frame.payload))
    return found


def control_frames(session: Session) -> list[Received]:
    return decode(session.control_to_send())


def hand_over(session: Session, frames: list[Received], now: float = 0.0) -> list[SessionEvent]:
    for frame in frames:
        session.receive(frame, now)
    return session.events()


def put(session: Session, stream: int, data: bytes, meta: object = None) -> None:
    session.fill_chunk(session.put_chunk(stream, len(data), meta), Codec.NONE, data)


def got(session: Session, *frames: Received) -> ProtocolError | None:
    hand_over(session, list(frames))
    return session.error


def data_frame(seq: int, *, stream: int = 1, size: int = 1, more: bool = False, begins: bool = True) -> Received:
    body = Data(seq, 0, size) if begins else Data(seq)
    return Received(body, stream, bytes(size), more, wire_bytes=size + 30)


OPEN = Received(Open("memory"), 1, wire_bytes=30)


@given(
    chunks=st.lists(st.binary(max_size=20_000), max_size=8),
    fragment_bytes=st.sampled_from([4096, 5000, 65536]),
    seed=st.integers(),
)
def test_frames_in_any_order_give_the_chunks_in_order(chunks: list[bytes], fragment_bytes: int, seed: int) -> None:
    sender, receiver = pair()
    stream = sender.open_stream(StreamKind.TREE, {"tree": "rootfs"})
    for number, chunk in enumerate(chunks):
        put(sender, stream, chunk, {"n": number})
    sender.end_stream(stream, {"digest": b"d"})
    frames = payload_frames(sender, fragment_bytes)
    random.Random(seed).shuffle(frames)  # noqa: S311 - hypothesis chooses the seed
    events = hand_over(receiver, frames)
    assert receiver.error is None
    assert events[0] == StreamOpened(stream, StreamKind.TREE, {"tree": "rootfs"})
    assert events[-1] == StreamEnded(stream, {"digest": b"d"})
    arrived = [event for event in events if isinstance(event, ChunkArrived)]
    assert [(event.meta, event.data) for event in arrived] == [({"n": n}, chunk) for n, chunk in enumerate(chunks)]
    for event in arrived:
        receiver.consumed(event)
    receiver.done(stream, {"ok": True})
    assert StreamDone(stream, {"ok": True}) in hand_over(sender, control_frames(receiver))
    assert sender.may_open


def test_the_most_urgent_goes_first_even_in_the_middle_of_a_chunk() -> None:
    sender, _ = pair()
    layer = sender.open_stream(StreamKind.LAYER, {})
    put(sender, layer, bytes(100_000))
    assert sender.next_frame(4096) is not None
    assert sender.next_frame(4096) is not None
    order = [sender.open_stream(kind, {}) for kind in (StreamKind.TREE, StreamKind.MEMORY, StreamKind.FINAL)]
    for stream in order:
        put(sender, stream, bytes(10))
    urgent = [received.stream for received in payload_frames(sender, 4096)]
    assert urgent[:6] == [order[2], order[2], order[1], order[1], order[0], order[0]]
    assert set(urgent[6:]) == {layer}


def test_a_chunk_keeps_its_place_while_it_is_compressed() -> None:
    sender, _ = pair()
    stream = sender.open_stream(StreamKind.MEMORY, {})
    slow = sender.put_chunk(stream, 3, "first")
    put(sender, stream, b"two", "second")
    assert [type(received.body) for received in payload_frames(sender)] == [Open]
    assert sender.held_bytes(stream) == 2 * 16 * 1024  # tiny ones count as more
    sender.fill_chunk(slow, Codec.NONE, b"one")
    metas = [received.body.meta for received in payload_frames(sender) if isinstance(received.body, Data)]
    assert metas == ["first", "second"]
    assert sender.held_bytes(stream) == 0


def test_a_sender_stops_at_its_credit_and_goes_on_with_more() -> None:
    sender, receiver = pair()
    stream = sender.open_stream(StreamKind.MEMORY, {})
    for _ in range(6):
        put(sender, stream, bytes(CHUNK_RAW_BYTES_MAX))
    events = hand_over(receiver, payload_frames(sender))
    chunks = [event for event in events if isinstance(event, ChunkArrived)]
    assert 0 < sum(chunk.cost_bytes for chunk in chunks) <= STREAM_WINDOW_BYTES
    assert len(chunks) == 3
    for chunk in chunks:
        receiver.consumed(chunk)
    credit = hand_over(sender, control_frames(receiver))
    assert credit == [CreditArrived(stream, sum(chunk.cost_bytes for chunk in chunks))]
    rest = hand_over(receiver, payload_frames(sender))
    assert len([event for event in rest if isinstance(event, ChunkArrived)]) == 3


def test_more_than_the_credit_is_refused() -> None:
    _, receiver = pair()
    frames = [data_frame(seq, size=CHUNK_RAW_BYTES_MAX) for seq in range(1, 5)]
    assert isinstance(got(receiver, OPEN, *frames), FlowError)
    (told,) = control_frames(receiver)
    assert isinstance(told.body, Error)
    assert told.body.code == "flow"


def test_tiny_frames_cannot_pile_up() -> None:
    _, receiver = pair()
    count = 0
    while receiver.error is None:
        count += 1
        receiver.receive(data_frame(count + 1), 0.0)
    assert count <= STREAM_WINDOW_BYTES // 1024 + 1


def test_a_number_far_ahead_is_refused() -> None:
    assert isinstance(got(pair()[1], OPEN, data_frame(1 << 40)), FlowError)


@pytest.mark.parametrize(
    "frames",
    [
        [OPEN, OPEN],
        [OPEN, data_frame(2), data_frame(2)],
        [OPEN, data_frame(1), data_frame(1)],
        [OPEN, Received(End(2), 1), Received(End(3), 1)],
        [OPEN, Received(End(2), 1), data_frame(3)],
        [OPEN, data_frame(3), Received(End(2), 1)],
        [Received(Open("memory"), 2)],
        [Received(Hello("a", 1, 1, 1, 1))],
        [Received(Credit(1), 2)],
        [Received(Credit(1), 1)],
        [Received(Done(), 2)],
        [Received(Reset("x", ""), 2)],
    ],
)
def test_what_makes_no_sense_is_refused(frames: list[Received]) -> None:
    assert isinstance(got(pair()[1], *frames), UnexpectedError)


@pytest.mark.parametrize(
    "frames",
    [
        [data_frame(1, begins=False)],
        [data_frame(1, size=10, more=True), data_frame(2)],
        [Received(Data(1, 0, 10), 1, bytes(5), True, 40), Received(End(2), 1)],
        [Received(Data(1, 9, 1), 1, b"x", False, 40)],
        [Received(Data(1, 0, None), 1, b"x", False, 40)],
        [Received(Data(1, 0, 2), 1, b"x", False, 40)],
        [Received(Data(1, 1, 2), 1, b"xy", False, 40)],
        [Received(Data(1, 0, 2), 1, b"xy", True, 40)],
        [Received(Data(1, 0, 2), 1, b"", True, 40)],
    ],
)
def test_chunks_that_cannot_be_are_refused(frames: list[Received]) -> None:
    assert isinstance(got(pair()[1], OPEN, *frames), MalformedError | LimitError)


def test_too_many_streams_are_refused() -> None:
    _, receiver = pair()
    opens = [Received(Open("memory"), 1 + 2 * n) for n in range(STREAMS_MAX + 1)]
    assert isinstance(got(receiver, *opens), LimitError)
    _, receiver = pair()
    assert isinstance(got(receiver, Received(Open("memory"), 1 + 2 * STREAMS_MAX)), LimitError)


def test_a_later_stream_may_arrive_first() -> None:
    _, receiver = pair()
    events = hand_over(receiver, [Received(Open("memory"), 3), Received(Open("layer"), 1)])
    assert [event.stream for event in events if isinstance(event, StreamOpened)] == [3, 1]
    assert receiver.error is None


def test_a_sender_opens_no_more_than_it_may() -> None:
    sender, _ = pair()
    for _ in range(STREAMS_MAX):
        sender.open_stream(StreamKind.LAYER, {})
    assert not sender.may_open
    with pytest.raises(LimitError):
        sender.open_stream(StreamKind.LAYER, {})


def test_what_is_too_large_is_not_sent() -> None:
    sender, _ = pair()
    stream = sender.open_stream(StreamKind.LAYER, {})
    with pytest.raises(LimitError):
        sender.put_chunk(stream, CHUNK_RAW_BYTES_MAX + 1, None)
    with pytest.raises(LimitError):
        sender.put_chunk(stream, 1, "x" * META_BYTES_MAX)
    put(sender, stream, bytes(5000), "x" * (META_BYTES_MAX - 8))
    assert [type(received.body) for received in payload_frames(sender)] == [Open, Data]


def test_nothing_goes_on_a_stream_that_has_ended() -> None:
    sender, _ = pair()
    stream = sender.open_stream(StreamKind.LAYER, {})
    sender.end_stream(stream, {})
    with pytest.raises(UnexpectedError):
        sender.put_chunk(stream, 1, None)
    with pytest.raises(UnexpectedError):
        sender.end_stream(stream, {})


def test_the_receiver_resets_a_stream() -> None:
    sender, receiver = pair()
    stream = sender.open_stream(StreamKind.MEMORY, {})
    put(sender, stream, b"x")
    late = payload_frames(sender)
    hand_over(receiver, late[:1])
    receiver.reset_stream(stream, "integrity", "the digest differs")
    assert hand_over(sender, control_frames(receiver)) == [
        StreamReset(stream, outgoing=True, code="integrity", reason="the digest differs")
    ]
    assert hand_over(receiver, late[1:]) == []
    assert receiver.error is None


def test_the_sender_resets_a_stream_whose_frames_are_still_under_way() -> None:
    sender, receiver = pair()
    streams = [sender.open_stream(StreamKind.MEMORY, {}) for _ in range(STREAMS_MAX)]
    late = payload_frames(sender)
    sender.reset_stream(streams[0], "cancelled", "no longer needed")
    sender.reset_stream(streams[0], "cancelled", "twice is once")
    assert not sender.may_open  # until the receiver has confirmed
    assert hand_over(receiver, control_frames(sender)) == [
        StreamReset(streams[0], outgoing=False, code="cancelled", reason="no longer needed")
    ]
    opened = hand_over(receiver, late)
    assert [event.stream for event in opened if isinstance(event, StreamOpened)] == streams[1:]
    assert hand_over(sender, control_frames(receiver)) == []
    assert sender.may_open
    assert sender.error is receiver.error is None


def test_resets_that_cross_are_no_error() -> None:
    sender, receiver = pair()
    stream = sender.open_stream(StreamKind.MEMORY, {})
    hand_over(receiver, payload_frames(sender))
    sender.reset_stream(stream, "a", "")
    receiver.reset_stream(stream, "b", "")
    there, back = control_frames(sender), control_frames(receiver)
    assert hand_over(receiver, there) == []
    assert hand_over(sender, back) == []
    assert sender.error is receiver.error is None
    assert sender.may_open


def test_data_for_a_stream_that_is_over_is_refused() -> None:
    sender, receiver = pair()
    stream = sender.open_stream(StreamKind.MEMORY, {})
    sender.end_stream(stream, {})
    hand_over(receiver, payload_frames(sender))
    receiver.done(stream, {})
    assert isinstance(got(receiver, data_frame(2)), UnexpectedError)


def test_done_needs_the_end() -> None:
    sender, receiver = pair()
    stream = sender.open_stream(StreamKind.MEMORY, {})
    hand_over(receiver, payload_frames(sender))
    with pytest.raises(UnexpectedError):
        receiver.done(stream, {})
    assert isinstance(got(sender, Received(Done(), stream)), UnexpectedError)


def test_credit_that_was_never_used_is_refused() -> None:
    sender, _ = pair()
    stream = sender.open_stream(StreamKind.MEMORY, {})
    assert isinstance(got(sender, Received(Credit(1), stream)), FlowError)


def test_messages_and_pings() -> None:
    dialer, acceptor = pair()
    message = Query(move=bytes(16))
    dialer.send(message)
    dialer.ping(10.0)
    assert hand_over(acceptor, control_frames(dialer)) == [MessageArrived(message)]
    assert hand_over(dialer, control_frames(acceptor), now=10.25) == [PongArrived(0.25)]


def test_a_million_pings_cost_nothing() -> None:
    _, acceptor = pair()
    for number in range(10_000):
        acceptor.receive(Received(Ping(number)), 0.0)
    assert len(control_frames(acceptor)) == 16


def test_unanswered_pings_are_forgotten() -> None:
    dialer, _ = pair()
    for _ in range(1000):
        dialer.ping(0.0)
    assert len(dialer._pings) == 64


def test_bye_and_error_end_it() -> None:
    for body, event in ((Bye(), PeerLeft()), (Error("flow", "x"), PeerLeft(Error("flow", "x")))):
        dialer, _ = pair()
        assert hand_over(dialer, [Received(body), Received(Ping(1))]) == [event]
        assert control_frames(dialer) == []


def test_a_failure_is_told_once() -> None:
    dialer, acceptor = pair()
    dialer.fail(IntegrityError("the digest differs"))
    dialer.fail(LimitError("too late"))
    assert hand_over(acceptor, control_frames(dialer)) == [PeerLeft(Error("integrity", "the digest differs"))]


FRAME_POOL = st.one_of(
    st.builds(
        data_frame,
        st.integers(1, 6),
        stream=st.integers(1, 8),
        size=st.integers(0, 9),
        more=st.booleans(),
        begins=st.booleans(),
    ),
    st.builds(
        Received,
        st.sampled_from([Open("memory"), End(1), End(3), Credit(5), Done(), Reset("x", "")]),
        st.integers(1, 8),
    ),
    st.sampled_from([Received(Ping(1)), Received(Bye()), Received(Query(move=bytes(16)))]),
)


@given(st.lists(FRAME_POOL, max_size=30), st.booleans())
def test_no_sequence_of_frames_raises(frames: list[Received], dialer: bool) -> None:
    session = Session(dialer=dialer, streams_max_in=STREAMS_MAX, streams_max_out=STREAMS_MAX)
    session.open_stream(StreamKind.MEMORY, {})
    while session.next_frame(4096) is not None:
        pass
    for event in hand_over(session, frames):
        if isinstance(event, ChunkArrived):
            session.consumed(event)
    assert session.error is None or isinstance(session.error, ProtocolError)
    decode(session.control_to_send())


def test_a_whole_exchange_over_connections() -> None:
    sender, receiver = pair()
    stream = sender.open_stream(StreamKind.FINAL, {"part": "files"})
    put(sender, stream, b"content")
    sender.end_stream(stream, {})
    connection = Connection(Phase.PAYLOAD, None)
    connection._reader.trusted = True
    connection.receive_data(PREAMBLE)
    while (frame := sender.next_frame(4096)) is not None:
        connection.receive_data(frame.head)
        connection.receive_data(frame.payload)
    assert connection.error is None
    kinds = [type(event) for event in hand_over(receiver, connection.events())]
    assert kinds == [StreamOpened, ChunkArrived, StreamEnded]
    assert encode_body(Open("final", {"part": "files"}), stream=1)


def test_a_meta_that_nobody_has_asked_for_takes_no_more_memory_than_on_the_wire() -> None:
    """P10: decoded, 60,000 empty arrays take 64 times as much as they did on the wire."""
    dialer, acceptor = pair()
    stream = dialer.open_stream(StreamKind.MEMORY, {})
    meta: list[object] = [[] for _ in range(60_000)]
    dialer.fill_chunk(dialer.put_chunk(stream, 4, meta), Codec.NONE, b"page")
    for received in payload_frames(dialer):
        acceptor.receive(received, 0.0)
    (chunk,) = [event for event in acceptor.events() if isinstance(event, ChunkArrived)]
    assert isinstance(chunk.packed_meta, bytes)
    assert len(chunk.packed_meta) <= chunk.cost_bytes
    assert chunk.meta == meta
