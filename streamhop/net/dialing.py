"""The dialer's side of the handshake."""

from __future__ import annotations

import asyncio

from streamhop_protocol.connection import VERSION_MAX, VERSION_MIN, Connection
from streamhop_protocol.errors import CODES, ProtocolError, UnexpectedError
from streamhop_protocol.limits import CONNECTIONS_MAX
from streamhop_protocol.session import Session
from streamhop_protocol.signals import Error, Hello, Join, Joined, Signal, Welcome

from .channel import Channel
from .config import NetConfig
from .errors import SessionLost
from .peer import PeerSession


class _Dialing:
    """Owns the channels until the session does; whoever waits for an answer waits on the channel itself."""

    def on_received(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""

    def on_writable(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""

    def on_lost(self, channel: Channel, error: Exception | None, /) -> None:
        """See :class:`.ChannelOwner`."""


async def _connect(address: tuple[str, int], first: Hello | Join, config: NetConfig, opened: list[Channel]) -> Channel:
    connection = Connection.dial_control(first) if isinstance(first, Hello) else Connection.dial_payload(first)
    channel = Channel(connection, _Dialing(), config)
    opened.append(channel)
    await asyncio.get_running_loop().create_connection(lambda: channel, *address)
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


async def _handshake(address: tuple[str, int], config: NetConfig, name: str, opened: list[Channel]) -> PeerSession:
    hello = Hello(
        name=name,
        version_min=VERSION_MIN,
        version_max=VERSION_MAX,
        connections=config.connections,
        streams_max=config.streams_max,
    )
    control = await _connect(address, hello, config, opened)
    welcome = await _answer(control)
    if not isinstance(welcome, Welcome):
        raise UnexpectedError("JOINED instead of WELCOME")
    rtt_s = control.heard_at - control.made_at
    join = Join(session=welcome.session, token=welcome.token)
    payloads = [await _connect(control.peer_address, join, config, opened) for _ in range(config.connections)]
    for channel in payloads:
        await _answer(channel)
    session = Session(dialer=True, streams_max_in=config.streams_max, streams_max_out=welcome.streams_max)
    return PeerSession(config, session, (control, payloads), welcome.name, rtt_s)


async def dial(host: str, port: int, config: NetConfig, *, name: str) -> PeerSession:
    """Connect to a peer's listener. Use the session as an async context manager, or close it.

    :param name: how this side calls itself, at most 255 bytes.
    :raises OSError: nobody listens there, or the name of the host is not known.
    :raises SessionLost: no answer in time, or the peer closed the connection.
    :raises ProtocolError: the peer is no streamhop, or refuses.
    """
    if not 1 <= config.connections < CONNECTIONS_MAX:
        raise ValueError(f"connections = {config.connections} is not between 1 and {CONNECTIONS_MAX - 1}")
    opened: list[Channel] = []
    complete = False
    try:
        async with asyncio.timeout(config.handshake_s_max):
            session = await _handshake((host, port), config, name, opened)
        complete = True
    except TimeoutError:
        raise SessionLost(f"no answer from {host}:{port} within {config.handshake_s_max:g} s") from None
    finally:
        if not complete:
            for channel in opened:
                channel.abort()
    return session
