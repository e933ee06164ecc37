"""Sessions over mutual TLS: only a device that is trusted gets as far as being heard."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from support.net_helpers import CONFIG, DEADLINE_S, Acceptors, two_peers
from support.net_security import Device

from streamhop.net import KnownPeer, Security, UntrustedError, dial, serve
from streamhop_protocol.errors import TruncatedError
from streamhop_protocol.messages import Query, StreamKind

MOVE = b"m" * 16


@pytest.fixture
def stranger(tmp_path: Path) -> Device:
    return Device(tmp_path, "stranger")


async def test_each_side_knows_the_other_by_its_certificate(a: Device, b: Device) -> None:
    async with two_peers(security=(a.client(b), b.server(a))) as (dialer, acceptor):
        # Not by how it calls itself, which is edge-a and edge-b here.
        assert (dialer.peer_name, acceptor.peer_name) == ("b", "a")
        await dialer.send(Query(move=MOVE))
        assert await acceptor.receive() == Query(move=MOVE)


async def test_content_crosses_whole(a: Device, b: Device) -> None:
    content = bytes(range(256)) * 40_000
    async with two_peers(security=(a.client(b), b.server(a))) as (dialer, acceptor), asyncio.TaskGroup() as group:

        async def take() -> bytes:
            stream = await acceptor.accept_stream()
            taken = b"".join([chunk.data async for chunk in stream])
            await stream.done({})
            return taken

        taking = group.create_task(take())
        stream = await dialer.open_stream(StreamKind.MEMORY, {})
        for start in range(0, len(content), 1 << 20):
            await stream.write(content[start : start + (1 << 20)])
        await stream.finish()
    assert taking.result() == content


async def refused(
    listener_security: Security | None, dialer_security: Security | None, error: type[Exception] = UntrustedError
) -> None:
    """The dialer gets no session, and the listener's handler sees none."""
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="b", on_session=accepted, security=listener_security) as listener,
    ):
        with pytest.raises(error):
            await dial("127.0.0.1", listener.port, CONFIG, name="x", security=dialer_security)
    assert accepted.sessions.empty()


async def test_a_stranger_is_refused(a: Device, b: Device, stranger: Device) -> None:
    await refused(b.server(a), stranger.client(b))


async def test_a_device_is_refused_that_is_not_the_one_dialed(a: Device, b: Device, stranger: Device) -> None:
    await refused(stranger.server(a), a.client(b))


async def test_nobody_is_trusted_by_default(a: Device, b: Device) -> None:
    await refused(b.server(), a.client(b))


async def test_a_device_that_was_unpaired_is_refused_though_tls_still_knows_it(a: Device, b: Device) -> None:
    security = b.server(a)
    b.trusted.clear()
    await refused(security, a.client(b))


async def test_a_new_certificate_of_an_old_key_is_another_device(a: Device, b: Device, tmp_path: Path) -> None:
    again = Device(tmp_path, "a2")
    again.identity.key.write_bytes(a.identity.key.read_bytes())
    # The same key would do for a signature; the fingerprint is the certificate's.
    with pytest.raises(ssl.SSLError):
        again.client(b)
    await refused(b.server(a), Device(tmp_path, "a3").client(b))


async def test_a_dialer_without_a_certificate_is_refused(a: Device, b: Device) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=b.pem)
    await refused(b.server(a), Security(context, lambda _: KnownPeer("b", "b")))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
async def test_older_tls_is_refused(a: Device, b: Device, version: ssl.TLSVersion) -> None:
    security = a.client(b)
    security.context.minimum_version = version
    security.context.maximum_version = version
    await refused(b.server(a), security)


async def test_plain_and_tls_do_not_mix(a: Device, b: Device) -> None:
    await refused(b.server(a), None, TruncatedError)
    await refused(None, a.client(b))


async def test_a_silent_newcomer_has_to_go(a: Device, b: Device) -> None:
    config = type(CONFIG)(handshake_s_max=0.3)
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="b", on_session=Acceptors(), security=b.server(a)) as listener,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        assert await reader.read() == b""
        writer.close()
