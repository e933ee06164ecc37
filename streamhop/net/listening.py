"""The acceptor's side: newcomers, the handshake, and the tasks that serve complete sessions."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from streamhop_protocol.connection import Connection, choose_version
from streamhop_protocol.errors import LimitError, ProtocolError, UnexpectedError
from streamhop_protocol.session import Session
from streamhop_protocol.signals import JOIN_TOKEN_BYTES, SESSION_ID_BYTES, Hello, Join, Joined, Welcome

from .accepting import Acceptor
from .admission import Admission, origin_of
from .channel import Channel
from .config import NetConfig
from .peer import PeerSession
from .security import ALPN_PAIRING, GuestHandler, KnownPeer, Security

log = logging.getLogger("streamhop.net")

GUEST_BUFFER_BYTES = 32 * 1024

NO_LONGER_PAIRED = "the two hosts are not paired any longer"
"""What the peer hears whose sessions are ended because of that."""

Handler = Callable[[PeerSession], Awaitable[None]]


@dataclass(slots=True)
class _Newcomer:
    """A connection that is not part of a complete session yet."""

    deadline: asyncio.TimerHandle
    socket: socket.socket | None
    """Belongs to this until ``connecting`` has begun."""
    connecting: asyncio.Task[None] | None = None
    """Makes the connection, with its TLS handshake; cancelled, it closes the socket."""


@dataclass(slots=True)
class _Joining:
    """A session that has its control connection and waits for the others."""

    hello: Hello
    token: bytes
    control: Channel
    payloads: list[Channel] = field(default_factory=list)


class Listener:
    """Accepts sessions while it is entered; made by :func:`serve`.

    It owns a task for each session. A handler's error ends that session only.
    """

    def __init__(self, config: NetConfig, name: str, on_session: Handler, security: Security | None = None) -> None:
        self._config = config
        self._security = security
        self._name = name
        self._on_session = on_session
        self._loop = asyncio.get_running_loop()
        self._acceptor = Acceptor(self._accepted)
        self._half_open: dict[Channel, _Newcomer] = {}
        places = config.half_open_max, config.half_open_per_origin_max
        self._strangers: Admission[Channel] = Admission(*places)
        """Of the half-open ones those that nobody knows yet, by their address."""
        self._acquainted: Admission[Channel] = Admission(*places)
        """The others, by the peer."""
        self._guests: Admission[asyncio.Task[None]] = Admission(config.guests_max, config.guests_per_origin_max)
        self._joining: dict[bytes, _Joining] = {}
        self._serving: dict[asyncio.Task[None], Hashable] = {}
        """Tasks that serve sessions, and the peer of each."""
        self._tasks: set[asyncio.Task[None]] = set()
        """All that this owns, those that serve sessions among them."""
        self._sessions: set[PeerSession] = set()

    async def bind(self, host: str, port: int) -> None:
        """Take the port; connections are accepted only once the listener is entered.

        :raises OSError: the address cannot be used.
        """
        await self._acceptor.bind(host, port)

    @property
    def port(self) -> int:
        """The port, also if 0 was asked for."""
        return self._acceptor.port

    async def __aenter__(self) -> Self:
        self._acceptor.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._acceptor.close()
        for channel in list(self._half_open):
            self._drop(channel)
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    # -- newcomers -------------------------------------------------------------------------------------------------

    def _accepted(self, sock: socket.socket) -> None:
        try:
            origin = origin_of(sock.getpeername()[0])
        except OSError:  # it is gone already
            sock.close()
            return
        channel = Channel(Connection.accepted(), self, self._config)
        # One deadline from here on, whatever the newcomer does: bytes that trickle in do not move it.
        deadline = self._loop.call_later(self._config.handshake_s_max, self._drop, channel)
        newcomer = self._half_open[channel] = _Newcomer(deadline, sock)
        newcomer.connecting = self._own(self._connect(channel, newcomer, sock))
        self._drop(self._strangers.admit(channel, origin))

    async def _connect(self, channel: Channel, newcomer: _Newcomer, sock: socket.socket) -> None:
        newcomer.socket = None
        context, seconds = None, None
        if self._security is not None:
            context, seconds = self._security.context, self._config.handshake_s_max
        # The time to say goodbye in is bounded by whoever closes the connection.
        goodbye_s = None if context is None else self._config.close_s_max
        try:
            await self._loop.connect_accepted_socket(
                lambda: channel, sock, ssl=context, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=goodbye_s
            )
        except OSError as error:  # ssl.SSLError is one
            log.debug("a newcomer did not get through its handshake: %s", error)
            self._drop(channel)
        finally:
            newcomer.connecting = None

    def _leave(self, channel: Channel) -> _Newcomer | None:
        """The channel is half-open no longer."""
        newcomer = self._half_open.pop(channel, None)
        if newcomer is not None:
            newcomer.deadline.cancel()
            self._strangers.remove(channel)
            self._acquainted.remove(channel)
        return newcomer

    def _drop(self, channel: Channel | None) -> None:
        """End a newcomer, and the session that it was to be part of."""
        newcomer = self._leave(channel) if channel is not None else None
        if channel is None or newcomer is None:
            return
        channel.abort()
        if newcomer.connecting is not None:
            newcomer.connecting.cancel()
        if newcomer.socket is not None:
            newcomer.socket.close()
        for identifier, joining in list(self._joining.items()):
            if channel is joining.control or channel in joining.payloads:
                del self._joining[identifier]
                for other in (joining.control, *joining.payloads):
                    self._drop(other)

    def on_made(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""
        if self._security is None:
            return
        certificate = channel.peer_certificate
        channel.peer = self._knows(channel)
        if channel.peer is not None:
            self._strangers.remove(channel)
            self._drop(self._acquainted.admit(channel, channel.peer.reference))
            return
        serve = self._security.guests() if self._security.guests is not None else None
        if certificate is None and serve is not None and channel.application_protocol == ALPN_PAIRING:
            self._leave(channel)
            origin = origin_of(channel.peer_address[0])
            channel.hand_over(self._guest(serve, origin))
            return
        log.info("a newcomer is refused: %s", "it is trusted no longer" if certificate else "it has no certificate")
        self._drop(channel)

    def _knows(self, channel: Channel) -> KnownPeer | None:
        """Whose certificate it is that the channel was shown, as far as it is trusted now."""
        certificate = channel.peer_certificate
        return self._security.who(certificate) if self._security is not None and certificate is not None else None

    def _guest(self, serve: GuestHandler, origin: Hashable) -> asyncio.Protocol:
        reader = asyncio.StreamReader(limit=GUEST_BUFFER_BYTES)

        def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._own(self._serve_guest(serve, reader, writer))
            task.add_done_callback(self._guests.remove)
            leaving = self._guests.admit(task, origin)
            if leaving is not None:
                leaving.cancel()

        return asyncio.StreamReaderProtocol(reader, met)

    async def _serve_guest(
        self, serve: GuestHandler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await serve(reader, writer)
            writer.close()
            async with asyncio.timeout(self._config.close_s_max):
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # it did not wait for the end, or does not want one
        finally:
            writer.transport.abort()

    def end_sessions_of(self, peer: str) -> None:
        """End every session with the peer that is called so."""
        for session in list(self._sessions):
            if session.peer_name == peer:
                session.fail(UnexpectedError(NO_LONGER_PAIRED))

    def on_received(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""
        if channel not in self._half_open:
            return
        try:
            while channel.inbox and channel.owner is self:
                body = channel.inbox.popleft().body
                if isinstance(body, Hello):
                    self._welcome(channel, body)
                elif isinstance(body, Join):
                    self._join(channel, body)
                else:
                    raise UnexpectedError(f"{type(body).__name__} before the session is complete")
        except ProtocolError as error:
            channel.connection.refuse(error)
        if channel.owner is self and channel.connection.error is not None:
            log.info("a newcomer is refused: %s", channel.connection.error)
            channel.flush()
            channel.close()

    def on_writable(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""

    def on_lost(self, channel: Channel, _error: Exception | None, /) -> None:
        """See :class:`.ChannelOwner`."""
        self._drop(channel)

    # -- the handshake ---------------------------------------------------------------------------------------------

    def _welcome(self, channel: Channel, hello: Hello) -> None:
        version = choose_version(hello)
        if len(self._serving) >= self._config.sessions_max:
            raise LimitError(f"{self._config.sessions_max} sessions are served already")
        peer, most = _whose(channel), self._config.sessions_per_peer_max
        with_peer = list(self._serving.values()) + [_whose(joining.control) for joining in self._joining.values()]
        if with_peer.count(peer) >= most:
            raise LimitError(f"{most} sessions with this peer are served already: let one of them end")
        identifier, token = secrets.token_bytes(SESSION_ID_BYTES), secrets.token_bytes(JOIN_TOKEN_BYTES)
        self._joining[identifier] = _Joining(hello, token, channel)
        channel.connection.accept(
            Welcome(
                name=self._name,
                version=version,
                session=identifier,
                token=token,
                streams_max=self._config.streams_max,
            )
        )
        channel.flush()

    def _join(self, channel: Channel, join: Join) -> None:
        joining = self._joining.get(join.session)
        known = joining is not None and joining.control.peer == channel.peer
        if joining is None or not known or not hmac.compare_digest(joining.token, join.token):
            raise UnexpectedError("no session of that ID and token waits for connections")
        joining.payloads.append(channel)
        channel.connection.accept(Joined())
        channel.flush()
        if len(joining.payloads) == joining.hello.connections:
            del self._joining[join.session]
            self._complete(joining)

    def _complete(self, joining: _Joining) -> None:
        channels = (joining.control, *joining.payloads)
        for channel in channels:
            self._leave(channel)
        known = joining.control.peer or KnownPeer(joining.hello.name, joining.hello.name)
        if self._security is not None and any(self._knows(channel) != known for channel in channels):
            log.info("a newcomer is refused: it is trusted no longer")
            for channel in channels:
                channel.abort()
            return
        session = Session(
            dialer=False, streams_max_in=self._config.streams_max, streams_max_out=joining.hello.streams_max
        )
        try:
            peer = PeerSession(self._config, session, (joining.control, joining.payloads), known, None)
        except OSError as error:
            log.info("a newcomer was gone as soon as it was there: %s", error)
            for channel in channels:
                channel.abort()
            return
        task = self._own(self._serve(peer))
        self._serving[task] = _whose(joining.control)
        task.add_done_callback(self._serving.pop)
        self._sessions.add(peer)
        task.add_done_callback(lambda _: self._sessions.discard(peer))

    async def _serve(self, peer: PeerSession) -> None:
        log.info("session with %s (%s:%d)", peer.peer_name, *peer.peer_address)
        async with peer:
            await self._on_session(peer)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, ProtocolError):
            log.warning("a session was ended: %s", error)
        elif error is not None:
            log.error("a session's handler failed", exc_info=error)


def _whose(channel: Channel) -> Hashable:
    """What sessions are counted by: the peer, or its address where nobody has proven who it is."""
    return channel.peer.reference if channel.peer is not None else origin_of(channel.peer_address[0])


async def serve(
    host: str, port: int, config: NetConfig, *, name: str, on_session: Handler, security: Security | None = None
) -> Listener:
    """Take a port for sessions. Enter what this returns to accept them; leaving it ends all.

    :param name: how this side calls itself, at most 255 bytes.
    :param on_session: runs in a task of its own for each session, which is closed when it returns or raises.
    :param security: None for sessions in the clear.
    :raises OSError: the address cannot be used.
    """
    listener = Listener(config, name, on_session, security)
    await listener.bind(host, port)
    return listener
