"""Both directions of a connection, and of a session, as somebody sees them who only watches.

What passes by is decoded by the same code that decodes it at the ends: an observer has an end of its own for each
direction. It must see what the ends see in an order in which it could have happened: no answer before its question.
"""

from __future__ import annotations

from dataclasses import dataclass

from .connection import Connection, Phase, Received
from .errors import FlowError, ProtocolError, UnexpectedError
from .frames import PREAMBLE, Frame, is_known
from .inflow import ReceiveSide, StreamEvent
from .messages import Message
from .signals import Credit, Data, Done, End, Hello, Join, Joined, Open, Reset, Welcome
from .windows import ReceiveWindow


@dataclass(frozen=True, slots=True)
class Passed:
    """One whole frame that passed by.

    :param received: what it says; None for one that its receiver skips, or that breaks the protocol.
    """

    from_dialer: bool
    frame: Frame
    received: Received | None


@dataclass(frozen=True, slots=True)
class Broken:
    """A direction broke the protocol: whatever comes later in it cannot be read."""

    from_dialer: bool
    error: ProtocolError


class ConnectionObserver:
    """Watches one connection, from its first byte on."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._at_acceptor = Connection.accepted()
        self._at_acceptor.watch(self._frames.append)
        self._at_dialer: Connection | None = None
        """There once the dialer has said what the connection is for."""
        self._early = b""
        """What the acceptor has sent before that."""
        self._broken: set[bool] = set()

    @property
    def phase(self) -> Phase:
        """How far the handshake has come, as the acceptor sees it."""
        return self._at_acceptor.phase

    def feed(self, data: bytes | bytearray | memoryview, *, from_dialer: bool) -> list[Passed | Broken]:
        """Take bytes of one direction; returns the frames that are whole now. Never raises what the ends can cause."""
        if from_dialer:
            found = self._take(self._at_acceptor, data, from_dialer=True)
            return found + self._introduce(found)
        if self._at_dialer is not None:
            return self._take(self._at_dialer, data, from_dialer=False)
        if False in self._broken:
            return []
        self._early += bytes(data[: len(PREAMBLE) + 1])
        if len(self._early) > len(PREAMBLE):
            return self._break(UnexpectedError("the acceptor spoke before it was asked"), from_dialer=False)
        return []

    def end(self, *, from_dialer: bool) -> list[Passed | Broken]:
        """A direction has ended; returns an error if that was in the middle of something."""
        connection = self._at_acceptor if from_dialer else self._at_dialer
        if connection is None or connection.closed:
            return []
        connection.receive_eof()
        return [] if connection.error is None else self._break(connection.error, from_dialer=from_dialer)

    def _take(
        self, connection: Connection, data: bytes | bytearray | memoryview, *, from_dialer: bool
    ) -> list[Passed | Broken]:
        connection.receive_data(data)
        decoded = iter(connection.events())
        found: list[Passed | Broken] = [
            Passed(from_dialer, frame, next(decoded, None) if is_known(frame.type) else None) for frame in self._frames
        ]
        self._frames.clear()
        for passed in found:
            if isinstance(passed, Passed) and passed.received is not None:
                self._answered(passed.received)
        if connection.error is not None:
            found += self._break(connection.error, from_dialer=from_dialer)
        connection.data_to_send()  # nobody reads what this end would say
        return found

    def _answered(self, received: Received) -> None:
        """What the acceptor says decides what it may hear from then on."""
        body = received.body
        if isinstance(body, Welcome | Joined) and self._at_acceptor.phase is Phase.DECIDE:
            self._at_acceptor.accept(body)
            self._at_acceptor.data_to_send()

    def _introduce(self, found: list[Passed | Broken]) -> list[Passed | Broken]:
        if self._at_dialer is not None or not found:
            return []
        first = found[0].received if isinstance(found[0], Passed) else None
        match first.body if first is not None else None:
            case Hello() as hello:
                self._at_dialer = Connection.dial_control(hello)
            case Join() as join:
                self._at_dialer = Connection.dial_payload(join)
            case _:
                return []
        self._at_dialer.watch(self._frames.append)
        early, self._early = self._early, b""
        return self._take(self._at_dialer, early, from_dialer=False)

    def _break(self, error: ProtocolError, *, from_dialer: bool) -> list[Passed | Broken]:
        if from_dialer in self._broken:
            return []
        self._broken.add(from_dialer)
        return [Broken(from_dialer, error)]


def _window() -> ReceiveWindow:
    """Of a stream whose receiver says itself when it returns credit."""
    return ReceiveWindow(grant_bytes_min=1)


class SessionObserver:
    """Holds the frames of all connections of one session against the rules for streams.

    :param hello: of the dialer; says how many streams the acceptor may have open.
    :param welcome: of the acceptor; says how many the dialer may.
    """

    def __init__(self, hello: Hello, welcome: Welcome) -> None:
        self._from_dialer = ReceiveSide(1, welcome.streams_max, _window)
        self._from_acceptor = ReceiveSide(2, hello.streams_max, _window)

    def receive(self, received: Received, *, from_dialer: bool) -> list[StreamEvent]:
        """Take a frame; returns what it completes. Only the lengths of payloads are looked at.

        After an error the next frame can be taken: what is told then may follow from the first error.

        :raises ProtocolError: the sender of this frame broke the protocol.
        """
        theirs, others = self._from_dialer, self._from_acceptor
        if not from_dialer:
            theirs, others = others, theirs
        match received.body:
            case Data() | Open() | End():
                return theirs.receive(received)
            case Credit(size_bytes=size_bytes):
                self._credit(others, received.stream, size_bytes)
            case Done():
                # The peer's RESET may have crossed it.
                if not others.was_reset(received.stream):
                    others.done(received.stream)
            case Reset() if (received.stream % 2 == 1) == from_dialer:
                theirs.on_reset(received.stream)
            case Reset():
                others.reset(received.stream)
            case Message() | _:
                pass
        return []

    @staticmethod
    def _credit(side: ReceiveSide, stream: int, size_bytes: int) -> None:
        try:
            side.consumed(stream, size_bytes)
        except FlowError:
            raise FlowError(f"credit of {size_bytes} bytes for stream {stream}, more than has come of it") from None
