"""The codec: connections, sessions, messages, chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fuzz.target import Target, slices
from streamhop_protocol.codecs import Codec, CodecChoice, check_codec, compress, decompress
from streamhop_protocol.connection import Connection, Phase, encode_body
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.frames import FLAG_REQUIRED, PREAMBLE, FrameType, encode_frame
from streamhop_protocol.limits import CHUNK_RAW_BYTES_MAX, CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX
from streamhop_protocol.messages import (
    MESSAGE_TYPES,
    Abort,
    Accept,
    Offer,
    Prepare,
    Query,
    Release,
    State,
    StreamKind,
    decode_message,
    encode_message,
)
from streamhop_protocol.messages import Message as AnyMessage
from streamhop_protocol.session import ChunkArrived, Session, StreamEnded
from streamhop_protocol.signals import (
    SIGNAL_TYPES,
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
    Pong,
    Reset,
    Signal,
    Welcome,
    decode_signal,
    encode_signal,
)
from streamhop_protocol.wirepack import pack, unpack

HELLO = Hello("fuzz", 1, 1, 1, 8)
JOIN = Join(bytes(16), bytes(32))
WELCOME = Welcome("fuzz", 1, bytes(16), bytes(32), 8)
MOVE = bytes(16)

STREAMS_MAX = 8
STEPS_MAX = 4096
CONTROL_WAITING_BYTES_MAX = 1 << 20
"""Far above what a peer can make wait here; a session that goes beyond has no bound."""


def _accepted(first: Signal, answer: Welcome | Joined) -> Connection:
    connection = Connection.accepted()
    connection.receive_data(PREAMBLE + encode_body(first))
    assert connection.error is None
    connection.events()
    connection.accept(answer)
    return connection


def _dialed(connection: Connection, answer: Welcome | Joined) -> Connection:
    connection.receive_data(PREAMBLE + encode_body(answer))
    assert connection.error is None
    connection.events()
    return connection


CONNECTIONS: tuple[Callable[[], Connection], ...] = (
    Connection.accepted,
    lambda: Connection.dial_control(HELLO),
    lambda: Connection.dial_payload(JOIN),
    lambda: _accepted(HELLO, WELCOME),
    lambda: _accepted(JOIN, Joined()),
    lambda: _dialed(Connection.dial_control(HELLO), WELCOME),
)
"""Make a fresh connection in each phase that a peer can speak in."""


def run_connection(data: bytes) -> None:
    """First byte: which connection, and whether the end follows. Then :func:`slices`."""
    connection = CONNECTIONS[data[0] % len(CONNECTIONS) if data else 0]()
    for piece in slices(data[1:]):
        connection.receive_data(piece)
        held = connection._reader.held_bytes
        assert held <= CONTROL_PAYLOAD_BYTES_MAX + 2 * FRAME_HEADER_BYTES_MAX, "keeps more than a frame"
        if connection.error is not None:
            assert connection.phase is Phase.CLOSED
            break
    if data and data[0] & 0x80:
        connection.receive_eof()
    connection.events()
    connection.data_to_send()
    if connection.error is not None:
        raise connection.error


def run_session(data: bytes) -> None:
    """Steps of a byte each: what is done; for what arrives, where, two bytes of length and the bytes."""
    control, payload = _accepted(HELLO, WELCOME), _accepted(JOIN, Joined())
    session = Session(dialer=False, streams_max_in=STREAMS_MAX, streams_max_out=STREAMS_MAX)
    at, now = 0, 0.0
    while at < len(data) and session.error is None and now < STEPS_MAX:
        what, at = data[at] % 5, at + 1
        now += 1
        if what < 2:
            length = int.from_bytes(data[at : at + 2], "big")
            connection = (control, payload)[what]
            connection.receive_data(data[at + 2 : at + 2 + length])
            at += 2 + length
            for received in connection.events():
                session.receive(received, now)
            take_events(session)
        elif what == 2:
            session.ping(now)
        elif what == 3:
            session.control_to_send()
        elif session._sending.may_open:
            session.open_stream(StreamKind.MEMORY, {})
            session.next_frame(4096)
        if now % 64 == 0:
            check_bounds(session)
    check_bounds(session)
    for error in (session.error, control.error, payload.error):
        if error is not None:
            raise error


def take_events(session: Session) -> None:
    """Do with what arrived as the driver and an honest application do."""
    for event in session.events():
        if isinstance(event, ChunkArrived):
            session.consumed(event)
        elif isinstance(event, StreamEnded):
            session.done(event.stream, {})


def check_bounds(session: Session) -> None:
    receiving = session._receiving
    assert len(receiving._streams) <= STREAMS_MAX, "more streams than allowed"
    assert len(receiving._unseen) <= STREAMS_MAX, "remembers more streams than allowed"
    assert sum(map(len, session._control)) <= CONTROL_WAITING_BYTES_MAX, "what waits for the peer has no bound"


def run_message(data: bytes) -> None:
    """First byte: type; second: whether header or payload."""
    number = 0x20 + (data[0] % (len(MESSAGE_TYPES) + 1) if data else 0)
    body = data[2:]
    header, payload = (b"", body) if data[1:2] == b"\1" else (body, b"")
    message = decode_message(number, header, payload)
    again = encode_message(message)
    assert decode_message(*again) == message


def run_signal(data: bytes) -> None:
    """First byte: type."""
    types = sorted(SIGNAL_TYPES)
    signal = decode_signal(types[data[0] % len(types) if data else 0], data[1:])
    assert decode_signal(*encode_signal(signal)) == signal


def run_value(data: bytes) -> None:
    """Any msgpack value."""
    unpack(data)


def run_chunk(data: bytes) -> None:
    """First byte: codec; three of declared size; the chunk."""
    codec = check_codec(data[0] % 4 if data else 0)
    raw_bytes = int.from_bytes(data[1:4], "big")
    raw = decompress(codec, data[4:], raw_bytes)
    assert len(raw) == raw_bytes <= CHUNK_RAW_BYTES_MAX


MESSAGES: tuple[AnyMessage, ...] = (
    Offer(move=MOVE, epoch=1, manifest={"container": "web", "trees": ["rootfs"]}),
    Accept(move=MOVE, epoch=1, lacks=["sha256:1"], reused=[]),
    Prepare(move=MOVE, epoch=1, image_digest=bytes(32)),
    Release(move=MOVE, epoch=1, image_digest=bytes(32)),
    Abort(move=MOVE, epoch=1, code="cancelled", reason="by hand"),
    Query(move=MOVE),
    State(move=MOVE, epoch=1, state="open"),
)
ON_CONTROL: tuple[Signal, ...] = (Ping(1), Pong(1), Error("limit", "too many"))
ON_PAYLOAD: tuple[Signal, ...] = (Open("memory"), Data(1, 0, 4, {"o": "pagemap-1"}), Data(2), End(1))


def data_frame(seq: int, payload: bytes, *, stream: int = 1) -> bytes:
    """A whole chunk that is not compressed."""
    _, header = encode_signal(Data(seq, 0, len(payload)))
    return encode_frame(FrameType.DATA, header, payload, flags=FLAG_REQUIRED, stream=stream)


def arrives(where: int, frames: bytes) -> bytes:
    """A step of :func:`run_session`: ``frames`` on the control (0) or the payload connection (1)."""
    return bytes([where]) + len(frames).to_bytes(2, "big") + frames


def _connection_seeds() -> Iterator[bytes]:
    yield bytes([0, 0]) + PREAMBLE + encode_body(HELLO)
    yield bytes([0, 3]) + PREAMBLE + encode_body(JOIN)
    yield bytes([1, 0]) + PREAMBLE + encode_body(WELCOME)
    yield bytes([2, 0]) + PREAMBLE + encode_body(Joined())
    for body in (*MESSAGES, *ON_CONTROL):
        yield bytes([3, 0]) + encode_body(body)
    yield bytes([5, 7]) + encode_body(Credit(4096), stream=1)
    yield bytes([4, 0]) + encode_body(Open("memory"), stream=1) + data_frame(1, b"page")


def _session_seeds() -> Iterator[bytes]:
    opened = encode_body(Open("memory"), stream=1)
    whole = opened + data_frame(1, b"page") + encode_body(End(2), stream=1)
    yield arrives(1, whole)
    yield arrives(1, opened) + arrives(0, encode_body(Reset("unexpected", ""), stream=1))
    yield bytes([4]) + arrives(0, encode_body(Credit(4096), stream=2) + encode_body(Reset("limit", ""), stream=2))
    yield bytes([2]) + arrives(0, encode_body(Pong(1)) + encode_body(Ping(7))) + bytes([3])
    yield arrives(0, encode_body(Done(), stream=2))
    yield arrives(0, b"".join(map(encode_body, MESSAGES)))


def _message_seeds() -> Iterator[bytes]:
    for message in MESSAGES:
        number, header, _ = encode_message(message)
        yield bytes([number - 0x20, 0]) + header
        yield bytes([number - 0x20, 1]) + header


def _signal_seeds() -> Iterator[bytes]:
    types = sorted(SIGNAL_TYPES)
    signals = (HELLO, WELCOME, JOIN, Joined(), *ON_CONTROL, *ON_PAYLOAD, Credit(1), Done(), Reset("limit", ""))
    for frame_type, header in map(encode_signal, signals):
        yield bytes([types.index(frame_type)]) + header


def _value_seeds() -> Iterator[bytes]:
    yield pack({"a": [1, True, None, 1.5, "text", b"bytes", {"b": -1}]})


def _chunk_seeds() -> Iterator[bytes]:
    raw = b"a page that repeats " * 40
    for choice in (CodecChoice(Codec.NONE), CodecChoice(Codec.LZ4), CodecChoice(Codec.ZSTD, 3)):
        codec, compressed = compress(raw, choice)
        yield bytes([codec]) + len(raw).to_bytes(3, "big") + bytes(compressed)


TARGETS = {
    "connection": Target(run_connection, _connection_seeds, (ProtocolError,)),
    "session": Target(run_session, _session_seeds),
    "message": Target(run_message, _message_seeds),
    "signal": Target(run_signal, _signal_seeds),
    "value": Target(run_value, _value_seeds),
    "chunk": Target(run_chunk, _chunk_seeds),
}
