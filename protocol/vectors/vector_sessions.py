"""Golden sessions: a whole one, and what ends one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from streamhop_protocol import messages as m
from streamhop_protocol import signals as s
from streamhop_protocol.codecs import Codec
from streamhop_protocol.connection import Connection
from streamhop_protocol.session import Session
from vector_frames import DIGEST, MOVE, TOKEN
from vector_meanings import shown

FRAGMENT_BYTES = 4096
PLAIN = b"as it is"
REPEATED = (b"streamhop " * 24)[:234]
LZ4_BLOCK = b"\xafstreamhop \x0a\x00\xc8\x50" + REPEATED[-5:]
"""``REPEATED``: ten literals, a match of 219 bytes at offset 10, five literals. By hand: compressors differ."""


class End:
    """One end of a session of one control and one payload connection."""

    def __init__(self, *, dialer: bool) -> None:
        accepted = {"control": Connection.accepted(), "payload": Connection.accepted()}
        dialed = {
            "control": Connection.dial_control(s.Hello("edge-a", 1, 1, 1, 32)),
            "payload": Connection.dial_payload(s.Join(MOVE, TOKEN)),
        }
        self.connections = dialed if dialer else accepted
        self.session = Session(dialer=dialer, streams_max_in=32, streams_max_out=32)

    def to_send(self, on: str) -> bytes:
        """Everything that has to leave on a connection."""
        out = self.connections[on].data_to_send()
        if on == "control":
            return out + self.session.control_to_send()
        while (frame := self.session.next_frame(FRAGMENT_BYTES)) is not None:
            out += frame.head + bytes(frame.payload)
        return out

    def receive(self, on: str, data: bytes) -> list[Any]:
        """What bytes on a connection mean: what was said in the handshake, then events of the session.

        :raises ProtocolError: they break the protocol.
        """
        connection = self.connections[on]
        connection.receive_data(data)
        found: list[Any] = []
        for received in connection.events():
            if isinstance(received.body, s.Hello | s.Welcome | s.Join | s.Joined):
                found.append(received.body)
            else:
                self.session.receive(received, now=1.0)
        found += self.session.events()
        error = connection.error or self.session.error
        if error is not None:
            raise error
        return found

    def stream(
        self, kind: m.StreamKind, attributes: dict[str, Any], content: Sequence[tuple[Codec, bytes, bytes, Any]]
    ) -> None:
        """Send a whole stream of chunks, each of which is its codec, its content, the same compressed, and its meta."""
        number = self.session.open_stream(kind, attributes)
        for codec, raw, packed, meta in content:
            self.session.fill_chunk(self.session.put_chunk(number, len(raw), meta), codec, packed)
        self.session.end_stream(number, {"digest": DIGEST})


def _script() -> list[tuple[str, str, Callable[[End], object] | None]]:
    """A session: who acts, on which connection that shows, and what is called; None if it speaks by itself."""

    def say(message: m.Message) -> Callable[[End], object]:
        return lambda end: end.session.send(message)

    layer = ((Codec.NONE, PLAIN, PLAIN, None), (Codec.LZ4, REPEATED, LZ4_BLOCK, None))
    pages = PLAIN * 513  # a little more than one fragment
    memory = ((Codec.NONE, pages, pages, {"o": "anything"}),)
    welcome = s.Welcome("edge-b", 1, MOVE, TOKEN, 32)
    return [
        ("dialer", "control", None),
        ("acceptor", "control", lambda end: end.connections["control"].accept(welcome)),
        ("dialer", "payload", None),
        ("acceptor", "payload", lambda end: end.connections["payload"].accept(s.Joined())),
        ("dialer", "control", lambda end: end.session.ping(1.0)),
        ("acceptor", "control", None),
        ("dialer", "control", say(m.Offer(MOVE, 1, {"container": "web"}, {"hash_seed": bytes(8)}))),
        ("acceptor", "control", say(m.Accept(MOVE, 1, ["sha256:aa"], ["sha256:bb"], {"held": False}))),
        ("dialer", "payload", lambda end: end.stream(m.StreamKind.LAYER, {"digest": "sha256:aa", "offset": 0}, layer)),
        ("acceptor", "control", lambda end: end.session.done(1, {})),
        ("dialer", "payload", lambda end: end.stream(m.StreamKind.MEMORY, {"round": 0}, memory)),
        ("acceptor", "control", lambda end: end.session.done(3, {})),
        ("acceptor", "control", say(m.Ready(MOVE, 1))),
        ("dialer", "control", say(m.Prepare(MOVE, 1, DIGEST))),
        ("acceptor", "control", say(m.Prepared(MOVE, 1, DIGEST, {"restore_s": 0.25}))),
        ("dialer", "control", say(m.Release(MOVE, 1, DIGEST))),
        ("acceptor", "control", say(m.Started(MOVE, 1))),
        ("dialer", "control", say(m.Finish(MOVE, 1))),
        ("dialer", "control", say(m.Query(MOVE))),
        ("acceptor", "control", say(m.State(MOVE, 1, "done", {"health": "none"}))),
        ("dialer", "control", lambda end: end.session.bye()),
    ]


def transcript(
    recorded: Sequence[dict[str, Any]] = (), pieces: Callable[[bytes], Sequence[bytes]] = lambda data: (data,)
) -> list[dict[str, Any]]:
    """A whole session, step by step: the bytes of one end, and what they mean to the other.

    :param recorded: what arrives at either end instead of what the other one sends now.
    :param pieces: cuts what arrives.
    :raises ProtocolError: one end does not understand the other.
    """
    ends = {"dialer": End(dialer=True), "acceptor": End(dialer=False)}
    rows = []
    for (by, on, call), before in zip_longest(_script(), recorded):
        if call is not None:
            call(ends[by])
        data = ends[by].to_send(on)
        other = ends["acceptor" if by == "dialer" else "dialer"]
        arriving = bytes.fromhex(before["hex"]) if before is not None else data
        means = [shown(event) for piece in pieces(arriving) for event in other.receive(on, piece)]
        rows.append({"by": by, "on": on, "hex": data.hex(), "means": means})
    return rows
