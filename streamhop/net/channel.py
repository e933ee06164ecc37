"""One TCP connection as the event loop sees it; what its bytes mean is for :class:`.Connection`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol, cast

from streamhop_protocol.connection import Connection, Phase, Received

from .config import NetConfig
from .security import KnownPeer
from .sockets import SocketLike, tune
from .tracing import ConnectionTrace
from .waking import Waker

CONTROL_BUFFER_BYTES = 256 * 1024
"""Bytes that may wait for a control connection's kernel buffer before senders are told to wait."""


class ChannelOwner(Protocol):
    """Who is told what happens on a channel. None of these may raise."""

    def on_made(self, channel: Channel) -> None:
        """The connection is there, its TLS handshake over; nothing of the peer's has been looked at."""

    def on_received(self, channel: Channel) -> None:
        """Something is in :attr:`Channel.inbox`, or the connection has an error."""

    def on_writable(self, channel: Channel) -> None:
        """There is room again."""

    def on_lost(self, channel: Channel, error: Exception | None, /) -> None:
        """The connection is gone; called once."""


class Channel(asyncio.BufferedProtocol):
    """One connection. Its owner changes when the handshake is over."""

    def __init__(self, connection: Connection, owner: ChannelOwner, config: NetConfig) -> None:
        self.connection = connection
        self.owner = owner
        self.inbox: deque[Received] = deque()
        self.writable = True
        self.lost = False
        self.lost_by: Exception | None = None
        """What the event loop says about how it was lost."""
        self._aborted = False
        # not the event loop's clock: uvloop's has a resolution of a millisecond
        self.made_at = 0.0
        self.heard_at = 0.0
        self.wrote_at = 0.0
        self.wire_bytes_sent = 0
        self.peer: KnownPeer | None = None
        """Whose certificate it is; None without TLS."""
        self.changed = Waker()
        self._config = config
        self._trace = None if config.trace is None else config.trace.connection()
        self._transport: asyncio.Transport | None = None

    # -- called by the event loop ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(CONTROL_BUFFER_BYTES)
        self.made_at = self.heard_at = time.monotonic()
        if self._aborted:
            self._transport.abort()
            return
        try:
            tune(self.socket, self._config.silence_s_max)
        except OSError:  # the peer is gone already
            self._transport.abort()
            return
        if self._trace is not None:
            self._begin_trace(self._trace)
        self.owner.on_made(self)
        if not self._aborted:
            self.flush()

    def _begin_trace(self, trace: ConnectionTrace) -> None:
        here, tls = self._extra("sockname"), self.application_protocol is not None
        dialer = self.connection.phase is not Phase.AWAIT_FIRST
        trace.made(dialer=dialer, here=(str(here[0]), int(here[1])), peer=self.peer_address, tls=tls)
        self.connection.watch(trace.received)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's name
        return self.connection.room()

    def buffer_updated(self, nbytes: int) -> None:
        if self._aborted:
            return
        self.heard_at = time.monotonic()
        self.connection.received(nbytes)
        self._tell_owner()

    def eof_received(self) -> bool:
        self.connection.receive_eof()
        return False  # closes the connection, so that connection_lost follows

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.changed.wake()
        self.owner.on_writable(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.lost_by = exc
        self.writable = False
        self.changed.wake()
        if self._trace is not None:
            self._trace.lost(str(exc or "closed"))
        self.owner.on_lost(self, exc)

    def _tell_owner(self) -> None:
        self.inbox.extend(self.connection.events())
        if self._trace is not None and self.connection.error is not None:
            self._trace.broken(self.connection.error)
        if self.inbox or self.connection.error is not None:
            self.changed.wake()
            self.owner.on_received(self)

    # -- called by the owner ---------------------------------------------------------------------------------------

    @property
    def socket(self) -> SocketLike:
        """The connection's socket, for options only."""
        return cast("SocketLike", self._extra("socket"))

    @property
    def peer_address(self) -> tuple[str, int]:
        """Host and port of the other end."""
        host, port = self._extra("peername")[:2]
        return str(host), int(port)

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the peer has proven to own, DER; None if it showed none, or TLS is not used."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return cast("bytes | None", tls.getpeercert(binary_form=True)) if tls is not None else None

    @property
    def application_protocol(self) -> str | None:
        """What both sides agreed to speak over TLS, RFC 7301; None without TLS."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return cast("str | None", tls.selected_alpn_protocol()) if tls is not None else None

    def hand_over(self, protocol: asyncio.BaseProtocol) -> None:
        """Let ``protocol`` have the connection; this channel is over."""
        transport, self._transport = self._transport, None
        self._aborted = True
        if self._trace is not None:
            self._trace.lost("it is a guest's")
        if transport is not None:
            transport.set_protocol(protocol)
            protocol.connection_made(transport)

    def _extra(self, name: str) -> Any:
        if self._transport is None:
            raise ConnectionResetError("the connection is not made yet")
        value = self._transport.get_extra_info(name)
        if value is None:
            raise ConnectionResetError("the connection is gone")
        return value

    def carry_payload(self) -> None:
        """Keep nothing in user space: what has not gone to the kernel yet can still be overtaken."""
        if self._transport is not None:
            # Not 0: a TLS transport takes that for "always full".
            self._transport.set_write_buffer_limits(high=1, low=0)

    def write(self, buffers: Iterable[bytes | memoryview]) -> None:
        """Send ``buffers``; they must not change. Without effect once the connection is closing."""
        if self._transport is None or self._transport.is_closing():
            return
        kept = [buffer for buffer in buffers if buffer]
        self.wire_bytes_sent += sum(map(len, kept))
        self.wrote_at = time.monotonic()
        if self._trace is not None:
            self._trace.sent(kept)
        self._transport.writelines(kept)

    def flush(self) -> None:
        """Send what the connection itself has to say: preamble, handshake, ERROR."""
        data = self.connection.data_to_send()
        if data:
            self.write((data,))

    def close(self) -> None:
        """Close once everything written has gone."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now, or as soon as the event loop has made the connection."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()
