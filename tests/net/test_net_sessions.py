"""Sessions over loopback: handshake, messages, the link's figures, and every way to end."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace

import pytest
from support.net_helpers import CONFIG, DEADLINE_S, Acceptors, two_peers, until

from streamhop.net import NetConfig, PeerSession, SessionLost, dial, serve
from streamhop.net.channel import Channel
from streamhop.net.dialing import _Dialer
from streamhop_protocol.errors import IntegrityError, LimitError, ProtocolError, UnexpectedError
from streamhop_protocol.messages import Finish, Offer, Query, StreamKind
from streamhop_protocol.signals import Hello, Join

MESSAGE = Query(move=bytes(16))


async def test_the_loop_under_test_is_the_one_asked_for(request: pytest.FixtureRequest) -> None:
    assert ("uvloop" in request.node.name) == type(asyncio.get_running_loop()).__module__.startswith("uvloop")


async def test_both_know_each_other() -> None:
    async with two_peers() as (dialer, acceptor):
        assert (dialer.peer_name, acceptor.peer_name) == ("edge-b", "edge-a")
        assert dialer.peer_address[0] == acceptor.peer_address[0] == "127.0.0.1"
        assert dialer.rtt_s is not None
        assert 0 < dialer.rtt_s < 1
        assert dialer.goodput_bytes_per_s is None
        assert dialer.wire_bytes_sent > 0


async def test_messages_arrive_in_order_in_both_directions() -> None:
    async with two_peers() as (dialer, acceptor):
        sent = [Finish(move=bytes(16), epoch=number) for number in range(1, 21)]
        for message in sent:
            await dialer.send(message)
            await acceptor.send(message)
        assert [await acceptor.receive() for _ in sent] == sent
        assert [await dialer.receive() for _ in sent] == sent


async def test_a_manifest_of_megabytes_arrives() -> None:
    async with two_peers() as (dialer, acceptor):
        offer = Offer(move=bytes(16), epoch=1, manifest={"labels": "x" * 4_000_000})
        await dialer.send(offer)
        await dialer.send(MESSAGE)
        assert await acceptor.receive() == offer
        assert await acceptor.receive() == MESSAGE


async def test_what_the_peer_would_refuse_is_not_sent() -> None:
    async with two_peers() as (dialer, acceptor):
        with pytest.raises(ProtocolError):
            await dialer.send(Query(move=b"short"))
        await dialer.send(MESSAGE)
        assert await acceptor.receive() == MESSAGE


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with two_peers() as (dialer, acceptor):
        waiting = [asyncio.ensure_future(acceptor.receive()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await dialer.send(MESSAGE)
        assert await waiting[1] == MESSAGE
        waiting = [asyncio.ensure_future(acceptor.receive())]
        await asyncio.sleep(0)
        await dialer.send(MESSAGE)
        await until(lambda: bool(acceptor._messages) or waiting[0].done())
        waiting[0].cancel()
        await asyncio.wait(waiting)
        if waiting[0].cancelled():
            assert await acceptor.receive() == MESSAGE


async def test_pings_are_answered_and_break_the_silence() -> None:
    async with two_peers() as (dialer, _):
        before = dialer._rtt._last
        await until(lambda: dialer.silence_s > 0.02)
        dialer.ping()
        await until(lambda: dialer.silence_s < 0.01)
        assert dialer._rtt._last != before


async def test_close_delivers_what_was_sent_and_ends_both_at_once() -> None:
    async with two_peers() as (dialer, acceptor):
        await dialer.send(MESSAGE)
        began = asyncio.get_running_loop().time()
        await dialer.close()
        assert asyncio.get_running_loop().time() - began < CONFIG.close_s_max / 2
        await acceptor.wait_closed()
        assert await acceptor.receive() == MESSAGE
        with pytest.raises(SessionLost, match="ended the session"):
            await acceptor.receive()
        with pytest.raises(SessionLost, match="closed here"):
            await dialer.send(MESSAGE)
        await dialer.close()  # again, without effect


async def test_both_close_at_once() -> None:
    async with two_peers() as (dialer, acceptor):
        began = asyncio.get_running_loop().time()
        await asyncio.gather(dialer.close(), acceptor.close())
        assert asyncio.get_running_loop().time() - began < CONFIG.close_s_max / 2


async def test_every_wait_ends_with_the_session() -> None:
    async with two_peers(streams_max=2) as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.MEMORY, {})
        incoming = await acceptor.accept_stream()
        ending = await dialer.open_stream(StreamKind.MEMORY, {})
        await acceptor.accept_stream()
        waits = [
            dialer.receive(),
            dialer.accept_stream(),
            dialer.open_stream(StreamKind.LAYER, {}),
            ending.finish(),
            acceptor.receive(),
            acceptor.accept_stream(),
            incoming.__anext__(),
        ]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        closed = asyncio.ensure_future(acceptor.wait_closed())
        await asyncio.sleep(0)
        await dialer.close()
        await closed
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, SessionLost)
        for call in (stream.write(b"x"), incoming.done(), dialer.open_stream(StreamKind.TREE, {})):
            with pytest.raises(SessionLost):
                await call


async def test_a_protocol_error_of_the_user_is_told_to_the_peer() -> None:
    async with two_peers() as (dialer, acceptor):
        with pytest.raises(UnexpectedError):
            async with dialer:
                raise UnexpectedError("PREPARED of another move")
        await acceptor.wait_closed()
        with pytest.raises(SessionLost, match=r"unexpected.*PREPARED of another move"):
            await acceptor.receive()


async def test_fail_keeps_the_cause() -> None:
    async with two_peers() as (dialer, acceptor):
        dialer.fail(IntegrityError("the digest differs"))
        with pytest.raises(SessionLost) as caught:
            await dialer.receive()
        assert isinstance(caught.value.__cause__, IntegrityError)
        with pytest.raises(SessionLost, match="integrity"):
            await acceptor.receive()


async def test_a_peer_that_vanishes_is_noticed_at_once_if_its_kernel_says_so() -> None:
    async with two_peers() as (dialer, acceptor):
        for channel in dialer._channels:
            channel.abort()
        await acceptor.wait_closed()
        with pytest.raises(SessionLost, match="connection was lost"):
            await acceptor.receive()


async def test_one_lost_payload_connection_ends_the_session() -> None:
    async with two_peers() as (dialer, acceptor):
        dialer._payloads[1].abort()
        await acceptor.wait_closed()
        await dialer.wait_closed()


async def test_a_silent_peer_is_given_up() -> None:
    async with two_peers(silence_s_max=0.4, ping_interval_s=0.1) as (dialer, acceptor):
        for channel in acceptor._channels:  # the process hangs: its kernel still acknowledges
            channel._transport.pause_reading()  # type: ignore[union-attr]
        acceptor._timer.cancel()
        await dialer.wait_closed()
        with pytest.raises(SessionLost, match="nothing was heard"):
            await dialer.receive()


async def test_pings_keep_an_idle_session_alive() -> None:
    async with two_peers(silence_s_max=0.5, ping_interval_s=0.05) as (dialer, acceptor):
        await asyncio.sleep(1.0)
        assert dialer.over is None
        assert acceptor.over is None


async def test_messages_that_nobody_reads_are_bounded_by_their_bytes() -> None:
    """P10: a few dozen of the largest messages would be half a gigabyte."""
    async with two_peers(messages_unread_bytes_max=100_000) as (dialer, acceptor):
        for _ in range(3):
            await dialer.send(Offer(move=bytes(16), epoch=1, manifest={"x": "y" * 40_000}))
        await dialer.wait_closed()
        assert "bytes of messages that nobody has read" in str(dialer.over)
        assert [type(await acceptor.receive()) for _ in range(2)] == [Offer, Offer]
        with pytest.raises(SessionLost):
            await acceptor.receive()


async def test_messages_that_were_read_do_not_count() -> None:
    async with two_peers(messages_unread_bytes_max=100_000) as (dialer, acceptor):
        for _ in range(5):
            await dialer.send(Offer(move=bytes(16), epoch=1, manifest={"x": "y" * 60_000}))
            assert isinstance(await acceptor.receive(), Offer)


async def test_messages_that_nobody_reads_end_the_session() -> None:
    async with two_peers(messages_unread_max=3) as (dialer, acceptor):
        for _ in range(4):
            await dialer.send(MESSAGE)
        await acceptor.wait_closed()
        assert acceptor.over is not None
        assert isinstance(acceptor.over.__cause__, LimitError)
        assert [await acceptor.receive() for _ in range(3)] == [MESSAGE] * 3


async def test_a_handlers_error_ends_only_its_session(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(session: PeerSession) -> None:
        if await session.receive() == MESSAGE:
            raise RuntimeError("a bug")
        await session.wait_closed()

    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="edge-b", on_session=handler) as listener,
        await dial("127.0.0.1", listener.port, CONFIG, name="edge-a") as first,
        await dial("127.0.0.1", listener.port, CONFIG, name="edge-a") as second,
    ):
        await first.send(MESSAGE)
        await first.wait_closed()
        await second.send(Finish(move=bytes(16), epoch=1))
        second.ping()
        assert second.over is None
        await until(lambda: "a bug" in caplog.text)


async def test_leaving_the_listener_ends_its_sessions_and_cancels_handlers() -> None:
    ended = asyncio.Event()

    async def handler(session: PeerSession) -> None:
        try:
            await session.receive()
        finally:
            ended.set()

    async with asyncio.timeout(DEADLINE_S):
        async with await serve("127.0.0.1", 0, CONFIG, name="edge-b", on_session=handler) as listener:
            session = await dial("127.0.0.1", listener.port, CONFIG, name="edge-a")
            port = listener.port
        assert ended.is_set()
        await session.wait_closed()
        await session.close()
        with pytest.raises(OSError):
            await dial("127.0.0.1", port, CONFIG, name="edge-a")


async def test_too_many_sessions_are_refused() -> None:
    config, accepted = replace(CONFIG, sessions_max=1), Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="edge-b", on_session=accepted) as listener,
        await dial("127.0.0.1", listener.port, config, name="edge-a"),
    ):
        await accepted.sessions.get()
        with pytest.raises(LimitError, match="served already"):
            await dial("127.0.0.1", listener.port, config, name="edge-c")


async def test_one_peer_does_not_take_every_session() -> None:
    """P10: an address stands for the peer where nobody has proven who it is."""
    config, accepted = replace(CONFIG, sessions_per_peer_max=2), Acceptors()

    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="edge-b", on_session=accepted) as listener,
        await dial("127.0.0.1", listener.port, config, name="edge-a") as one,
        await dial("127.0.0.1", listener.port, config, name="edge-a"),
    ):
        with pytest.raises(LimitError, match="with this peer"):
            await dial("127.0.0.1", listener.port, config, name="edge-c")
        await one.close()
        await until(lambda: len(listener._serving) == 1)
        async with await dial("127.0.0.1", listener.port, config, name="edge-a"):
            pass


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):
            await dial("127.0.0.1", unused.getsockname()[1], CONFIG, name="edge-a")


async def test_a_listener_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SessionLost, match="no answer"):
            await dial("127.0.0.1", silent.getsockname()[1], NetConfig(dial_s_max=0.1), name="edge-a")


async def test_payload_connections_are_made_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, their round trips would add up: a slow link could not connect."""
    together, connect = asyncio.Barrier(3), _Dialer.connect

    async def connect_together(dialer: _Dialer, address: tuple[str, int], first: Hello | Join) -> Channel:
        if isinstance(first, Join):
            await together.wait()
        return await connect(dialer, address, first)

    monkeypatch.setattr(_Dialer, "connect", connect_together)
    async with two_peers(connections=3, dial_s_max=5.0) as (dialer, acceptor):
        assert dialer.over is None
        assert acceptor.over is None


@pytest.mark.parametrize("cancelled", [False, True])
async def test_payload_connections_that_fail_leave_no_others(
    monkeypatch: pytest.MonkeyPatch, *, cancelled: bool
) -> None:
    """The error comes out as it is, without a group around it; tasks that are left would fail this test."""
    begun, given_up, connect = asyncio.Event(), 0, _Dialer.connect

    async def connect_some(dialer: _Dialer, address: tuple[str, int], first: Hello | Join) -> Channel:
        nonlocal given_up
        if isinstance(first, Hello):
            return await connect(dialer, address, first)
        if begun.is_set() and not cancelled:
            raise ConnectionRefusedError("one too many")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up += 1
        raise AssertionError("unreachable")

    monkeypatch.setattr(_Dialer, "connect", connect_some)
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="edge-b", on_session=accepted) as listener,
    ):
        dialing = asyncio.ensure_future(dial("127.0.0.1", listener.port, CONFIG, name="edge-a"))
        await begun.wait()
        if cancelled:
            dialing.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else ConnectionRefusedError):
            await dialing
        assert given_up == (2 if cancelled else 1)


async def test_a_listener_of_another_kind() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ProtocolError):
            await dial("127.0.0.1", server.sockets[0].getsockname()[1], CONFIG, name="edge-a")


@pytest.mark.parametrize("connections", [0, 16])
async def test_an_impossible_number_of_connections(connections: int) -> None:
    with pytest.raises(ValueError, match="connections"):
        await dial("127.0.0.1", 1, NetConfig(connections=connections), name="edge-a")


async def test_a_cancelled_dial_leaves_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dialing = asyncio.ensure_future(dial("127.0.0.1", silent.getsockname()[1], CONFIG, name="edge-a"))
        peer, _ = await asyncio.get_running_loop().run_in_executor(None, silent.accept)
        with peer:
            dialing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialing
            assert await asyncio.get_running_loop().run_in_executor(None, peer.recv, 8) in (b"", b"\xf5HOP\r\n\x00\x01")


async def test_a_peer_that_never_reads_costs_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with two_peers(messages_unread_max=10_000) as (dialer, acceptor):
        acceptor._control._transport.pause_reading()  # type: ignore[union-attr]
        offer = Offer(move=bytes(16), epoch=1, manifest={"labels": "x" * 1_000_000})

        async def flood() -> None:
            while True:
                await dialer.send(offer)

        flooding = asyncio.ensure_future(flood())
        await until(lambda: not dialer._control.writable)
        buffered = dialer._control._transport.get_write_buffer_size()  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        assert dialer._control._transport.get_write_buffer_size() <= buffered < 2_000_000  # type: ignore[union-attr]
        flooding.cancel()
        acceptor._control._transport.resume_reading()  # type: ignore[union-attr]
