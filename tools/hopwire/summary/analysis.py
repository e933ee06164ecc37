"""Reads a recording once and keeps what :mod:`.sessions` has room for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hopwire.dumping.lines import codec_name
from hopwire.events import BrokenSeen, ConnectionSeen, FrameSeen, NoteSeen, Seen, blank
from hopwire.roster import Recent, Roster
from streamhop_protocol.connection import Received
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.messages import MOVE_ID_BYTES, MoveMessage
from streamhop_protocol.observing import SessionObserver
from streamhop_protocol.signals import Data, Done, End, Hello, Open, Ping, Pong, Reset, Welcome

from .codecs import CODEC_NOTES, CodecChoices
from .sessions import (
    MILESTONES_MAX,
    STREAMS_MAX,
    Fault,
    Milestone,
    SessionSummary,
    StreamSummary,
)

SESSIONS_MAX = 256
NOTES_MAX = 2_000
NOTES_CHARACTERS_MAX = 4_000_000
DIGESTS_KEPT = 65_536
ATTRIBUTES_BYTES_MAX = 1024
_FREEZE = "freeze"


@dataclass(slots=True)
class Analysis:
    """Hand in every event of a recording, then call :meth:`finish`."""

    sessions: dict[int | None, SessionSummary] = field(default_factory=dict)
    sessions_left_out: int = 0
    notes: list[NoteSeen] = field(default_factory=list)
    notes_left_out: int = 0
    tls: bool = False
    last_ns: int = 0
    frozen: dict[str, int] = field(default_factory=dict)
    """When each move froze its container, as a daemon's trace says."""
    codecs: CodecChoices = field(default_factory=CodecChoices)
    """The same, of every chunk."""
    _streams: int = 0
    _notes_characters: int = 0
    _roster: Roster = field(default_factory=Roster)
    _observers: Recent[int, SessionObserver] = field(default_factory=lambda: Recent(SESSIONS_MAX))
    _digests: Recent[bytes, bool] = field(default_factory=lambda: Recent(DIGESTS_KEPT))

    def take(self, seen: Seen) -> None:
        """Count one event."""
        self.last_ns = max(self.last_ns, seen.at_ns)
        match seen:
            case FrameSeen():
                self._frame(seen)
            case BrokenSeen():
                self._session(seen.connection).fault(
                    Fault(seen.at_ns, seen.connection, seen.from_dialer, seen.code, seen.reason)
                )
            case ConnectionSeen():
                self.tls = self.tls or seen.tls
            case NoteSeen():
                self._note(seen)

    def finish(self) -> Analysis:
        """The end of the recording; what is missing is known now."""
        for session in self.sessions.values():
            for stream in session.streams.values():
                if stream.missing and stream.kind != "?":
                    reason = f"stream {stream.id}: {stream.missing} frames up to number {stream.seq_max} did not pass"
                    session.fault(Fault(stream.last_ns, 0, stream.from_dialer, "missing", reason))
        return self

    # -- frames ----------------------------------------------------------------------------------------------------

    def _session(self, connection: int) -> SessionSummary:
        number = self._roster.session(connection)
        found = self.sessions.get(number)
        if found is None:
            if number is not None and len(self.sessions) > SESSIONS_MAX:
                self.sessions_left_out += 1
                number = None  # counted among those that belong to none
            found = self.sessions.setdefault(number, SessionSummary(number))
        return found

    def _frame(self, seen: FrameSeen) -> None:
        self._roster.take(seen)
        session = self._session(seen.connection)
        session.connections.add(seen.connection)
        session.began_ns = seen.at_ns if session.began_ns is None else session.began_ns
        session.last_ns = seen.at_ns
        session.frames[seen.from_dialer] += 1
        session.wire_bytes[seen.from_dialer] += seen.prefix.wire_bytes
        session.types[seen.type_name] += 1
        if seen.error is not None:
            code, _, reason = seen.error[:500].partition(": ")
            session.fault(Fault(seen.at_ns, seen.connection, seen.from_dialer, code, reason))
        if seen.digest:
            self._digest(session, seen)
        if seen.received is not None:
            self._said(session, seen, seen.received)
        elif "move" in seen.said:
            self._milestone(session, seen)

    def _digest(self, session: SessionSummary, seen: FrameSeen) -> None:
        if self._digests.get(seen.digest):
            session.again_frames += 1
            session.again_bytes += seen.prefix.payload_bytes
        self._digests.put(seen.digest, True)

    def _said(self, session: SessionSummary, seen: FrameSeen, received: Received) -> None:
        body = received.body
        match body:
            case Ping() | Pong():
                return
            case Hello():
                session.dialer = body.name
            case Welcome():
                session.acceptor = body.name
                self._begin(seen, body)
            case MoveMessage():
                self._milestone(session, seen)
            case Open() | Data() | End() | Done() | Reset():
                self._stream(session, seen, body)
        session.spoke(seen.at_ns)
        self._hold_against_the_rules(session, seen, received)

    def _begin(self, seen: FrameSeen, welcome: Welcome) -> None:
        part = self._roster.session_part(seen.connection)
        if part is not None:
            self._observers.put(part.number, SessionObserver(part.hello, welcome))

    def _hold_against_the_rules(self, session: SessionSummary, seen: FrameSeen, received: Received) -> None:
        observer = self._observers.get(session.number) if session.number is not None else None
        if observer is None:
            return
        # What waits for its turn must not keep the reader's buffers alive.
        sized = replace(received, payload=blank(seen.prefix.payload_bytes))
        try:
            observer.receive(sized, from_dialer=seen.from_dialer)
        except ProtocolError as error:
            session.fault(Fault(seen.at_ns, seen.connection, seen.from_dialer, error.code, str(error)[:500]))

    def _milestone(self, session: SessionSummary, seen: FrameSeen) -> None:
        move = seen.field("move")
        if len(session.milestones) >= MILESTONES_MAX or not isinstance(move, bytes):
            return
        told = seen.field("code") or seen.field("state") or ""
        session.milestones.append(Milestone(seen.at_ns, seen.type_name, seen.from_dialer, move.hex(), str(told)))

    # -- streams ---------------------------------------------------------------------------------------------------

    def _stream(self, session: SessionSummary, seen: FrameSeen, body: Open | Data | End | Done | Reset) -> None:
        opened_by_dialer = seen.prefix.stream % 2 == 1
        number = seen.prefix.stream
        stream = session.streams.get(number)
        if stream is None:
            if self._streams >= STREAMS_MAX:
                session.streams_left_out += 1
                return
            self._streams += 1
            stream = session.streams[number] = StreamSummary(number, opened_by_dialer, began_ns=seen.at_ns)
        match body:
            case Done():
                stream.outcome = "done"
            case Reset():
                stream.outcome = f"reset, {body.code}"
            case _:
                self._carried(session, stream, seen, body)

    def _carried(
        self, session: SessionSummary, stream: StreamSummary, seen: FrameSeen, body: Open | Data | End
    ) -> None:
        stream.last_ns = seen.at_ns
        stream.frames += 1
        stream.wire_bytes += seen.prefix.wire_bytes
        stream.seqs += 1
        match body:
            case Open():
                stream.kind = body.kind
                if seen.prefix.header_bytes <= ATTRIBUTES_BYTES_MAX:
                    stream.attributes = body.attributes
            case End():
                stream.ended_ns = seen.at_ns
                stream.outcome = "ended" if stream.outcome == "open" else stream.outcome
                stream.seq_max = max(stream.seq_max, body.seq)
            case Data():
                stream.seq_max = max(stream.seq_max, body.seq)
                if body.codec is not None:
                    stream.codec = codec_name(body.codec)
                    stream.chunks += 1
                    stream.raw_bytes += body.raw_bytes or 0
        codec = stream.codec if isinstance(body, Data) else "none"
        stream.wire_by_codec[codec] += seen.prefix.wire_bytes
        session.bins.add(seen.at_ns, stream.kind, seen.prefix.wire_bytes)

    # -- a daemon's trace ------------------------------------------------------------------------------------------

    def _note(self, seen: NoteSeen) -> None:
        if seen.name in CODEC_NOTES:
            self.codecs.take(seen)
            return
        move = seen.data.get("move")
        froze = seen.name == "move:phase" and seen.data.get("phase") == _FREEZE
        if froze and isinstance(move, bytes) and len(self.frozen) < NOTES_MAX:
            self.frozen[move[:MOVE_ID_BYTES].hex()] = seen.at_ns
        self._notes_characters += len(str(seen.data))
        if len(self.notes) < NOTES_MAX and self._notes_characters <= NOTES_CHARACTERS_MAX:
            self.notes.append(seen)
        else:
            self.notes_left_out += 1


def analyse(events: Iterable[Seen]) -> Analysis:
    """All of a recording.

    :raises FlowError: it is damaged, see :func:`hopwire.recordings.open_recording`.
    """
    analysis = Analysis()
    for seen in events:
        analysis.take(seen)
    return analysis.finish()
