"""The dialer's side of the handshake."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

from streamhop_protocol.connection import VERSION_MAX, VERSION_MIN, Connection
from streamhop_protocol.errors import CODES, ProtocolError, TruncatedError, UnexpectedError
from streamhop_protocol.limits import CONNECTIONS_MAX
from streamhop_protocol.session import Session
from streamhop_protocol.signals import Error, Hello, Join, Joined, Signal, Welcome

from .channel import Channel
from .config import NetConfig
from .errors import ClosedUnansweredError, SessionLost, UntrustedError
from .peer import PeerSession
from .security import SERVER_NAME, KnownPeer, Security

_CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Errors of TLS by which nobody says anything: the connection ended."""


class _Dialing:
    """Owns the channels until the session does; whoever waits for an answer waits on the channel itself."""

    def __init__(self, security: Security | None) -> None:
        self._security = security

    def on_made(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""
        if self._security is not None:
            certificate = channel.peer_certificate
            channel.peer = self._security.who(certificate) if certificate is not None else None
            if channel.peer is None:
                channel.abort()

    def on_received(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""

    def on_writable(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""

    def on_lost(self, channel: Channel, error: Exception | None, /) -> None:
        """See :class:`.ChannelOwner`."""


@dataclass(slots=True)
class _Dialer:
    """Opens the connections of one session."""

    config: NetConfig
    security: Security | None
    opened: list[Channel] = field(default_factory=list)
    answered: bool = False

    @property
    def alerted(self) -> bool:
        """Whether the peer said in TLS why it ends a connection."""
        reasons = [channel.lost_by for channel in self.opened]
        return any(isinstance(reason, ssl.SSLError) and not isinstance(reason, _CLOSED) for reason in reasons)

    async def connect(self, address: tuple[str, int], first: Hello | Join) -> Channel:
        connection = Connection.dial_control(first) if isinstance(first, Hello) else Connection.dial_payload(first)
        channel = Channel(connection, _Dialing(self.security), self.config)
        self.opened.append(channel)
        loop = asyncio.get_running_loop()
        if self.security is None:
            await loop.create_connection(lambda: channel, *address)
        else:
            await loop.create_connection(
                lambda: channel, *address, ssl=self.security.context, server_hostname=SERVER_NAME
            )
        return channel


async def _answer(channel: Channel) -> Signal:
    """The acceptor's first frame."""
    while not channel.inbox:
        if channel.connection.error is not None:
            raise channel.connection.error
        if channel.lost:
            raise SessionLost("the peer closed the connection in the handshake")
        await channel.changed.wait()
    body = channel.inbox.popleft().body
    if isinstance(body, Error):
        kind = CODES.get(body.code, ProtocolError)
        raise kind(f"the peer refuses the session ({body.code}): {body.reason}")
    if not isinstance(body, Welcome | Joined):
        raise UnexpectedError(f"{type(body).__name__} in the handshake")
    return body


async def _handshake(dialer: _Dialer, address: tuple[str, int], name: str) -> PeerSession:
    config = dialer.config
    hello = Hello(
        name=name,
        version_min=VERSION_MIN,
        version_max=VERSION_MAX,
        connections=config.connections,
        streams_max=config.streams_max,
    )
    control = await dialer.connect(address, hello)
    welcome = await _answer(control)
    dialer.answered = True
    if not isinstance(welcome, Welcome):
        raise UnexpectedError("JOINED instead of WELCOME")
    rtt_s = control.heard_at - control.made_at
    join = Join(session=welcome.session, token=welcome.token)
    payloads = await _payloads(dialer, control.peer_address, join)
    session = Session(dialer=True, streams_max_in=config.streams_max, streams_max_out=welcome.streams_max)
    peer = control.peer or KnownPeer(welcome.name, welcome.name)
    return PeerSession(config, session, (control, payloads), peer, rtt_s)


async def _payloads(dialer: _Dialer, address: tuple[str, int], join: Join) -> list[Channel]:
    """The payload connections, made at the same time: one after the other each would cost round trips of its own.

    :raises: what the first of them failed with; the others are given up then.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            joining = [tasks.create_task(_joined(dialer, address, join)) for _ in range(dialer.config.connections)]
    except BaseExceptionGroup as failures:
        # A connection that was closed together with the session says less than the one that says why.
        raise min(failures.exceptions, key=lambda failure: isinstance(failure, SessionLost)) from None
    return [task.result() for task in joining]


async def _joined(dialer: _Dialer, address: tuple[str, int], join: Join) -> Channel:
    channel = await dialer.connect(address, join)
    await _answer(channel)
    return channel


async def dial(host: str, port: int, config: NetConfig, *, name: str, security: Security | None = None) -> PeerSession:
    """Connect to a peer's listener. Use the session as an async context manager, or close it.

    :param name: how this side calls itself, at most 255 bytes.
    :param security: None for a session in the clear.
    :raises OSError: nobody listens there, or the name of the host is not known.
    :raises UntrustedError: it is another device than the one asked for, or does not know this one; if all that is known
        is that it closed the connection, :class:`ClosedUnansweredError`.
    :raises SessionLost: no answer in time, or the peer closed the connection.
    :raises ProtocolError: the peer is no streamhop, or refuses.
    """
    if not 1 <= config.connections < CONNECTIONS_MAX:
        raise ValueError(f"connections = {config.connections} is not between 1 and {CONNECTIONS_MAX - 1}")
    dialer = _Dialer(config, security)
    complete = False
    try:
        async with asyncio.timeout(config.dial_s_max):
            session = await _handshake(dialer, (host, port), name)
        complete = True
    except ssl.SSLError as error:
        if isinstance(error, _CLOSED):
            raise ClosedUnansweredError(f"{host}:{port} closed the connection in the TLS handshake") from error
        raise UntrustedError(f"{host}:{port} is not the device that it should be: {error.reason}") from error
    except (TruncatedError, SessionLost, ConnectionResetError) as error:
        if security is None or dialer.answered:
            raise
        # A listener refuses a certificate only after the dialer's side of the handshake is over: RFC 8446, 2.
        told = f"{host}:{port} closed the connection: it may not be paired with this host"
        raise (UntrustedError if dialer.alerted else ClosedUnansweredError)(told) from error
    except TimeoutError:
        raise SessionLost(f"no answer from {host}:{port} within {config.dial_s_max:g} s") from None
    finally:
        if not complete:
            for channel in dialer.opened:
                channel.abort()
    return session
