"""Sessions over mutual TLS: only a device that is trusted gets as far as being heard."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from support.net_helpers import CONFIG, DEADLINE_S, Acceptors, two_peers
from support.net_security import Device

from streamhop.net import ClosedUnansweredError, KnownPeer, Security, SessionLost, UntrustedError, dial, serve
from streamhop_protocol.errors import LimitError, TruncatedError
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
    """P9: another certificate than a paired one."""
    await refused(b.server(a), stranger.client(b))


async def test_a_device_is_refused_that_is_not_the_one_dialed(a: Device, b: Device, stranger: Device) -> None:
    """P9: the same for who answers."""
    await refused(stranger.server(a), a.client(b))


async def test_nobody_is_trusted_by_default(a: Device, b: Device) -> None:
    """P9: nobody is paired yet."""
    await refused(b.server(), a.client(b))


async def test_a_device_that_was_unpaired_is_refused_though_tls_still_knows_it(a: Device, b: Device) -> None:
    """P9: unpaired, while the listener goes on."""
    security = b.server(a)
    b.trusted.clear()
    await refused(security, a.client(b))


async def test_a_new_certificate_of_an_old_key_is_another_device(a: Device, b: Device, tmp_path: Path) -> None:
    """P9: right key in a new certificate: the fingerprint is the certificate's."""
    again = a.certified_again(tmp_path, "again", (-1, 365))
    await refused(b.server(a), again.client(b))
    await refused(again.server(b), b.client(a))


async def test_ones_own_certificate_opens_no_door(a: Device, b: Device) -> None:
    """P9: who shows the listener's own certificate, or answers with the dialer's, is not trusted for it."""
    await refused(b.server(a), b.client(b))
    security = a.client(b)
    await refused(a.server(a), security)


@pytest.mark.parametrize("days", [(-20, -10), (10, 20)], ids=["expired", "not valid yet"])
async def test_dates_do_not_count(a: Device, b: Device, tmp_path: Path, days: tuple[int, int]) -> None:
    """P9: a paired certificate is good until it is unpaired, whatever the clock says; a stranger is not."""
    dated = a.certified_again(tmp_path, "dated", days)
    async with two_peers(security=(dated.client(b), b.server(dated))) as (dialer, acceptor):
        assert (dialer.peer_name, acceptor.peer_name) == ("b", "dated")
    async with two_peers(security=(b.client(dated), dated.server(b))) as (dialer, _):
        assert dialer.peer_name == "dated"
    await refused(b.server(a), dated.client(a))


async def test_who_is_unpaired_while_connected_is_out_at_once(a: Device, b: Device) -> None:
    """P9: the live session ends, and there is no other."""
    accepted, server, client = Acceptors(), b.server(a), a.client(b)
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="b", on_session=accepted, security=server) as listener,
        await dial("127.0.0.1", listener.port, CONFIG, name="a", security=client) as session,
    ):
        await accepted.sessions.get()
        b.trusted.clear()
        listener.end_sessions_of("a")
        await session.wait_closed()
        with pytest.raises(UntrustedError):
            await dial("127.0.0.1", listener.port, CONFIG, name="a", security=client)
    assert accepted.sessions.empty()


async def test_who_is_unpaired_in_the_handshake_gets_no_session(a: Device, b: Device) -> None:
    """P9: each connection was asked about when it was made; the last to join completes the session."""
    accepted, server, asked = Acceptors(), b.server(a), 0

    def who(certificate: bytes) -> KnownPeer | None:
        nonlocal asked
        asked += 1
        return b.who(certificate) if asked <= 1 + CONFIG.connections else None

    async with (
        asyncio.timeout(DEADLINE_S),
        await serve(
            "127.0.0.1", 0, CONFIG, name="b", on_session=accepted, security=replace(server, who=who)
        ) as listener,
    ):
        try:
            session = await dial("127.0.0.1", listener.port, CONFIG, name="a", security=a.client(b))
        except (SessionLost, TruncatedError, ConnectionResetError):
            pass
        else:
            async with session:
                await session.wait_closed()
        assert asked > 1 + CONFIG.connections
        assert accepted.sessions.empty()
        assert not listener._serving


async def test_who_comes_often_leaves_places_for_others(a: Device, b: Device, tmp_path: Path) -> None:
    """P10: each peer has its own number of sessions, wherever it comes from."""
    config, accepted, c = replace(CONFIG, sessions_per_peer_max=1), Acceptors(), Device(tmp_path, "c")
    server, client, other = b.server(a, c), a.client(b), c.client(b)
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="b", on_session=accepted, security=server) as listener,
        await dial("127.0.0.1", listener.port, CONFIG, name="a", security=client),
    ):
        with pytest.raises(LimitError, match="with this peer"):
            await dial("127.0.0.1", listener.port, CONFIG, name="a", security=client)
        async with await dial("127.0.0.1", listener.port, CONFIG, name="c", security=other) as session:
            assert session.peer_name == "b"


async def test_a_close_without_a_word_is_told_from_another_device(a: Device, b: Device, stranger: Device) -> None:
    """A link that breaks just then looks like the first, never like the second."""
    security = b.server(a)

    def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with asyncio.timeout(DEADLINE_S):
        silent = await asyncio.start_server(close, "127.0.0.1", 0, ssl=security.context)
        plain = await asyncio.start_server(close, "127.0.0.1", 0)
        for server in (silent, plain):
            async with server:
                with pytest.raises(ClosedUnansweredError):
                    await dial(*server.sockets[0].getsockname(), CONFIG, name="a", security=a.client(b))
        async with await serve(
            "127.0.0.1", 0, CONFIG, name="b", on_session=Acceptors(), security=stranger.server(a)
        ) as listener:
            with pytest.raises(UntrustedError) as caught:
                await dial("127.0.0.1", listener.port, CONFIG, name="a", security=a.client(b))
            assert not isinstance(caught.value, ClosedUnansweredError)


async def test_a_dialer_without_a_certificate_is_refused(a: Device, b: Device) -> None:
    """P9: no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=b.pem)
    await refused(b.server(a), Security(context, lambda _: KnownPeer("b", "b")))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
async def test_older_tls_is_refused(a: Device, b: Device, version: ssl.TLSVersion) -> None:
    """P9: nothing but TLS 1.3."""
    security = a.client(b)
    security.context.minimum_version = version
    security.context.maximum_version = version
    await refused(b.server(a), security)


async def test_plain_and_tls_do_not_mix(a: Device, b: Device) -> None:
    """P9: who asks for less protection gets none."""
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
