"""Captures: whatever happened to the packets, what was said is read as it was said; nothing in them does harm."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hopwire_support import seen
from support.captures import PORT, Capture, TcpConnection, mutated
from support.tls_captures import TlsConnection

from hopwire.capture.pieces import Piece
from hopwire.capture.streams import OPEN_MAX, CapturedStreams
from hopwire.capture.tshark import read_line
from hopwire.cli import main
from hopwire.errors import WireError
from hopwire.events import BrokenSeen, ConnectionSeen, EndSeen, FrameSeen, Seen
from hopwire.recorder import Recorder
from streamhop_protocol.frames import PREAMBLE

TRANSCRIPT = json.loads(
    (Path(__file__).parents[2] / "protocol" / "vectors" / "transcripts.json").read_text(encoding="utf-8")
)
Packets = list[bytes]


def captured(segment_bytes: int = 100, server_port: int = PORT) -> Capture:
    """A whole session in the clear, on two connections."""
    capture, connections = Capture(), dict[str, TcpConnection]()
    for row in TRANSCRIPT:
        if row["on"] not in connections:
            connections[row["on"]] = TcpConnection(
                capture, 40000 + len(connections), server_port=server_port, segment_bytes=segment_bytes
            )
        connections[row["on"]].send(row["by"], bytes.fromhex(row["hex"]))
    for connection in connections.values():
        connection.close()
    return capture


def run(capture: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(main, ["read-pcap", str(capture), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def frames(capture: Path, *arguments: str) -> list[dict[str, Any]]:
    """The frames that are told, without what depends on when the packets came, in the order of each direction."""
    result = run(capture, "--format", "json", *arguments)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    said = [{key: value for key, value in row.items() if key != "at_s"} for row in rows if "type" in row]
    return sorted(said, key=lambda row: (row["connection"], row["from"]))


@pytest.fixture(name="expected", scope="module")
def _expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What is read of a capture in which nothing happened; checked by the transcript itself."""
    found = frames(captured(1400).write(tmp_path_factory.mktemp("expected") / "expected.pcap"))
    names = [row["type"] for row in found if row["connection"] == 1]
    assert sorted(names) == sorted(
        [
            *("HELLO", "WELCOME", "PING", "PONG", "OFFER", "ACCEPT", "DONE", "DONE", "READY", "PREPARE", "PREPARED"),
            *("RELEASE", "STARTED", "FINISH", "QUERY", "STATE", "BYE"),
        ]
    )
    return found


def swapped(packets: Packets) -> Packets:
    """Neighbours of one direction of one connection change places, here and there."""
    packets, chance = packets.copy(), random.Random(1)  # noqa: S311 - to be the same each time
    for at in range(8, len(packets) - 8):
        if packets[at][26:38] == packets[at + 1][26:38] and chance.random() < 0.3:
            packets[at], packets[at + 1] = packets[at + 1], packets[at]
    return packets


def sent_again(packets: Packets) -> Packets:
    return [packet for each in packets for packet in (each, each)]


def late(packets: Packets) -> Packets:
    """One packet is lost on its way to where the capture is, and comes again much later."""
    packets = packets.copy()
    packets.insert(40, packets.pop(26))
    return packets


def overlapping(packets: Packets) -> Packets:
    """Each segment brings the end of the one before it once more."""
    found, before = [], b""
    for packet in packets:
        tail = before[54:][-20:] if before[26:38] == packet[26:38] and len(packet) > 54 else b""
        changed = bytearray(packet[:54] + tail + packet[54:])
        changed[38:42] = (int.from_bytes(packet[38:42], "big") - len(tail)).to_bytes(4, "big")
        changed[16:18] = (len(changed) - 14).to_bytes(2, "big")
        found.append(bytes(changed))
        before = packet
    return found


@pytest.mark.parametrize("happened", [list, swapped, sent_again, late, overlapping], ids=lambda each: each.__name__)
@pytest.mark.parametrize("segment_bytes", [7, 100])
def test_what_happened_to_packets_changes_nothing(
    tmp_path: Path, expected: list[dict[str, Any]], happened: Callable[[Packets], Packets], segment_bytes: int
) -> None:
    capture = captured(segment_bytes)
    capture.packets = happened(capture.packets)
    assert frames(capture.write(tmp_path / "happened.pcap")) == expected


def test_another_port_is_found_by_the_preamble(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    assert frames(captured(server_port=20000).write(tmp_path / "port.pcap")) == expected


def test_without_the_beginning_of_tcp_the_port_tells_who_dialed(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    capture = captured()
    capture.packets = [packet for packet in capture.packets if not packet[47] & 0x02]
    assert frames(capture.write(tmp_path / "late.pcap")) == expected


def test_what_the_capture_lacks_is_told(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    capture = captured()
    del capture.packets[30]
    path = capture.write(tmp_path / "lacks.pcap")
    assert "lacks bytes of connection 2 from the dialer" in run(path).stderr
    found = frames(path)
    of_others = [row for row in expected if (row["connection"], row["from"]) != (2, "dialer")]
    assert [row for row in found if (row["connection"], row["from"]) != (2, "dialer")] == of_others
    broken = [row for row in found if (row["connection"], row["from"]) == (2, "dialer")]
    assert broken == [row for row in expected if (row["connection"], row["from"]) == (2, "dialer")][: len(broken)]


def test_tls_takes_the_keys(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    capture, keylog = Capture(), tmp_path / "keys"
    connections: dict[str, TlsConnection] = {}
    for row in TRANSCRIPT:
        if row["on"] not in connections:
            tcp = TcpConnection(capture, 40000 + len(connections), segment_bytes=150)
            connections[row["on"]] = TlsConnection(tcp, tmp_path, keylog)
        connections[row["on"]].send(row["by"], bytes.fromhex(row["hex"]))
    path = capture.write(tmp_path / "tls.pcap")
    assert frames(path, "--keylog", str(keylog)) == expected
    assert "* connection 1: 10.0.0.1:40000 to 10.0.0.2:4711, TLS" in run(path, "--keylog", str(keylog)).stdout
    without = run(path)
    assert without.stdout == ""
    assert "2 connections are TLS, and no key opens them" in without.stderr


def test_a_flow_file_tells_the_same(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    flow = tmp_path / "move.flow"
    result = run(captured().write(tmp_path / "move.pcap"), "-w", str(flow), "-q")
    assert (result.exit_code, result.output) == (0, "")
    told = [each for each in seen(flow.read_bytes()) if isinstance(each, FrameSeen)]
    assert sorted(each.type_name for each in told) == sorted(row["type"] for row in expected)
    assert b"as it is" not in flow.read_bytes()  # the content of a layer


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no connection of daemons is in it"),
        (b"no capture", "tshark: "),
        (Capture(), "no connection of daemons is in it"),
    ],
)
def test_what_is_no_capture_is_told(tmp_path: Path, content: bytes | Capture, says: str) -> None:
    path = tmp_path / "none.pcap"
    if isinstance(content, Capture):
        content.write(path)
    else:
        path.write_bytes(content)
    result = run(path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_a_capture_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = captured().write(tmp_path / "cut.pcap")
    path.write_bytes(path.read_bytes()[:-5])
    result = run(path)
    assert result.exit_code == 1
    assert "BYE" in result.stdout
    assert "tshark: " in result.stderr


def test_without_tshark_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = captured().write(tmp_path / "move.pcap")
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(path)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "tshark is not installed" in result.stderr


# -- hostile captures ------------------------------------------------------------------------------------------------


def harmless(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)


def test_mutated_sessions_do_no_harm(tmp_path: Path) -> None:
    """150 sessions in one capture, each with something wrong, and files that are damaged themselves."""
    chance, capture = random.Random(2), Capture()  # noqa: S311
    for number in range(150):
        connections = {
            on: TcpConnection(capture, 20000 + 2 * number + at, segment_bytes=500)
            for at, on in enumerate(("control", "payload"))
        }
        spoiled = chance.randrange(len(TRANSCRIPT))
        for at, row in enumerate(TRANSCRIPT):
            data = bytes.fromhex(row["hex"])
            connections[row["on"]].send(row["by"], mutated(data, chance) if at == spoiled else data)
    path = capture.write(tmp_path / "mutated.pcap")
    result = run(path, "-v", "-x")
    assert result.exit_code == 0, result.stderr
    assert harmless(result.output)
    assert result.stdout.count("broke the protocol") > 40
    whole = captured().write(tmp_path / "whole.pcap").read_bytes()
    for _ in range(10):
        path.write_bytes(whole[:24] + mutated(whole[24:], chance))
        result = run(path)
        assert result.exit_code in (0, 1)
        assert harmless(result.output)


def some_piece(chance: random.Random) -> Piece:
    dialer, acceptor = ("10.0.0.1", chance.randrange(3)), ("10.0.0.2", PORT)
    source, target = (dialer, acceptor) if chance.random() < 0.6 else (acceptor, dialer)
    row = bytes.fromhex(chance.choice(TRANSCRIPT)["hex"])
    data = chance.choice((b"", PREAMBLE, row, mutated(row, chance)))
    flags = [chance.random() < 0.1 for _ in range(6)]
    return Piece(chance.randrange(1 << 40), chance.randrange(400), source, target, data, *flags)


def test_any_pieces_in_any_order_are_taken() -> None:
    """Whatever tshark may make of a capture; and what is open at once is bounded."""
    for seed in range(20):
        chance, told = random.Random(seed), list[Seen]()  # noqa: S311
        streams = CapturedStreams(Recorder(None, told.append), PORT)
        for _ in range(2000):
            streams.take(some_piece(chance))
            assert len(streams._open) <= OPEN_MAX
        streams.finish()
        opened = sum(isinstance(each, ConnectionSeen) for each in told)
        assert opened > OPEN_MAX
        assert sum(isinstance(each, EndSeen) for each in told) == 2 * (opened - len(streams._open)) + sum(
            each.ended for connection in streams._open.values() for each in connection.directions.values()
        )
        assert any(isinstance(each, BrokenSeen) for each in told)


@pytest.mark.parametrize(
    "line", ["", "1.5\t1", "\t" * 14, "x" + "\t" * 14, "1.0\t1\ta\t\t1\tb\t\t2" + "\t" * 6 + "\tzz"]
)
def test_what_tshark_never_says_is_an_error_of_ours(line: str) -> None:
    with pytest.raises(WireError, match="tshark says what cannot be read"):
        read_line(line)


def test_the_innermost_packet_counts() -> None:
    line = "1.25\t3\t10.0.0.1,10.9.9.9\t\t40000\t10.0.0.2,10.8.8.8\t\t4711\tTrue\t0\t0\t0\t\ttls\t0a0b,0c"
    assert read_line(line) == Piece(
        1_250_000_000, 3, ("10.9.9.9", 40000), ("10.8.8.8", 4711), b"\x0a\x0b\x0c", syn=True, tls=True
    )


def test_it_stops_when_nobody_reads_on(tmp_path: Path) -> None:
    path = captured(7).write(tmp_path / "long.pcap")
    command = f"{sys.executable} -m hopwire read-pcap {path} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
