"""The trace of a daemon: it tells what a tap sees, frame by frame, and ``hopwire`` reads it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hopwire_support import MOVE
from support.net_helpers import CONFIG, DEADLINE_S, Acceptors, RawPeer, raw_session, until
from support.net_security import Device

from hopwire.cli import main
from hopwire.errors import FlowError, FlowTruncatedError
from hopwire.events import BrokenSeen, ConnectionSeen, EndSeen, FrameSeen, NoteSeen, Seen
from hopwire.recorder import Recorder
from hopwire.summary.analysis import analyse
from hopwire.summary.as_json import as_json
from hopwire.summary.as_text import text_lines
from hopwire.summary.codecs import CHOSEN, PACKED, ROWS_MAX, CodecChoices
from hopwire.summary.sessions import moments_of
from hopwire.tapping.identities import contexts
from hopwire.tapping.relay import Tap
from hopwire.trace import LINE_BYTES_MAX, seen_in_trace
from streamhop.config import Address
from streamhop.net import WireTrace, dial, serve
from streamhop.telemetry.trace import Trace
from streamhop_protocol.frames import FLAG_REQUIRED, encode_frame
from streamhop_protocol.messages import Offer, Query, Ready, StreamKind

SECRET = b"SECRET-OF-THE-CONTAINER " * 4000
PASSWORD = "hunter2-in-the-environment"


def traced() -> tuple[io.BytesIO, WireTrace]:
    file = io.BytesIO()
    return file, WireTrace(Trace(file, "edge-a"))


def read(data: bytes) -> list[Seen]:
    return list(seen_in_trace(io.BytesIO(data)))


def sequences(events: Iterable[Seen]) -> Counter[tuple[object, ...]]:
    """Of each direction of each connection, what passed in which order."""
    found: dict[tuple[int, bool], list[object]] = {}
    for event in events:
        if isinstance(event, FrameSeen):
            found.setdefault((event.connection, event.from_dialer), []).append(event.prefix)
    return Counter((from_dialer, *frames) for (_, from_dialer), frames in found.items())


@pytest.mark.parametrize("tls", [False, True])
async def test_the_tap_and_both_daemons_tell_the_same(tmp_path: Path, tls: bool) -> None:
    a, b = Device(tmp_path, "a"), Device(tmp_path, "b")
    security = (a.client(b), b.server(a)) if tls else (None, None)
    told: list[Seen] = []
    files = [traced(), traced()]
    dialing, accepting = (replace(CONFIG, trace=trace, codec_threads=2) for _, trace in files)
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, accepting, name="edge-b", on_session=accepted, security=security[1]) as listener,
        Tap(
            Address("127.0.0.1", 0),
            Address("127.0.0.1", listener.port),
            Recorder(None, told.append),
            contexts=contexts(tmp_path / "a", tmp_path / "b") if tls else None,
        ) as tap,
    ):
        async with await dial("127.0.0.1", tap.port, dialing, name="edge-a", security=security[0]) as dialer:
            acceptor = await accepted.sessions.get()
            offer = Offer(MOVE, 1, {"request": {"Env": [PASSWORD]}, "x": "y" * 50_000}, {"hash_seed": b"seed-8-b"})
            await dialer.send(offer)
            assert await acceptor.receive() == offer
            await acceptor.send(Ready(MOVE, 1))
            stream = await dialer.open_stream(StreamKind.MEMORY, {"round": 0})
            taking = asyncio.ensure_future(acceptor.accept_stream())
            for data in (SECRET, os.urandom(200_000), b"small"):
                await stream.write(data, {"o": "pagemap-1"})
            stream.end({"pages": 3})
            incoming = await taking
            assert [len(chunk.data) async for chunk in incoming] == [len(SECRET), 200_000, 5]
            await incoming.done()
            await stream.finish()
        await until(lambda: sum(isinstance(event, EndSeen) for event in told) == 6)
    traces = [file.getvalue() for file, _ in files]
    seen = sequences(told)
    assert sum(len(each) - 1 for each in seen) > 20
    assert seen.total() == 6
    for data in traces:
        assert sequences(read(data)) == seen
        for secret in (SECRET[:24], PASSWORD.encode(), b"hash_seed", b"token", b"pagemap"):
            assert secret not in data
    notes = [event for event in read(traces[0]) if isinstance(event, NoteSeen)]
    chosen = [note.data for note in notes if note.name == "codec:chosen"]
    assert [(each["kind"], each["raw_bytes"]) for each in chosen] == [
        ("memory", len(SECRET)), ("memory", 200_000), ("memory", 5),
    ]  # fmt: skip
    assert all("rate_bytes_per_s" in each and "codec" in each for each in chosen)
    packed = [note.data for note in notes if note.name == "codec:packed"]
    assert {(each["codec"], each["raw_bytes"]) for each in packed} == {("zstd", len(SECRET)), ("none", 200_000)}


async def test_a_trace_is_summed_up_as_a_recording_is() -> None:
    file, trace = traced()
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="edge-b", on_session=accepted) as listener,
        await dial("127.0.0.1", listener.port, replace(CONFIG, trace=trace), name="edge-a") as dialer,
    ):
        acceptor = await accepted.sessions.get()
        await dialer.send(Query(MOVE))
        await acceptor.receive()
        stream = await dialer.open_stream(StreamKind.FINAL, {"part": "pages"})
        await stream.write(SECRET)
        stream.end()
        incoming = await acceptor.accept_stream()
        assert [len(chunk.data) async for chunk in incoming] == [len(SECRET)]
        await incoming.done()
        await stream.finish()
        trace.trace.emit("move:phase", phase="freeze", move=MOVE)
        trace.trace.emit("move:phase", phase="freeze", move=bytes(16))
    analysis = analyse(read(file.getvalue()))
    session = analysis.sessions[1]
    assert (session.dialer, session.acceptor, len(session.connections)) == ("edge-a", "edge-b", 3)
    assert session.faults == []
    (streamed,) = session.streams.values()
    assert (streamed.kind, streamed.raw_bytes, streamed.outcome) == ("final", len(SECRET), "done")
    assert session.milestones[0].move == MOVE.hex()
    (row,) = analysis.codecs.rows()
    assert (row.kind, row.chosen, row.chunks, row.raw_bytes) == ("final", "zstd 3", 1, len(SECRET))
    assert any("zstd 3" in line and "final" in line for line in text_lines(analysis))
    assert as_json(analysis)["codecs"][0]["raw_bytes"] == len(SECRET)
    frozen_ns = moments_of(session, analysis.frozen).frozen_ns
    assert frozen_ns == analysis.frozen[MOVE.hex()]
    assert frozen_ns > streamed.began_ns
    assert moments_of(session).frozen_ns == streamed.began_ns


async def test_a_peer_that_breaks_the_protocol_is_in_the_trace() -> None:
    file, trace = traced()
    async with raw_session(replace(CONFIG, trace=trace)) as (control, _, session):
        control.write(encode_frame(0x7D, b"", stream=3))
        control.write(encode_frame(0x7E, b"", flags=FLAG_REQUIRED))
        await session.wait_closed()
    events = read(file.getvalue())
    assert [event.code for event in events if isinstance(event, BrokenSeen)] == ["unexpected"]
    assert [event.type_name for event in events if isinstance(event, FrameSeen)].count("0x7d") == 1
    assert sum(isinstance(event, ConnectionSeen) for event in events) == 2
    with contextlib.suppress(EOFError):
        while True:
            await control.next()


async def test_without_a_trace_nothing_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off is off: no frame is told to anybody, and nothing is decoded twice."""

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("streamhop.net.tracing.ConnectionTrace.__init__", never)
    monkeypatch.setattr("streamhop.net.tracing.decode_prefix", never)
    monkeypatch.setattr("streamhop_protocol.connection.Connection.watch", never)
    async with raw_session() as (control, payloads, session):
        assert isinstance(control, RawPeer)
        assert len(payloads) == 1
        await session.send(Ready(MOVE, 1))
        while (await control.next()).body != Ready(MOVE, 1):
            pass


def test_choices_of_codecs_are_summed_up_and_bounded() -> None:
    choices = CodecChoices()

    def chosen(stream: object, codec: object, rate: object, **more: object) -> None:
        data = {"stream": stream, "codec": codec, "rate_bytes_per_s": rate, "kind": "memory", "raw_bytes": 10, **more}
        choices.take(NoteSeen(0, CHOSEN, data))

    chosen(1, "zstd", 100, level=3)
    chosen(1, "zstd", 300, level=3)
    chosen(1, "zstd", None, level=3)
    choices.take(NoteSeen(0, PACKED, {"stream": 1, "codec": "none"}))
    choices.take(NoteSeen(0, PACKED, {"stream": 1, "codec": "zstd"}))
    choices.take(NoteSeen(0, PACKED, {"stream": 9, "codec": "none"}))
    (row,) = choices.rows()
    assert (row.chosen, row.chunks, row.raw_bytes, row.rates, row.unshrunk) == ("zstd 3", 3, 30, (100, 300), 1)
    chosen("x", "zstd", 1)
    chosen(1, 5, 1)
    assert len(choices.rows()) == 1
    for number in range(1000):
        chosen(number, f"codec {number}", 1)
    assert len(choices.rows()) == ROWS_MAX


# -- reading -----------------------------------------------------------------------------------------------------------

HEAD = b'{"trace":"streamhop","version":1}\n'


def line(name: str, time: object = 1.5, **data: object) -> bytes:
    return json.dumps({"time": time, "name": name, "data": data}).encode() + b"\n"


FRAME = {"connection": 1, "type": "PING", "stream": 0, "header": 8, "payload": 0, "flags": 1, "fields": {"number": 7}}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends before it says what it is"),
        (b"{}\n", "no trace of streamhop"),
        (b'{"trace":"streamhop","version":2}\n', "version 2"),
        (b"{\n", "line 1: not JSON"),
        (b"[" * 100_000 + b"\n", "line 1: not JSON"),
        (HEAD + b"1\n", "line 2: not an object"),
        (HEAD + b'{"time":1,"name":"x","data":{"x":' + b"[" * 400 + b"]" * 400 + b"}}\n", "nested deeper than 32"),
        (HEAD + b"{}\n", "without name or data"),
        (HEAD + line("x", None), "without a time"),
        (HEAD + line("x", -1), "a time that cannot be"),
        (HEAD + line("x", float("nan")), "a time that cannot be"),
        (HEAD + line("x", 10**400), "a time that cannot be"),
        (HEAD + line("wire:frame_sent", **{**FRAME, "type": "NOTHING"}), "type is none"),
        (HEAD + line("wire:frame_sent", **{**FRAME, "type": "0x100"}), "type is none"),
        (HEAD + line("wire:frame_sent", **{**FRAME, "payload": 1 << 40}), "payload is no number"),
        (HEAD + line("wire:frame_sent", **{**FRAME, "header": True}), "header is no number"),
        (HEAD + line("wire:frame_sent", **{**FRAME, "fields": []}), "fields are no object"),
        (HEAD + line("wire:frame_sent", **{**FRAME, "fields": {"x": {"hex": "zz"}}}), "not hexadecimal"),
        (HEAD + line("wire:broken", connection=1), "code is no text"),
        (HEAD + b"x" * (LINE_BYTES_MAX + 1), "a line of more than"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(FlowError, match=why):
        read(data)


def test_a_line_without_its_end_is_an_end_in_the_middle() -> None:
    with pytest.raises(FlowTruncatedError):
        read(HEAD + line("x")[:-1])


def test_dump_shows_frames_and_decisions(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = {"connection": 1, "role": "acceptor", "here": "10.0.0.2:4711", "peer": "10.0.0.1:4000", "tls": True}
    path.write_bytes(
        HEAD
        + line("wire:connection_made", **made)
        + line("wire:frame_received", **FRAME)
        + line("policy:verdict", decision="freeze", reason="\x1b[2J")
    )
    done = CliRunner().invoke(main, ["dump", str(path)])
    assert done.output.splitlines() == [
        "   1.500000 * connection 1: 10.0.0.1:4000 to 10.0.0.2:4711, TLS",
        "   1.500000 >   -   1      - PING              20 R  number=7",
        '   1.500000 = policy:verdict decision="freeze" reason="\\x1b[2J"',
    ]


@pytest.mark.parametrize(
    "said",
    ["\x1b]0;owned\x07\x1b[31m", 10**4000, ["\x9b2J"] * 500, {"\u202e": 1}],
    ids=["text", "number", "list", "map"],
)
def test_what_a_peer_says_of_a_chunk_steers_no_terminal_and_floods_none(tmp_path: Path, said: object) -> None:
    """The daemon's trace has the header of a DATA frame before anybody has checked it."""
    path = tmp_path / "trace"
    fields = {"seq": said, "codec": said, "raw_bytes": said}
    chunk = {"connection": 1, "type": "DATA", "stream": 3, "header": 900, "payload": 0, "flags": 0, "fields": fields}
    path.write_bytes(HEAD + line("wire:frame_received", **chunk))
    done = CliRunner().invoke(main, ["dump", str(path)])
    assert done.exit_code == 0
    (told,) = done.output.splitlines()
    assert told.isprintable()
    assert len(told) < 160
