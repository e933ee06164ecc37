"""The golden frames: this implementation says what they say, in both directions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from make_vectors import files
from streamhop_protocol.codecs import Codec, decompress
from streamhop_protocol.connection import Connection, Phase, decode_frame
from streamhop_protocol.errors import CODES
from streamhop_protocol.frames import PREAMBLE, FrameReader
from streamhop_protocol.messages import MESSAGE_TYPES, StreamKind
from streamhop_protocol.signals import SIGNAL_TYPES, End, Hello, Join, Joined, Open, Welcome
from vector_meanings import meaning, shown
from vector_session_errors import STREAMS_MAX
from vector_sessions import End as EndOfSession

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
FIRST = {Phase.AWAIT_WELCOME: Hello("edge-a", 1, 1, 2, 32), Phase.AWAIT_JOINED: Join(bytes(16), bytes(32))}


def load(name: str) -> list[dict[str, Any]]:
    rows = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


def connection_in(phase: Phase) -> Connection:
    connection = Connection(phase, FIRST.get(phase))
    connection._reader.trusted = phase in (Phase.CONTROL, Phase.PAYLOAD)
    connection.receive_data(PREAMBLE)
    return connection


def test_files_are_what_the_generator_writes() -> None:
    written = files()
    del written["chunks.json"]  # compressors differ
    assert {name: (VECTORS / name).read_text(encoding="utf-8") for name in written} == written


def test_each_type_has_one_valid_frame_and_three_invalid_ones() -> None:
    types = {int(number) for number in (*MESSAGE_TYPES, *SIGNAL_TYPES)}
    valid = Counter(bytes.fromhex(row["hex"])[6] for row in load("frames_valid.json"))
    invalid = Counter(bytes.fromhex(row["hex"])[6] for row in load("frames_invalid.json"))
    assert {number for number in types if valid[number] < 1 or invalid[number] < 3} == set()


@pytest.mark.parametrize("row", load("frames_valid.json"), ids=lambda row: str((row["means"] or {}).get("name")))
def test_valid_frame_is_understood(row: dict[str, Any]) -> None:
    connection = connection_in(Phase(row["phase"]))
    connection.receive_data(bytes.fromhex(row["hex"]))
    assert connection.error is None
    if row["means"] is None:
        assert connection.events() == []
        return
    (received,) = connection.events()
    more = {"stream": received.stream, "payload": shown(received.payload), "more": received.more}
    expected = row["means"]
    assert meaning(received.body) | {key: more[key] for key in expected.keys() & more.keys()} == expected


@pytest.mark.parametrize("row", load("frames_invalid.json"), ids=lambda row: row["why"])
def test_invalid_frame_ends_the_connection(row: dict[str, Any]) -> None:
    connection = connection_in(Phase(row["phase"]))
    connection.receive_data(bytes.fromhex(row["hex"]))
    assert connection.error is not None
    assert connection.error.code == row["error"], connection.error
    assert connection.events() == []


@pytest.mark.parametrize("row", load("preambles.json"), ids=lambda row: row["hex"])
def test_preamble(row: dict[str, Any]) -> None:
    connection = Connection.accepted()
    connection.receive_data(bytes.fromhex(row["hex"]))
    assert (connection.error and connection.error.code) == row["error"]


@pytest.mark.parametrize("row", load("chunks.json"))
def test_chunk(row: dict[str, Any]) -> None:
    codec, data = Codec(row["codec"]), bytes.fromhex(row["hex"])
    if "error" in row:
        with pytest.raises(CODES[row["error"]]):
            decompress(codec, data, row["raw_bytes"])
    else:
        assert decompress(codec, data, row["raw_bytes"]).hex() == row["raw"]


def established() -> dict[str, EndOfSession]:
    """Both ends of a session whose handshake is over."""
    ends = {"dialer": EndOfSession(dialer=True), "acceptor": EndOfSession(dialer=False)}
    welcome = Welcome("edge-b", 1, bytes(16), bytes(32), STREAMS_MAX)
    for on, answer in (("control", welcome), ("payload", Joined())):
        ends["acceptor"].receive(on, ends["dialer"].to_send(on))
        ends["acceptor"].connections[on].accept(answer)
        ends["dialer"].receive(on, ends["acceptor"].to_send(on))
    return ends


def step_bytes(step: dict[str, Any]) -> bytes:
    return bytes.fromhex(step["hex"]) + bytes(step.get("zeros", 0))


def said_by(end: EndOfSession, data: bytes) -> None:
    """Let the sender's session know what it has sent: a stream that was opened, and one that was ended."""
    reader = FrameReader()
    reader.trusted = True
    reader.feed(PREAMBLE + data)
    while (frame := reader.next_frame()) is not None:
        match decode_frame(frame).body:
            case Open() as opening if frame.stream % 2:
                end.session.open_stream(StreamKind(opening.kind), {})
            case End():
                end.session.end_stream(frame.stream, {})
    end.to_send("payload")


@pytest.mark.parametrize("row", load("sessions_invalid.json"), ids=lambda row: row["why"])
def test_session_ends_with_the_last_step_and_not_before(row: dict[str, Any]) -> None:
    ends = established()
    *before, last = row["steps"]
    for step in before:
        other = ends["acceptor" if step["by"] == "dialer" else "dialer"]
        other.receive(step["on"], step_bytes(step))
        said_by(ends[step["by"]], step_bytes(step))
        if step["by"] == "acceptor":
            ends["acceptor"].session.done(1, {})
    other = ends["acceptor" if last["by"] == "dialer" else "dialer"]
    with pytest.raises(CODES[row["error"]]) as caught:
        other.receive(last["on"], step_bytes(last))
    assert caught.value.code == row["error"]
