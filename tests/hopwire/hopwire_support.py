"""What the tests of hopwire share: sessions made without sockets, and recordings of them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hopwire.events import Seen
from hopwire.flow.reader import FlowReader
from hopwire.flow.recording import seen_in
from hopwire.flow.records import About, Record
from hopwire.flow.writer import FILE_BYTES_MAX, FlowWriter
from hopwire.recorder import Recorder
from streamhop_protocol.codecs import Codec, CodecChoice, compress
from streamhop_protocol.connection import encode_body
from streamhop_protocol.frames import PREAMBLE
from streamhop_protocol.messages import (
    Accept,
    Finish,
    Message,
    Offer,
    Prepare,
    Prepared,
    Query,
    Ready,
    Release,
    Started,
    State,
    StreamKind,
)  # fmt: skip
from streamhop_protocol.session import Session
from streamhop_protocol.signals import Done, Hello, Join, Joined, Signal, Welcome

MOVE = bytes(range(16))
SESSION = bytes(range(16, 32))
TOKEN = b"a secret token of 32 bytes......"
SEED = b"seed-8-b"
DIGEST = bytes(range(32))
BEGAN_NS = 1_767_225_600_000_000_000
PASSWORD = "hunter2-in-the-environment"
MEMORY = b"SECRET-OF-THE-CONTAINER " * 2000
ABOUT = About("test", BEGAN_NS, payload=False)

HELLO = Hello("edge-a", 1, 1, 2, 8)
WELCOME = Welcome("edge-b", 1, SESSION, TOKEN, 8)
MANIFEST = {
    "container": "web",
    "page_size": 4096,
    "request": {"name": "web", "body": {"Env": [f"PASSWORD={PASSWORD}"], "Labels": {"team": PASSWORD}}},
    "image": {"id": "sha256:11", "config": PASSWORD.encode()},
}


@dataclass
class Wire:
    """A recording under way: bytes are put on made-up connections at a made-up time."""

    payload: bool = False
    bytes_max: int = FILE_BYTES_MAX
    file: io.BytesIO = field(default_factory=io.BytesIO)
    told: list[Seen] = field(default_factory=list)
    now_ns: int = 0

    def __post_init__(self) -> None:
        self.writer = FlowWriter(self.file, About("test", BEGAN_NS, self.payload), self.bytes_max)
        self.recorder = Recorder(self.writer, self.told.append)

    def connect(self, connection: int) -> None:
        self.recorder.opened(self.now_ns, connection, ("10.0.0.1:40000", "10.0.0.2:4711"), tls=False)
        for from_dialer in (True, False):
            self.put(connection, PREAMBLE, from_dialer=from_dialer)

    def put(self, connection: int, data: bytes, *, from_dialer: bool) -> None:
        self.now_ns += 1_000_000
        self.recorder.data(self.now_ns, connection, data, from_dialer=from_dialer)

    def say(self, connection: int, body: Signal | Message, *, from_dialer: bool, stream: int = 0) -> None:
        self.put(connection, encode_body(body, stream=stream), from_dialer=from_dialer)

    def end(self, connection: int) -> None:
        for from_dialer in (True, False):
            self.recorder.ended(self.now_ns, connection, from_dialer=from_dialer)

    def finished(self) -> bytes:
        self.writer.close()
        return self.file.getvalue()


def handshake(wire: Wire) -> None:
    """A session with its control connection 1 and payload connections 2 and 3."""
    wire.connect(1)
    wire.say(1, HELLO, from_dialer=True)
    wire.say(1, WELCOME, from_dialer=False)
    for connection in (2, 3):
        wire.connect(connection)
        wire.say(connection, Join(SESSION, TOKEN), from_dialer=True)
        wire.say(connection, Joined(), from_dialer=False)


def send_stream(
    wire: Wire, source: Session, target: Session, kind: StreamKind, chunks: Iterable[bytes],
    *, end: bool = True, fragment_bytes: int = 20_000, **attributes: object,
) -> int:  # fmt: skip
    """A stream from the source, on connections 2 and 3 in turn, with the credit and DONE that it gets."""
    stream = source.open_stream(kind, attributes)
    for data in chunks:
        packed = compress(data, CodecChoice(Codec.ZSTD, 3)) if len(data) % 2 else (Codec.NONE, data)
        source.fill_chunk(source.put_chunk(stream, len(data), {"o": "pagemap-1", "r": [[0, 1, 0]]}), *packed)
    if end:
        source.end_stream(stream, {})
    connection = 2
    while (frame := source.next_frame(fragment_bytes)) is not None:
        wire.put(connection, frame.head + bytes(frame.payload), from_dialer=True)
        connection = 5 - connection
    return stream


def a_move(*, payload: bool = False) -> Wire:
    """A whole move as one daemon sees it: handshake, two rounds of memory, the final difference, the commitment."""
    wire = Wire(payload)
    handshake(wire)
    source = Session(dialer=True, streams_max_in=8, streams_max_out=8)
    target = Session(dialer=False, streams_max_in=8, streams_max_out=8)
    wire.say(1, Offer(MOVE, 1, MANIFEST, {"hash_seed": SEED}), from_dialer=True)
    wire.say(1, Accept(MOVE, 1, ["sha256:aa"], []), from_dialer=False)
    for kind, chunks, attributes in (
        (StreamKind.LAYER, [b"layer " * 5000], {"digest": "sha256:aa", "offset": 0}),
        (StreamKind.MEMORY, [MEMORY, MEMORY[:-1]], {"round": 0}),
        (StreamKind.TREE, [b"files " * 100], {"tree": "rootfs", "round": 0}),
        (StreamKind.MEMORY, [MEMORY[:4096]], {"round": 1}),
    ):
        stream = send_stream(wire, source, target, kind, chunks, **attributes)
        wire.say(1, Done(), from_dialer=False, stream=stream)
    wire.say(1, Ready(MOVE, 1), from_dialer=False)
    wire.now_ns += 50_000_000
    stream = send_stream(wire, source, target, StreamKind.FINAL, [MEMORY[:4096]], part="pages", rounds=2)
    wire.say(1, Prepare(MOVE, 1, DIGEST), from_dialer=True)
    wire.say(1, Done(), from_dialer=False, stream=stream)
    wire.say(1, Prepared(MOVE, 1, DIGEST, {"restore_s": 0.1}), from_dialer=False)
    wire.say(1, Release(MOVE, 1, DIGEST), from_dialer=True)
    wire.say(1, Started(MOVE, 1), from_dialer=False)
    wire.say(1, Finish(MOVE, 1), from_dialer=True)
    wire.say(1, Query(MOVE), from_dialer=True)
    wire.say(1, State(MOVE, 1, "done", {"health": "none"}), from_dialer=False)
    for connection in (1, 2, 3):
        wire.end(connection)
    return wire


def records(data: bytes) -> list[Record]:
    """All records of a flow file."""
    return list(FlowReader(io.BytesIO(data)))


def seen(data: bytes) -> list[Seen]:
    """All that a flow file tells."""
    return list(seen_in(FlowReader(io.BytesIO(data))))


def saved(tmp_path: Path, wire: Wire, name: str = "move.flow") -> str:
    """The recording as a file; returns its path."""
    path = tmp_path / name
    path.write_bytes(wire.finished())
    return str(path)
