"""Clients that connect and never get anywhere, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import half_open_flood
from support.net_helpers import CONFIG, DEADLINE_S, Acceptors, until
from support.net_security import Device

from streamhop.net import Listener, PeerSession, Security, dial, serve
from streamhop.net.accepting import ACCEPTED_AT_ONCE_MAX
from streamhop_protocol.messages import StreamKind

log = logging.getLogger("streamhop.tests")

CLIENTS = 1000
RETRY_S = 10.0
ORIGINS = [f"127.0.0.{number}" for number in range(2, 10)]
HONEST = "127.0.0.1"
"""What a client on loopback comes from unless it asks for another."""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Flooding:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.made = self.dropped = 0

    async def read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.made, self.dropped = map(int, line.split())


@contextlib.asynccontextmanager
async def flood(port: int, clients: int, retry_s: float, origins: list[str]) -> AsyncIterator[Flooding]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        half_open_flood.__file__,
        str(port),
        str(clients),
        str(retry_s),
        *origins,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    flooding = Flooding(process)
    reading = asyncio.ensure_future(flooding.read())
    try:
        yield flooding
    finally:
        process.stdin.close()
        await reading
        assert await process.wait() == 0


async def send(session: PeerSession, size_bytes: int) -> None:
    stream = await session.open_stream(StreamKind.MEMORY, {})
    for _ in range(size_bytes >> 20):
        await stream.write(bytes(1 << 20))
    assert await stream.finish() == {"bytes": size_bytes}


async def take(session: PeerSession) -> None:
    stream = await session.accept_stream()
    taken = 0
    async for chunk in stream:
        assert chunk.data == bytes(1 << 20)
        taken += len(chunk.data)
    await stream.done({"bytes": taken})


@contextlib.asynccontextmanager
async def listening(security: Security | None, **changes: object) -> AsyncIterator[tuple[Listener, Acceptors]]:
    accepted = Acceptors()
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]  # each test names fields that exist
    async with (
        asyncio.timeout(3 * DEADLINE_S),
        await serve(HONEST, 0, config, name="b", on_session=accepted, security=security) as listener,
    ):
        yield listener, accepted


async def connect_s(listener: Listener, accepted: Acceptors, security: Security | None) -> float:
    """Seconds that a peer needs until the listener serves its session."""
    began = time.monotonic()
    async with await dial(HONEST, listener.port, CONFIG, name="a", security=security):
        await accepted.sessions.get()
        return time.monotonic() - began


@pytest.mark.parametrize("origins", [ORIGINS, [HONEST]], ids=["from elsewhere", "from the peer's own address"])
async def test_a_paired_peer_connects_and_a_move_goes_on_among_a_thousand_half_open_clients(
    a: Device, b: Device, origins: list[str]
) -> None:
    """P11: half-open connections are bounded, by origin and in all; nobody who is paired is harmed; all is freed."""
    guests: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(2 * DEADLINE_S):
            guests.put_nowait(await reader.read(1))

    security = replace(b.server(a), guests=lambda: hear)
    async with listening(security) as (listener, accepted):
        client = a.client(b)
        async with await dial(HONEST, listener.port, CONFIG, name="a", security=client) as moving:
            acceptor = await accepted.sessions.get()
            before = most = descriptors()
            async with flood(listener.port, CLIENTS, RETRY_S, origins) as flooding, asyncio.TaskGroup() as group:
                await until(lambda: flooding.made >= CLIENTS // 2)
                group.create_task(take(acceptor))
                sending = group.create_task(send(moving, 64 << 20))
                seconds = []
                while flooding.made < CLIENTS or len(seconds) < 5:
                    seconds.append(await connect_s(listener, accepted, client))
                    most = max(most, descriptors())
                await sending
                assert len(listener._strangers) + len(listener._guests) > 0
            # The pipes of the other process, a dialed session, and what is accepted or closed within one round.
            assert most - before <= CONFIG.half_open_max + CONFIG.guests_max + ACCEPTED_AT_ONCE_MAX
            assert max(seconds) < 1.0, seconds
            assert moving.over is None
            await until(lambda: not listener._half_open and not listener._guests)
            await until(lambda: descriptors() <= before)
            log.info(
                "%.3f to %.3f s to connect; %d connections made; descriptors: %d before, %d at most",
                min(seconds),
                max(seconds),
                flooding.made,
                before,
                most,
            )


async def closed_after_s(sock: socket.socket, began: float) -> float:
    """When the other end closed the connection, seconds after ``began``; whatever it sends is passed over."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionResetError):
        while await loop.sock_recv(sock, 4096):
            pass
    return time.monotonic() - began


async def connected(port: int, origin: str) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((origin, 0))
    await asyncio.get_running_loop().sock_connect(sock, (HONEST, port))
    return sock


async def test_who_is_dropped_in_the_middle_of_the_tls_handshake_is_gone_at_once(a: Device, b: Device) -> None:
    """P11: not only at the end of a handshake's time."""
    async with listening(b.server(a), half_open_per_origin_max=1) as (listener, _):
        first = await connected(listener.port, ORIGINS[0])
        await asyncio.get_running_loop().sock_sendall(first, half_open_flood.client_hello()[:-1])
        await until(lambda: any(each.connecting for each in listener._half_open.values()))
        began = time.monotonic()
        second = await connected(listener.port, ORIGINS[0])
        elsewhere = await connected(listener.port, ORIGINS[1])
        assert await closed_after_s(first, began) < 1.0
        assert len(listener._half_open) == 2
        for sock in (first, second, elsewhere):
            sock.close()


async def test_the_deadline_counts_from_accepting_and_does_not_move(a: Device, b: Device) -> None:
    """P11: a handshake that is finished late leaves no more time for the session's."""
    async with listening(b.server(a), handshake_s_max=1.0) as (listener, _):
        security = a.client(b)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = security.context.wrap_bio(incoming, outgoing, server_hostname="streamhop")
        loop, began = asyncio.get_running_loop(), time.monotonic()
        sock = await connected(listener.port, HONEST)
        await asyncio.sleep(0.6)  # this is what the test is about: time that passes before the handshake
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, outgoing.read())
                incoming.write(await loop.sock_recv(sock, 65536))
        await loop.sock_sendall(sock, outgoing.read())
        assert 0.9 < await closed_after_s(sock, began) < 1.5
        sock.close()


async def test_a_guest_that_says_nothing_gives_way_to_the_next(a: Device, b: Device) -> None:
    """P11: guests are bounded, by origin and in all; one that reads nothing cannot keep its place."""
    heard: list[asyncio.StreamReader] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(reader)
        await reader.read(1)
        writer.write(b"y")

    security = replace(b.server(a), guests=lambda: hear)
    async with listening(security, guests_max=3, guests_per_origin_max=2, close_s_max=0.2) as (listener, _):
        context = half_open_flood.guest_context()
        writers = []
        for number in range(6):
            origin = (ORIGINS[number % 2], 0)
            _, writer = await asyncio.open_connection(HONEST, listener.port, ssl=context, local_addr=origin)
            writers.append(writer)
            await until(lambda: len(heard) == len(writers))
        assert len(listener._guests) == 3
        reader, writer = await asyncio.open_connection(HONEST, listener.port, ssl=context)
        writer.write(b"x")
        assert await reader.read(1) == b"y"
        for each in (writer, *writers):
            each.transport.abort()
        await until(lambda: not listener._guests)


async def test_a_port_that_is_taken_is_told() -> None:
    async with listening(None) as (listener, _):
        with pytest.raises(OSError, match="in use"):
            await serve(HONEST, listener.port, CONFIG, name="c", on_session=Acceptors())


async def test_a_name_is_listened_to_at_all_its_addresses() -> None:
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("localhost", 0, CONFIG, name="b", on_session=accepted) as listener,
        await dial("localhost", listener.port, CONFIG, name="a"),
    ):
        await accepted.sessions.get()
