"""P10: any valid frame in any state, of a connection, a session, a move."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets.wire import (
    CONNECTIONS,
    CONTROL_WAITING_BYTES_MAX,
    HELLO,
    JOIN,
    MESSAGES,
    MOVE,
    WELCOME,
    check_bounds,
    data_frame,
    take_events,
)
from streamhop.handover.states import ENDED, ForbiddenTransitionError, Role, State, StateMachine
from streamhop_protocol.connection import Connection, Phase, decode_frame, encode_body
from streamhop_protocol.errors import ProtocolError, UnexpectedError
from streamhop_protocol.frames import BUFFER_BYTES, PREAMBLE, Frame
from streamhop_protocol.messages import Finish, StreamKind
from streamhop_protocol.session import ANSWERS_WAITING_MAX, Session
from streamhop_protocol.signals import (
    Bye,
    Credit,
    Done,
    End,
    Error,
    Joined,
    Open,
    Ping,
    Pong,
    Reset,
    Signal,
)

STREAM_IDS = st.integers(1, 12)
WITHOUT_STREAM: tuple[Signal, ...] = (HELLO, WELCOME, JOIN, Joined(), Ping(1), Pong(1), Bye(), Error("limit", "no"))
ALONE = st.sampled_from([encode_body(body) for body in (*WITHOUT_STREAM, *MESSAGES, Finish(move=MOVE, epoch=1))])
OF_A_STREAM = st.builds(
    lambda body, stream: encode_body(body, stream=stream),
    st.sampled_from([Open("memory"), End(1), End(3), Credit(4096), Done(), Reset("limit", "")]),
    STREAM_IDS,
)
CHUNK = st.builds(lambda seq, stream: data_frame(seq, b"page", stream=stream), st.integers(1, 4), STREAM_IDS)
FRAME = st.one_of(ALONE, OF_A_STREAM, CHUNK)


@given(st.sampled_from(CONNECTIONS), st.booleans(), st.lists(FRAME, max_size=12))
def test_no_frames_in_any_phase_raise(make: object, preamble: bool, frames: list[bytes]) -> None:
    """P10: a connection records the first error and discards the rest."""
    assert callable(make)
    connection: Connection = make()
    if preamble:
        connection.receive_data(PREAMBLE)
    for frame in frames:
        over = connection.closed
        connection.receive_data(frame)
        assert not (over and connection.events())
        connection.events()
        assert connection.error is None or (connection.phase is Phase.CLOSED)
    assert connection._reader.held_bytes <= BUFFER_BYTES


STEP = st.one_of(
    FRAME,
    st.sampled_from(["ping", "open", "put", "end", "reset", "send", "next", "bye"]),
)


def _step(session: Session, step: str, opened: list[int]) -> None:
    """What an application does that does not know yet what has just arrived."""
    if step == "ping":
        session.ping(1.0)
    elif step == "open":
        opened.append(session.open_stream(StreamKind.MEMORY, {}))
    elif step == "send":
        session.control_to_send()
    elif step == "next":
        session.next_frame(4096)
    elif step == "bye":
        session.bye()
    elif opened:
        stream = opened[-1]
        if step == "put":
            session.put_chunk(stream, 4, None)
        elif step == "end":
            session.end_stream(stream, {})
        else:
            session.reset_stream(stream, "limit", "")


@settings(deadline=None)
@given(st.booleans(), st.lists(STEP, max_size=40))
def test_no_frames_and_no_calls_in_any_state_of_a_session_raise_anything_else(
    dialer: bool, steps: list[bytes | str]
) -> None:
    """P10: what the peer sends raises nothing, what the application does only a ``ProtocolError``; all is bounded."""
    session = Session(dialer=dialer, streams_max_in=8, streams_max_out=8)
    opened: list[int] = []
    for step in steps:
        if isinstance(step, bytes):
            for received in _decoded(step):
                session.receive(received, 1.0)
            take_events(session)
        else:
            try:
                _step(session, step, opened)
            except ProtocolError:
                continue
        check_bounds(session)


def _decoded(frame: bytes) -> list[object]:
    payload_bytes, header_bytes = int.from_bytes(frame[:4], "big"), int.from_bytes(frame[4:6], "big")
    header, payload = frame[12 : 12 + header_bytes], frame[12 + header_bytes :]
    assert len(payload) == payload_bytes
    return [decode_frame(Frame(frame[6], frame[7], int.from_bytes(frame[8:12], "big"), header, payload))]


def test_what_waits_for_a_peer_that_never_reads_is_bounded() -> None:
    """P10: resets and whole streams without end, and nothing taken off the control connection."""
    session = Session(dialer=False, streams_max_in=8, streams_max_out=8)
    for stream in range(1, 20_001, 2):
        for body in (Reset("x", ""),) if stream % 4 == 1 else (Open("memory"), End(1)):
            for received in _decoded(encode_body(body, stream=stream)):
                session.receive(received, 1.0)
        take_events(session)
    assert session.error is not None
    assert session.error.code == "flow"
    assert len(session._control) <= ANSWERS_WAITING_MAX + 1
    assert len(session.control_to_send()) < CONTROL_WAITING_BYTES_MAX


def test_a_peer_that_reads_may_go_on() -> None:
    """The bound is on what waits, not on how many streams a session has."""
    session = Session(dialer=False, streams_max_in=8, streams_max_out=8)
    for stream in range(1, 20_001, 2):
        for received in _decoded(encode_body(Reset("x", ""), stream=stream)):
            session.receive(received, 1.0)
        session.events()
        session.control_to_send()
    assert session.error is None


@given(st.sampled_from(Role), st.lists(st.sampled_from(State), max_size=30))
def test_no_sequence_of_states_breaks_a_promise(role: Role, wanted: list[State]) -> None:
    """P1: whatever is asked for, in whatever order, the ways through the table are those that the promises allow."""
    machine = StateMachine(role)
    way: list[State] = []
    for state in wanted:
        before = machine.state
        try:
            machine.advance(state)
        except ForbiddenTransitionError:
            assert machine.state is before
            continue
        way.append(state)
    assert not set(way[:-1]) & ENDED, "went on after its end"
    assert len(set(way)) == len(way), "a state was entered twice"
    if State.RELEASED in way:
        assert set(way[way.index(State.RELEASED) + 1 :]) <= {State.DONE, State.ABORTED}
        assert State.FREEZING in way
    if State.OPEN in way:
        assert way[: way.index(State.OPEN)] == [State.RECEIVING, State.PREPARED, State.OWNED]
    if State.OWNED in way:
        # By itself it goes on to OPEN or REFUSED; ABORTED is an operator's word, of a higher epoch.
        assert set(way[way.index(State.OWNED) + 1 :]) <= {State.OPEN, State.DONE, State.REFUSED, State.ABORTED}


def test_a_message_is_no_frame_of_a_payload_connection() -> None:
    """Kept apart from the properties: it is the one that an attacker would try first."""
    payload = CONNECTIONS[4]()
    payload.receive_data(encode_body(MESSAGES[0]))
    assert isinstance(payload.error, UnexpectedError)
