"""Relays of ports, between real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamhop.net import relaying
from streamhop.net.relaying import Port, Relay, TcpRelay, UdpRelay

HERE = "127.0.0.1"


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(type=kind) as trial:
        trial.bind((HERE, 0))
        return int(trial.getsockname()[1])


@asynccontextmanager
async def opened(relay: Relay) -> AsyncIterator[Relay]:
    await relay.open()
    try:
        yield relay
    finally:
        await relay.close()


@asynccontextmanager
async def shouting() -> AsyncIterator[int]:
    """A service that says what it has heard in capitals, once it has heard all; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(serve, HERE, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def tcp(there: int, **more: Any) -> TcpRelay:
    return TcpRelay(Port(HERE, free_port(socket.SOCK_STREAM), "tcp"), more.pop("hosts", [HERE]), there, **more)


async def ask(port: int, text: bytes) -> bytes:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HERE, port)
        writer.write(text)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer


async def settled(relay: Relay, active: int) -> None:
    async with asyncio.timeout(10):
        while relay.active != active:  # noqa: ASYNC110 - the relay tells nobody
            await asyncio.sleep(0.01)


async def test_both_ways_and_the_end_of_each_half() -> None:
    async with shouting() as there, opened(tcp(there)) as relay:
        assert await ask(relay.port.port, b"hello") == b"HELLO"
        much = b"a" * 5_000_000
        assert await ask(relay.port.port, much) == much.upper()
        await settled(relay, 0)


async def test_the_next_address_is_tried() -> None:
    async with shouting() as there, opened(tcp(there, hosts=["127.0.0.2", HERE])) as relay:
        assert await ask(relay.port.port, b"x") == b"X"


async def test_nobody_is_there() -> None:
    async with opened(tcp(free_port(socket.SOCK_STREAM))) as relay:
        with pytest.raises(ConnectionResetError):
            await ask(relay.port.port, b"x")
        await settled(relay, 0)


async def test_connections_are_bounded_and_end_with_the_relay() -> None:
    async with shouting() as there, opened(tcp(there, connections_max=2)) as relay:
        held = [await asyncio.open_connection(HERE, relay.port.port) for _ in range(2)]
        await settled(relay, 2)
        with pytest.raises(ConnectionError):
            await ask(relay.port.port, b"x")
        await relay.close()
        for reader, writer in held:
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
        assert relay.active == 0
        with pytest.raises(ConnectionRefusedError):
            await ask(relay.port.port, b"x")


async def test_a_way_that_leads_back_here_is_no_way() -> None:
    port = Port(HERE, free_port(socket.SOCK_STREAM), "tcp")
    async with opened(TcpRelay(port, [HERE])) as relay:
        with pytest.raises(ConnectionError):
            await ask(port.port, b"x")
        await settled(relay, 0)


async def test_a_port_that_is_taken() -> None:
    async with shouting() as there:
        with pytest.raises(OSError, match="in use"):
            await TcpRelay(Port(HERE, there, "tcp"), [HERE]).open()


# -- datagrams ---------------------------------------------------------------------------------------------------------


class Shouting(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data.upper(), addr)


@asynccontextmanager
async def datagrams(**more: Any) -> AsyncIterator[UdpRelay]:
    """A relay to a service that answers in capitals."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Shouting, local_addr=(HERE, 0))
    there = transport.get_extra_info("sockname")[1]
    relay = UdpRelay(Port(HERE, free_port(socket.SOCK_DGRAM), "udp"), [HERE], there, **more)
    async with opened(relay):
        yield relay
    transport.close()


@asynccontextmanager
async def client(relay: UdpRelay) -> AsyncIterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((HERE, relay.port.port))
        yield sock


async def told(sock: socket.socket, text: bytes, wait_s: float = 5.0) -> bytes:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(wait_s):
        await loop.sock_sendall(sock, text)
        return await loop.sock_recv(sock, 100)


async def test_each_client_gets_its_own_answers() -> None:
    async with datagrams() as relay, client(relay) as one, client(relay) as other:
        for text in (b"a", b"b"):
            assert await told(one, text) == text.upper()
            assert await told(other, b"other " + text) == b"OTHER " + text.upper()
        assert relay.active == 2


async def test_flows_are_bounded_and_make_room_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    async with datagrams(flows_max=1) as relay, client(relay) as one, client(relay) as other:
        assert await told(one, b"a") == b"A"
        with pytest.raises(TimeoutError):
            await told(other, b"b", wait_s=0.2)
        monkeypatch.setattr(relaying, "FLOW_IDLE_S", -1.0)
        assert await told(other, b"c") == b"C"
        assert relay.active == 1


async def test_any_address_means_both_kinds() -> None:
    relay = UdpRelay(Port("", free_port(socket.SOCK_DGRAM), "udp"), [HERE], 9)
    async with opened(relay):
        for family in (socket.AF_INET, socket.AF_INET6):
            with socket.socket(family, socket.SOCK_DGRAM) as trial, pytest.raises(OSError, match="in use"):
                trial.bind(("", relay.port.port))
