"""The Wireshark dissector, a second decoder that shares no code with the first, says what the golden frames say."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from support.captures import Capture, TcpConnection, mutated
from support.tls_captures import TlsConnection
from support.tshark import Shown, dissect, value_like

from streamhop.net.security import ALPN_PAIRING
from streamhop_protocol.connection import decode_frame, encode_body
from streamhop_protocol.frames import PREAMBLE, FrameReader
from streamhop_protocol.observing import Broken, ConnectionObserver, Passed
from streamhop_protocol.signals import Hello, Join, Joined, Welcome
from streamhop_protocol.wirepack import pack

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
SESSION, TOKEN = bytes(range(16)), bytes(range(32, 64))
HANDSHAKE = {
    "control": (Hello("edge-a", 1, 1, 1, 32), Welcome("edge-b", 1, SESSION, TOKEN, 32)),
    "payload": (Join(SESSION, TOKEN), Joined()),
}


def load(name: str) -> list[dict[str, Any]]:
    rows = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


def begin(connection: TcpConnection, phase: str, session: bytes = SESSION) -> None:
    """Bring a connection into a phase, but for what the side that is in it would receive next."""
    if phase == "await first":
        connection.send("dialer", PREAMBLE)
        return
    kind = "control" if phase in ("control", "await welcome") else "payload"
    hello: Any = Hello("edge-a", 1, 1, 1, 32) if kind == "control" else Join(session, TOKEN)
    connection.send("dialer", PREAMBLE + encode_body(hello))
    connection.send("acceptor", PREAMBLE)
    if phase == kind:
        answer = Welcome("edge-b", 1, session, TOKEN, 32) if kind == "control" else Joined()
        connection.send("acceptor", encode_body(answer))


def sender(row: dict[str, Any]) -> str:
    """Who sends the frame of a row: whom the phase and the parity of stream 1 leave."""
    about_a_stream = bytes.fromhex(row["hex"])[6] in (0x13, 0x14)
    acceptor = row["phase"].startswith("await ") and row["phase"] != "await first"
    return "acceptor" if acceptor or (row["phase"] == "control" and about_a_stream) else "dialer"


def capture_of(rows: list[dict[str, Any]], path: Path, segment_bytes: int = 1400) -> Path:
    """A capture in which connection ``n`` ends with the frame of row ``n``.

    Each is of a session of its own, of which nothing else is captured: what is wrong is wrong by itself.
    """
    capture = Capture()
    for number, row in enumerate(rows):
        connection = TcpConnection(capture, 10000 + number, segment_bytes=segment_bytes)
        begin(connection, row["phase"], number.to_bytes(16, "big"))
        connection.send(sender(row), bytes.fromhex(row["hex"]))
        connection.close()
    return capture.write(path)


def last_of_each(shown: list[Shown], number: int) -> list[Shown]:
    """What comes last on each connection."""
    last = {each.connection: each for each in shown}
    return [last[connection] for connection in range(number)]


def meaning(row: dict[str, Any], shown: Shown) -> dict[str, Any]:
    """What the dissector says of a valid frame, in the form of the vectors, as far as it shows it."""
    expected = row["means"]
    found = {
        key: value_like(value, shown.fields[key]) for key, value in expected["fields"].items() if key in shown.fields
    }
    said: dict[str, Any] = {"name": (shown.name or "").capitalize(), "fields": found}
    if "stream" in expected:
        said["stream"] = int(shown.fields["stream"])
    if "payload" in expected:
        said["payload"] = {"hex": shown.fields.get("payload", "").replace(":", "")}
    if "more" in expected:
        said["more"] = shown.fields["flags.more"] == "1"
    return said


@pytest.mark.parametrize(("segment_bytes", "arguments"), [(1400, ()), (1400, ("-2",)), (11, ())])
def test_valid_frames_mean_what_the_vectors_say(tmp_path: Path, segment_bytes: int, arguments: tuple[str, ...]) -> None:
    rows = load("frames_valid.json")
    shown = dissect(capture_of(rows, tmp_path / "valid.pcap", segment_bytes), tmp_path, *arguments)
    assert [each.fields for each in shown if "violation" in each.fields] == []
    for row, last in zip(rows, last_of_each(shown, len(rows)), strict=True):
        if row["means"] is None:
            assert "skipped" in last.fields
            continue
        expected = row["means"]
        empty = {key for key, value in expected["fields"].items() if value in ({}, []) and key not in last.fields}
        fields = {key: value for key, value in expected["fields"].items() if key not in empty}
        assert meaning(row, last) == {**expected, "fields": fields}


@pytest.mark.parametrize("arguments", [(), ("-2",)])
def test_invalid_frames_break_the_protocol_as_the_vectors_say(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    rows = load("frames_invalid.json")
    shown = dissect(capture_of(rows, tmp_path / "invalid.pcap"), tmp_path, *arguments)
    last_shown = last_of_each(shown, len(rows))
    found = [(row["why"], last.fields.get("violation")) for row, last in zip(rows, last_shown, strict=True)]
    assert found == [(row["why"], row["error"]) for row in rows]
    broken = [each for each in shown if "violation" in each.fields]
    assert len(broken) == len(rows)  # and nothing before them
    assert all(f"violation.{each.fields['violation']}" in each.fields for each in broken)


def established(capture: Capture, number: int) -> dict[str, TcpConnection]:
    """The control and the payload connection of session ``number``, joined; they have the numbers 2n and 2n + 1."""
    session = number.to_bytes(16, "big")
    found = {}
    for port, on in enumerate(("control", "payload"), 10000 + 2 * number):
        found[on] = TcpConnection(capture, port)
        begin(found[on], on, session)
    return found


def test_broken_sessions_are_seen_where_they_break(tmp_path: Path) -> None:
    rows = load("sessions_invalid.json")
    capture = Capture()
    for number, row in enumerate(rows):
        connections = established(capture, number)
        for step in row["steps"]:
            data = bytes.fromhex(step["hex"]) + bytes(step.get("zeros", 0))
            connections[step["on"]].send(step["by"], data)
    shown = dissect(capture.write(tmp_path / "sessions.pcap"), tmp_path)
    broken = [(each.connection // 2, each.fields["violation"]) for each in shown if "violation" in each.fields]
    assert broken == [(number, row["error"]) for number, row in enumerate(rows)]


def test_preambles(tmp_path: Path) -> None:
    rows = load("preambles.json")
    capture = Capture()
    for number, row in enumerate(rows):
        TcpConnection(capture, 10000 + number).send("dialer", bytes.fromhex(row["hex"]))
    shown = dissect(capture.write(tmp_path / "preambles.pcap"), tmp_path)
    assert [each.fields.get("violation") for each in shown] == [row["error"] for row in rows]


@pytest.mark.parametrize("segment_bytes", [1, 100, 1400])
def test_a_whole_session_is_cut_into_the_same_frames(tmp_path: Path, segment_bytes: int) -> None:
    capture = Capture()
    connections: dict[str, TcpConnection] = {}
    expected: list[tuple[str, str | None]] = []
    readers: dict[tuple[str, str], FrameReader] = {}
    for row in load("transcripts.json"):
        on, by, data = row["on"], row["by"], bytes.fromhex(row["hex"])
        if on not in connections:
            connections[on] = TcpConnection(capture, 10000 + len(connections), segment_bytes=segment_bytes)
        connections[on].send(by, data)
        if (on, by) not in readers:
            readers[on, by] = FrameReader()
            readers[on, by].trusted = True
            expected.append((by, None))  # the preamble
        readers[on, by].feed(data)
        while (frame := readers[on, by].next_frame()) is not None:
            expected.append((by, type(decode_frame(frame).body).__name__.upper()))
    shown = dissect(capture.write(tmp_path / "session.pcap"), tmp_path)
    assert [each.fields for each in shown if "violation" in each.fields] == []
    assert [each.name for each in shown] == [name for _, name in expected]
    assert [each.fields["by"] for each in shown if each.name] == [by for by, name in expected if name]


def test_ends_used_again_make_another_connection(tmp_path: Path) -> None:
    capture = Capture()
    for _ in range(2):
        connection = TcpConnection(capture, 10000)
        begin(connection, "control")
        connection.close()
    shown = dissect(capture.write(tmp_path / "again.pcap"), tmp_path)
    assert [each.name for each in shown] == [None, "HELLO", None, "WELCOME"] * 2
    assert [each.fields for each in shown if "violation" in each.fields] == []


def test_another_port_is_found_by_the_preamble(tmp_path: Path) -> None:
    capture = Capture()
    begin(TcpConnection(capture, 10000, server_port=20000), "control")
    shown = dissect(capture.write(tmp_path / "port.pcap"), tmp_path)
    assert [each.name for each in shown] == [None, "HELLO", None, "WELCOME"]


def test_fields_can_be_filtered(tmp_path: Path) -> None:
    """Of all valid frames only those about a stream, or of a move, are left."""
    capture = capture_of(load("frames_valid.json"), tmp_path / "valid.pcap")
    resets = dissect(capture, tmp_path, "-Y", "streamhop.type == 0x15 and streamhop.stream == 1")
    assert [each.name for each in resets] == ["RESET", "RESET"]
    query = "streamhop.move == 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f and not streamhop.epoch"
    assert {each.name for each in dissect(capture, tmp_path, "-Y", query)} == {"QUERY"}
    assert dissect(capture, tmp_path, "-Y", "streamhop.violation") == []


@pytest.mark.parametrize(("port", "segment_bytes"), [(4711, 1400), (4711, 50), (20000, 1400)])
def test_tls_is_opened_with_the_keys(tmp_path: Path, port: int, segment_bytes: int) -> None:
    capture, keylog = Capture(), tmp_path / "keys"
    connections: dict[str, TlsConnection] = {}
    for row in load("transcripts.json"):
        if row["on"] not in connections:
            number = 10000 + len(connections)
            tcp = TcpConnection(capture, number, server_port=port, segment_bytes=segment_bytes)
            connections[row["on"]] = TlsConnection(tcp, tmp_path, keylog)
        connections[row["on"]].send(row["by"], bytes.fromhex(row["hex"]))
    written = capture.write(tmp_path / "tls.pcap")
    for arguments in ((), ("-2",)):
        shown = dissect(written, tmp_path, "-o", f"tls.keylog_file:{keylog}", *arguments)
        assert [each.fields for each in shown if "violation" in each.fields] == []
        names = [each.name for each in shown if each.name]
        assert names[:4] == ["HELLO", "WELCOME", "JOIN", "JOINED"]
        assert names[-3:] == ["QUERY", "STATE", "BYE"]
        assert names.count("DATA") == 4
    assert dissect(written, tmp_path) == []  # without the keys


class Twice:
    """A connection that is captured, and decoded by the codec beside that."""

    def __init__(self, capture: Capture, port: int) -> None:
        self.connection = TcpConnection(capture, port, segment_bytes=500)
        self.observer = ConnectionObserver()
        self.said: dict[bool, list[str]] = {True: [], False: []}
        """By direction: the names of frames, and last the code of the error if there was one."""

    def send(self, by: str, data: bytes) -> None:
        self.connection.send(by, data)
        for found in self.observer.feed(data, from_dialer=by == "dialer"):
            said = self.said[found.from_dialer]
            if isinstance(found, Broken):
                said.append(found.error.code)
            elif isinstance(found, Passed) and found.received is not None:
                said.append(type(found.received.body).__name__.upper())


def test_both_decoders_say_the_same_of_mutated_sessions(tmp_path: Path) -> None:
    """Neither knows the other. What only the whole session shows the dissector alone looks for: it may stop sooner."""
    chance, capture = random.Random(3), Capture()  # noqa: S311 - to be the same each time
    transcript, sessions = load("transcripts.json"), []
    for number in range(200):
        both = {on: Twice(capture, 20000 + 2 * number + at) for at, on in enumerate(("control", "payload"))}
        spoiled = chance.randrange(len(transcript))
        for at, row in enumerate(transcript):
            data = bytes.fromhex(row["hex"])
            both[row["on"]].send(row["by"], mutated(data, chance) if at == spoiled else data)
        sessions += both.values()
    shown: dict[tuple[int, bool], list[str]] = defaultdict(list)
    for each in dissect(capture.write(tmp_path / "mutated.pcap"), tmp_path):
        said = shown[each.connection, each.from_dialer]
        if not said or said[-1].isupper():  # nothing counts after an error
            said += [name for name in (each.name,) if name and "violation" not in each.fields]
            said += [each.fields["violation"]] if "violation" in each.fields else []
    broken = sooner = 0
    for number, both in enumerate(sessions):
        for from_dialer, expected in both.said.items():
            found = shown[number, from_dialer]
            broken += bool(expected) and expected[-1].islower()
            if len(found) < len(expected) and found and found[-1].islower():
                sooner += 1
                expected = [*expected[: len(found) - 1], found[-1]]
            assert found == expected, f"connection {number}, {from_dialer}"
    assert broken > 50
    assert sooner < 10


def test_pairing_is_shown(tmp_path: Path) -> None:
    capture, keylog = Capture(), tmp_path / "keys"
    connection = TlsConnection(TcpConnection(capture, 10000), tmp_path, keylog, ALPN_PAIRING)
    said = [
        ("dialer", {"nonce": bytes(32)}),
        ("acceptor", {"nonce": b"n" * 32}),
        ("dialer", {"name": "edge-a", "addresses": ["10.0.0.1:4711"], "certificate": "PEM", "proof": bytes(32)}),
        ("acceptor", {"error": "the token has expired"}),
    ]
    for by, message in said:
        packed = pack(message)
        connection.send(by, len(packed).to_bytes(4, "big") + packed)
    connection.send("dialer", (16 * 1024 + 1).to_bytes(4, "big"))
    shown = dissect(capture.write(tmp_path / "pairing.pcap"), tmp_path, "-o", f"tls.keylog_file:{keylog}")
    assert shown[0].fields["pair.nonce"].replace(":", "") == bytes(32).hex()
    assert shown[2].fields["name"] == "edge-a"
    assert json.loads(shown[2].fields["pair.addresses"]) == ["10.0.0.1:4711"]
    assert shown[3].fields["pair.error"] == "the token has expired"
    assert [each.fields.get("violation") for each in shown] == [None, None, None, None, "limit"]


def test_ports_are_a_preference(tmp_path: Path) -> None:
    """Where the preamble does not tell: somebody who does not speak the protocol is shown on the ports alone."""
    capture = Capture()
    for at, port in enumerate((4711, 20000)):
        TcpConnection(capture, 30000 + at, server_port=port).send("dialer", b"GET / HTTP/1.1\r\n\r\n")
    path = capture.write(tmp_path / "ports.pcap")
    assert [each.connection for each in dissect(path, tmp_path)] == [0]
    assert [each.connection for each in dissect(path, tmp_path, "-o", "streamhop.ports:20000")] == [1]
