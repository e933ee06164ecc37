"""What the tests of sessions share: two peers on loopback, and a peer that speaks raw frames."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from streamhop.net import NetConfig, PeerSession, Security, SessionLost, dial, serve
from streamhop_protocol.connection import Received, decode_frame, encode_body
from streamhop_protocol.frames import PREAMBLE, FrameReader
from streamhop_protocol.messages import Message
from streamhop_protocol.signals import Hello, Join, Joined, Signal, Welcome

CONFIG = NetConfig(handshake_s_max=5.0)
DEADLINE_S = 20.0
"""Longest that anything may take before a test fails rather than hangs."""


@dataclass
class Acceptors:
    """A handler that hands each session to the test and keeps it until the session is over."""

    sessions: asyncio.Queue[PeerSession] = field(default_factory=asyncio.Queue)

    async def __call__(self, session: PeerSession) -> None:
        self.sessions.put_nowait(session)
        await session.wait_closed()


@contextlib.asynccontextmanager
async def two_peers(
    config: NetConfig = CONFIG, *, security: tuple[Security | None, Security | None] = (None, None), **changes: object
) -> AsyncIterator[tuple[PeerSession, PeerSession]]:
    """The dialer's and the acceptor's end of one session; ``security`` is theirs, in this order."""
    config = replace(config, **changes)  # type: ignore[arg-type]  # each test names fields that exist
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="edge-b", on_session=accepted, security=security[1]) as listener,
        await dial("127.0.0.1", listener.port, config, name="edge-a", security=security[0]) as dialer,
    ):
        yield dialer, await accepted.sessions.get()


async def until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event that a test could see
            await asyncio.sleep(0.005)


class RawPeer:
    """One connection of a peer that sends whatever a test likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._frames.trusted = True

    @classmethod
    async def connect(cls, port: int) -> RawPeer:
        """Connect and send the preamble."""
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        peer.write(PREAMBLE)
        return peer

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    def send(self, body: Signal | Message, stream: int = 0) -> None:
        """Send a frame."""
        self.write(encode_body(body, stream=stream))

    async def next(self) -> Received:
        """The next frame from the other end.

        :raises EOFError: it closed.
        """
        while (frame := self._frames.next_frame()) is None:
            try:
                data = await self._reader.read(65536)
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError
            self._frames.feed(data)
        return decode_frame(frame)

    async def next_of(self, kind: type[Signal]) -> Received:
        """The next frame of one kind; others are passed over."""
        while True:
            received = await self.next()
            if isinstance(received.body, kind):
                return received

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def raw_session(
    config: NetConfig = CONFIG, connections: int = 1
) -> AsyncIterator[tuple[RawPeer, list[RawPeer], PeerSession]]:
    """A raw dialer's control and payload connections, and the session at the acceptor."""
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="edge-b", on_session=accepted) as listener,
    ):
        control = await RawPeer.connect(listener.port)
        control.send(Hello("raw", 1, 1, connections, 8))
        welcome = (await control.next()).body
        assert isinstance(welcome, Welcome)
        payloads = []
        for _ in range(connections):
            payload = await RawPeer.connect(listener.port)
            payload.send(Join(welcome.session, welcome.token))
            assert isinstance((await payload.next()).body, Joined)
            payloads.append(payload)
        yield control, payloads, await accepted.sessions.get()
        for peer in (control, *payloads):
            await peer.close()


__all__ = ["CONFIG", "DEADLINE_S", "Acceptors", "RawPeer", "SessionLost", "raw_session", "two_peers", "until"]
