"""``hopwire show``: what is summed up, what is found wrong, and the page."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from hopwire_support import MEMORY, MOVE, Wire, a_move, handshake, saved, seen

from hopwire.cli import main
from hopwire.events import FrameSeen
from hopwire.flow.reader import FlowReader
from hopwire.flow.recording import seen_in
from hopwire.summary import sessions
from hopwire.summary.analysis import Analysis, analyse
from hopwire.summary.sessions import BINS_MAX, Bins, SessionSummary, moments_of, rounds_of
from streamhop_protocol.frames import encode_frame
from streamhop_protocol.messages import Abort
from streamhop_protocol.signals import Credit, Data, Done, Open, Ping, Reset, encode_signal

EVIL = "\x1b[2J<script>alert(1)</script>"


def of(wire: Wire) -> Analysis:
    return analyse(seen(wire.finished()))


def session_of(wire: Wire) -> SessionSummary:
    return of(wire).sessions[1]


def data(seq: int, size: int = 5, *, first: bool = True, more: bool = False, stream: int = 1) -> bytes:
    _, header = encode_signal(Data(seq, 0, size) if first else Data(seq))
    return encode_frame(0x11, header, bytes(size), flags=3 if more else 1, stream=stream)


def test_a_move_in_figures() -> None:
    session = session_of(a_move())
    assert (session.dialer, session.acceptor, session.connections) == ("edge-a", "edge-b", {1, 2, 3})
    assert (session.frames[True], session.frames[False]) == (27, 13)
    assert session.faults == []
    streams = {stream.id: stream for stream in session.streams.values()}
    assert [streams[number].kind for number in (1, 3, 5, 7, 9)] == ["layer", "memory", "tree", "memory", "final"]
    assert all(stream.outcome == "done" and stream.missing == 0 for stream in streams.values())
    assert streams[3].raw_bytes == 2 * len(MEMORY) - 1
    assert streams[3].chunks == 2
    assert set(streams[3].wire_by_codec) == {"none", "zstd"}
    assert sum(streams[3].wire_by_codec.values()) == streams[3].wire_bytes
    assert [(each.name, each.memory_raw_bytes) for each in rounds_of(session)] == [
        ("0", 2 * len(MEMORY) - 1),
        ("1", 4096),
        ("final", 4096),
    ]
    assert rounds_of(session)[0].tree_wire_bytes == streams[5].wire_bytes
    moments = moments_of(session)
    assert moments.frozen_ns == streams[9].began_ns
    assert moments.frozen_s == pytest.approx(0.007)
    assert [milestone.name for milestone in session.milestones][-3:] == ["FINISH", "QUERY", "STATE"]
    assert session.again_frames == 1


def test_with_and_without_payload_it_is_the_same() -> None:
    whole, bare = session_of(a_move(payload=True)), session_of(a_move())
    assert whole.streams == bare.streams
    assert whole.faults == bare.faults == []


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        ([data(1), data(1)], "unexpected", "frame 1 of stream 1 came twice"),
        ([data(9000)], "flow", "frame 9000 of stream 1, but frame 1 has not come"),
        ([data(1), data(3)], "missing", "stream 1: 1 frames up to number 3 did not pass"),
        ([data(1, first=False)], "malformed", "begins no chunk"),
        ([data(n, 1_000_000) for n in range(1, 6)], "flow", "of credit left"),
    ],
)
def test_what_is_wrong_with_a_stream_is_found(frames: list[bytes], code: str, reason: str) -> None:
    wire = Wire()
    handshake(wire)
    wire.say(2, Open("memory"), from_dialer=True, stream=1)
    for number, frame in enumerate(frames):
        wire.put(2 + number % 2, frame, from_dialer=True)
    faults = [fault for fault in session_of(wire).faults if fault.code == code]
    assert len(faults) == 1
    assert faults[0].from_dialer
    assert reason in faults[0].reason


def test_what_is_wrong_with_an_answer_is_the_answerers_fault() -> None:
    wire = Wire()
    handshake(wire)
    wire.say(2, Open("memory"), from_dialer=True, stream=1)
    wire.say(1, Credit(5), from_dialer=False, stream=1)
    wire.say(1, Done(), from_dialer=False, stream=1)
    assert [(fault.code, fault.from_dialer) for fault in session_of(wire).faults] == [
        ("flow", False),
        ("unexpected", False),
    ]


def test_a_connection_that_broke_and_a_stream_that_was_reset() -> None:
    wire = Wire()
    handshake(wire)
    wire.say(2, Open("tree"), from_dialer=True, stream=1)
    wire.say(1, Reset("cancelled", EVIL), from_dialer=True, stream=1)
    wire.put(1, encode_frame(0x7E, b"", flags=1), from_dialer=False)
    session = session_of(wire)
    assert session.streams[1].outcome == "reset, cancelled"
    assert [(fault.code, fault.connection, fault.from_dialer) for fault in session.faults] == [("unexpected", 1, False)]


def test_gaps_are_times_in_which_nothing_but_upkeep_passed() -> None:
    wire = Wire()
    handshake(wire)
    for _ in range(10):
        wire.now_ns += 300_000_000
        wire.say(1, Ping(1), from_dialer=True)
    wire.say(1, Abort(MOVE, 1, "cancelled", ""), from_dialer=True)
    (silence,) = session_of(wire).silences
    assert silence.seconds == pytest.approx(3.011)


def test_bins_grow_wider_as_time_goes_on() -> None:
    bins = Bins()
    for second in range(100_000):
        bins.add(second * 1_000_000_000, "memory" if second % 2 else "tree", 10)
    assert sum(len(counts) for counts in bins.by_kind.values()) <= 2 * BINS_MAX
    assert sum(sum(counts.values()) for counts in bins.by_kind.values()) == 1_000_000


def test_what_waits_for_its_turn_keeps_no_payload_alive() -> None:
    wire = Wire(payload=True)
    handshake(wire)
    wire.say(2, Open("memory"), from_dialer=True, stream=1)
    for seq in range(2, 42):  # number 1 does not come
        wire.put(2, data(seq, 100_000), from_dialer=True)
    wire.told.clear()
    recording = io.BytesIO(wire.finished())
    tracemalloc.start()
    analysis = analyse(seen_in(FlowReader(recording)))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert analysis.sessions[1].streams[1].frames == 41
    assert kept_bytes < 1_000_000 < 40 * 100_000


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hopwire.summary.analysis.STREAMS_MAX", 10)
    wire = Wire()
    handshake(wire)
    for stream in range(1, 101, 2):
        wire.say(2, Open("memory", {"x": "y" * 2000}), from_dialer=True, stream=stream)
    for _ in range(300):
        wire.say(1, Done(), from_dialer=False, stream=1)
    session = session_of(wire)
    assert len(session.streams) == 10
    assert session.streams_left_out == 40
    assert all(stream.attributes == {} for stream in session.streams.values())
    assert len(session.faults) == sessions.FAULTS_MAX
    assert session.faults_left_out > 0


# -- the command -------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["show", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_text(tmp_path: Path) -> None:
    lines = run(saved(tmp_path, a_move())).splitlines()
    assert lines[0] == 'session 1: "edge-a" to "edge-b", 3 connections, 0.003 to 0.096 s'
    assert lines[1:3] == ["  > 27 frames, 88453 bytes", "  < 13 frames, 639 bytes"]
    assert any(re.fullmatch(r" +9  >  final +0.086 .* done +\{part: \"pages\", rounds: 2\}", line) for line in lines)
    assert "  frozen at 0.086 s, GO after 0.006 s, STARTED after 0.007 s" in lines
    assert "  violations: none" in lines


def test_json(tmp_path: Path) -> None:
    (session,) = json.loads(run(saved(tmp_path, a_move()), "--format", "json"))["sessions"]
    assert session["wire_bytes"] == {"dialer": 88453, "acceptor": 639}
    assert session["moments"]["frozen_s"] == pytest.approx(0.007)
    assert session["wire_bytes_by_kind"]["memory"].keys() == {"none", "zstd"}


def svgs(page: str) -> list[ET.Element]:
    return [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", page)]  # noqa: S314 - of our own making


def test_the_page_needs_nothing_else_and_shows_what_there_is(tmp_path: Path) -> None:
    page_file = tmp_path / "move.html"
    assert run(saved(tmp_path, a_move()), "--html", str(page_file)) == ""
    page = page_file.read_text()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|<link|@import|src=", page)
    whole, frozen = svgs(page)
    texts = ["".join(element.itertext()) for element in whole.iter() if element.tag.endswith("text")]
    for told in ("OFFER", "GO", "STARTED", "frozen for 0.007 s", "3 memory 0", "9 final pages", "1 layer aa"):
        assert told in texts
    assert "frozen for 0.007 s" in "".join(frozen.itertext())
    places = [float(element.get("x", 0)) for element in whole.iter() if element.tag.endswith("rect")]
    assert all(0 <= place <= 1100 for place in places)


def test_what_a_peer_says_is_escaped_on_the_page_and_on_the_terminal(tmp_path: Path) -> None:
    wire = Wire()
    handshake(wire)
    wire.say(2, Open("tree", {"tree": EVIL, EVIL: 1}), from_dialer=True, stream=1)
    wire.say(1, Reset("x" + EVIL, EVIL), from_dialer=True, stream=1)
    wire.say(1, Abort(MOVE, 1, "y" + EVIL, EVIL), from_dialer=True)
    file, page = saved(tmp_path, wire), tmp_path / "x.html"
    text = run(file)
    assert "\x1b" not in text
    assert "\\x1b[2J<script>" in text
    run(file, "--html", str(page))
    assert "<script" not in page.read_text()
    assert "\x1b" not in page.read_text()
    assert len(svgs(page.read_text())) == 1


def test_a_recording_that_was_cut_off_is_summed_up_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "cut.flow"
    path.write_bytes(a_move().finished()[:-90])
    done = CliRunner().invoke(main, ["show", str(path)])
    assert done.exit_code == 1
    assert "STARTED after" in done.stdout
    assert "cut off" in done.stderr


def test_a_recording_without_frames(tmp_path: Path) -> None:
    assert run(saved(tmp_path, Wire())) == "no frames\n"


def test_every_frame_of_a_session_is_counted() -> None:
    wire = a_move()
    frames = [event for event in wire.told if isinstance(event, FrameSeen)]
    assert sum(session_of(wire).types.values()) == len(frames)
