"""Relays of published ports: what comes to a port of this host goes on to the same port of another, and back.

Bounded in connections, in flows of datagrams, and in memory: a reader that is slow slows its sender down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("streamhop.net")

CONNECTIONS_MAX = 1024
"""Of one port at a time; what comes beyond is reset."""

FLOWS_MAX = 1024
FLOW_IDLE_S = 60.0
"""A flow of datagrams ends when nothing has passed for so long, as in most translations of addresses (RFC 4787)."""

CONNECT_S_MAX = 10.0
_CHUNK_BYTES = 64 * 1024
_WAITING_MAX = 16
"""Datagrams of a flow kept until its way on is there."""


class LoopError(OSError):
    """The way on leads back to the port itself."""


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: ``address`` is empty for all addresses of the host; ``protocol`` is ``tcp`` or ``udp``."""

    address: str
    port: int
    protocol: str

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host or '*'}:{self.port}/{self.protocol}"


class Relay:
    """Relays one port while it is open. Use :meth:`open` once, then :meth:`close`.

    :param hosts: where to, the likeliest first.
    :param port_there: the port there.
    """

    def __init__(self, port: Port, hosts: Sequence[str], port_there: int | None = None) -> None:
        self.port = port
        self._hosts = tuple(hosts)
        self._port_there = port_there or port.port

    async def open(self) -> None:
        """Take the port.

        :raises OSError: it is taken, or the address is none of this host's.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Leave the port; every connection ends. Safe to repeat."""
        raise NotImplementedError

    @property
    def active(self) -> int:
        """Connections or flows there are now."""
        raise NotImplementedError

    async def _ways(self, kind: socket.SocketKind) -> AsyncIterator[str]:
        """The addresses to go on to, the likeliest first.

        Looked at before anything is sent: a relay that called itself would go on with that for ever.

        :raises LoopError: one is this very port.
        :raises OSError: a name means nothing.
        """
        loop = asyncio.get_running_loop()
        for host in self._hosts:
            for family, _, _, _, place in await loop.getaddrinfo(host, self._port_there, type=kind):
                if self._port_there == self.port.port and _is_own(family, place):
                    raise LoopError(f"{place[0]} is this very host")
                yield str(place[0])


def _is_own(family: int, place: Any) -> bool:
    """Whether an address is one of this host's: then it is also what the kernel would send from. Sends nothing."""
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(place)
        except OSError:
            return False
        return bool(trial.getsockname()[0] == place[0])


class TcpRelay(Relay):
    """Connections of TCP; an end of one half is passed on as such."""

    def __init__(
        self, port: Port, hosts: Sequence[str], port_there: int | None = None, connections_max: int = CONNECTIONS_MAX
    ) -> None:
        super().__init__(port, hosts, port_there)
        self._connections_max = connections_max
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()

    @property
    def active(self) -> int:
        return len(self._connections)

    async def open(self) -> None:
        self._server = await asyncio.start_server(
            self._connected, self.port.address or None, self.port.port, limit=_CHUNK_BYTES
        )

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= self._connections_max or self._server is None:
            _reset(writer)
            return
        self._connections.add(task)
        try:
            await self._relay(reader, writer)
        except (OSError, TimeoutError, ExceptionGroup) as error:
            log.info("a connection to %s ended: %s", self.port, error)
            _reset(writer)
        except asyncio.CancelledError:
            # Of :meth:`close`. Nobody but the stream's own callback waits for this task.
            _reset(writer)
        finally:
            self._connections.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await self._dial()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, there_writer))
                group.create_task(_pump(there_reader, writer))
        except BaseException:
            _reset(there_writer)
            raise
        for each in (there_writer, writer):
            each.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        failure: OSError | None = None
        async for host in self._ways(socket.SOCK_STREAM):
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    return await asyncio.open_connection(host, self._port_there, limit=_CHUNK_BYTES)
            except OSError as error:  # TimeoutError is one
                failure = error
        raise failure or OSError("nowhere to go")


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset: what was cut short must not look like what is whole."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


class _Flow(asyncio.DatagramProtocol):
    """Datagrams of one client on their way on, and the answers on their way back."""

    def __init__(self, front: UdpRelay, client: Any) -> None:
        self._front = front
        self._client = client
        self._waiting: deque[bytes] = deque(maxlen=_WAITING_MAX)
        self._transport: asyncio.DatagramTransport | None = None
        self.used_at = 0.0

    def send(self, data: bytes, now: float) -> None:
        self.used_at = now
        if self._transport is None:
            self._waiting.append(data)
        else:
            self._transport.sendto(data)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # of datagrams
        self._transport = transport
        while self._waiting:
            transport.sendto(self._waiting.popleft())

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ARG002 - asyncio's signature
        self.used_at = asyncio.get_running_loop().time()
        self._front.answer(data, self._client)

    def error_received(self, exc: Exception) -> None:
        """An ICMP message, such as that nobody listens there: for UDP that is no end."""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class UdpRelay(Relay):
    """Datagrams of UDP; each client has a flow of its own, so that answers find back."""

    def __init__(
        self, port: Port, hosts: Sequence[str], port_there: int | None = None, flows_max: int = FLOWS_MAX
    ) -> None:
        super().__init__(port, hosts, port_there)
        self._flows_max = flows_max
        self._flows: dict[Any, _Flow] = {}
        self._fronts: dict[bool, asyncio.DatagramTransport] = {}
        self._dialing: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        return len(self._flows)

    async def open(self) -> None:
        addresses = [self.port.address] if self.port.address else ["0.0.0.0", "::"]  # noqa: S104 - what was published
        try:
            for address in addresses:
                await self._open(address)
        except BaseException:
            await self.close()
            raise

    async def _open(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError:
            # "Any address" of a host whose kernel has no IPv6 is that of IPv4.
            if self._fronts:
                return
            raise
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, self.port.port))
            made = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Front(self), sock=sock)
        except BaseException:
            sock.close()
            raise
        self._fronts[":" in address] = made[0]

    async def close(self) -> None:
        for transport in self._fronts.values():
            transport.close()
        self._fronts.clear()
        for task in self._dialing:
            task.cancel()
        await asyncio.gather(*self._dialing, return_exceptions=True)
        for flow in self._flows.values():
            flow.close()
        self._flows.clear()
        # A transport lets its socket go in the loop's next round.
        await asyncio.sleep(0)

    def take(self, data: bytes, client: Any) -> None:
        """A datagram of a client."""
        now = asyncio.get_running_loop().time()
        flow = self._flows.get(client)
        if flow is None:
            self._end_idle(now)
            if len(self._flows) >= self._flows_max or not self._fronts:
                return
            flow = self._flows[client] = _Flow(self, client)
            task = asyncio.ensure_future(self._dial(flow, client))
            self._dialing.add(task)
            task.add_done_callback(self._dialing.discard)
        flow.send(data, now)

    def answer(self, data: bytes, client: Any) -> None:
        """A datagram for a client."""
        front = self._fronts.get(":" in client[0])
        if front is not None:
            front.sendto(data, client)

    def _end_idle(self, now: float) -> None:
        for client, flow in list(self._flows.items()):
            if now - flow.used_at > FLOW_IDLE_S:
                flow.close()
                del self._flows[client]

    async def _dial(self, flow: _Flow, client: Any) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for host in self._ways(socket.SOCK_DGRAM):
                await loop.create_datagram_endpoint(lambda: flow, remote_addr=(host, self._port_there))
                return
        except OSError as error:
            log.info("datagrams to %s cannot go on: %s", self.port, error)
        self._flows.pop(client, None)


class _Front(asyncio.DatagramProtocol):
    def __init__(self, relay: UdpRelay) -> None:
        self._relay = relay

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._relay.take(data, addr)


def relay_of(port: Port, hosts: Sequence[str]) -> Relay:
    """What relays ``port``."""
    return (UdpRelay if port.protocol == "udp" else TcpRelay)(port, hosts)
