"""Which connection belongs to which session, and what each stream carries. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamhop_protocol.signals import Hello, Join, Open, Welcome

from .events import FrameSeen

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CONNECTIONS_KEPT_MAX = 4096
STREAMS_KEPT_MAX = 65_536


class Recent(Generic[K, V]):
    """A map of bounded size: a recording may tell of more than memory holds. What is oldest is forgotten."""

    def __init__(self, entries_max: int) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._entries_max = entries_max

    def get(self, key: K) -> V | None:
        """The value; None if there is none, or none any more."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value, as the newest."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


@dataclass(slots=True)
class SessionPart:
    """A session as far as it is known from its control connection."""

    number: int
    hello: Hello
    welcome: Welcome | None = None


@dataclass(frozen=True, slots=True)
class StreamPart:
    """What a stream carries, as its OPEN says."""

    kind: str


class Roster:
    """Take each event before it is shown; then ask whose it is."""

    def __init__(self) -> None:
        self._by_connection: Recent[int, SessionPart] = Recent(CONNECTIONS_KEPT_MAX)
        self._by_id: Recent[bytes, SessionPart] = Recent(CONNECTIONS_KEPT_MAX)
        self._streams: Recent[tuple[int | None, int], StreamPart] = Recent(STREAMS_KEPT_MAX)
        self._controls: Recent[int, bool] = Recent(CONNECTIONS_KEPT_MAX)
        self._sessions = 0

    def take(self, seen: FrameSeen) -> None:
        """Learn from a frame."""
        if seen.received is None:
            return
        match seen.received.body:
            case Hello() as hello:
                self._sessions += 1
                self._by_connection.put(seen.connection, SessionPart(self._sessions, hello))
                self._controls.put(seen.connection, True)
            case Welcome() as welcome:
                session = self._by_connection.get(seen.connection)
                if session is not None:
                    session.welcome = welcome
                    self._by_id.put(welcome.session, session)
            case Join(session=identifier):
                session = self._by_id.get(identifier)
                if session is not None:
                    self._by_connection.put(seen.connection, session)
            case Open() as opening:
                key = self.session(seen.connection), seen.prefix.stream
                self._streams.put(key, StreamPart(opening.kind))

    def session_part(self, connection: int) -> SessionPart | None:
        """The session of a connection, with what its handshake said."""
        return self._by_connection.get(connection)

    def session(self, connection: int) -> int | None:
        """The number of a connection's session, counted from 1."""
        part = self._by_connection.get(connection)
        return None if part is None else part.number

    def is_control(self, connection: int) -> bool:
        """Whether it is the control connection of a session."""
        return self._controls.get(connection) is not None

    def stream(self, seen: FrameSeen) -> StreamPart | None:
        """What the stream of a frame carries; None if it has none, or its OPEN has not come."""
        if not seen.prefix.stream:
            return None
        return self._streams.get((self.session(seen.connection), seen.prefix.stream))
