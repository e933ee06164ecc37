"""Peers that do not play by the rules, over real connections."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from support.net_helpers import CONFIG, DEADLINE_S, Acceptors, RawPeer, raw_session, two_peers

from streamhop.net import SessionLost, dial, serve
from streamhop_protocol.codecs import Codec, CodecChoice, compress
from streamhop_protocol.connection import encode_body
from streamhop_protocol.errors import FlowError, MalformedError, UnexpectedError
from streamhop_protocol.frames import PREAMBLE, FrameType, encode_frame
from streamhop_protocol.messages import Query
from streamhop_protocol.signals import Data, Error, Hello, Join, Open, Ping, Pong, Welcome, encode_signal


def data_frame(seq: int, payload: bytes, *, codec: Codec = Codec.NONE, raw_bytes: int | None = None) -> bytes:
    _, header = encode_signal(Data(seq, int(codec), len(payload) if raw_bytes is None else raw_bytes))
    return encode_frame(FrameType.DATA, header, payload, flags=1, stream=1)


async def test_credit_overrun_is_refused_and_told() -> None:
    async with raw_session() as (control, (payload,), session):
        payload.send(Open("memory"), stream=1)
        for seq in range(1, 6):
            payload.write(data_frame(seq, bytes(1 << 20)))
        error = (await control.next_of(Error)).body
        assert isinstance(error, Error)
        assert error.code == "flow"
        await session.wait_closed()
        assert session.over is not None
        assert isinstance(session.over.__cause__, FlowError)


async def test_a_chunk_that_does_not_decompress_ends_the_session() -> None:
    async with raw_session() as (control, (payload,), session):
        packed = bytes(compress(bytes(100_000), CodecChoice(Codec.ZSTD, 1))[1])
        payload.send(Open("memory"), stream=1)
        payload.write(data_frame(1, packed, codec=Codec.ZSTD, raw_bytes=99_999))
        stream = await session.accept_stream()
        with pytest.raises(MalformedError):
            await anext(stream)
        with pytest.raises(MalformedError):
            await anext(stream)
        await control.next_of(Error)
        await session.wait_closed()


async def test_chunks_that_nobody_reads_may_be_broken() -> None:
    async with raw_session() as (_, (payload,), session):
        payload.send(Open("memory"), stream=1)
        payload.write(data_frame(1, b"fine") + data_frame(2, b"x" * 9000, codec=Codec.LZ4, raw_bytes=100_000))
        stream = await session.accept_stream()
        assert (await anext(stream)).data == b"fine"
        await session.close()


@pytest.mark.parametrize(
    "frame",
    [
        data_frame(1, b"data on the control connection"),
        encode_frame(0x7F, b"", flags=1),
        encode_body(Hello("raw", 1, 1, 1, 1)),
        b"\xff" * 12,
        encode_frame(0x20, b"", b"\xc1" * 100, flags=1),
    ],
)
async def test_a_broken_control_connection_ends_the_session_with_a_reason(frame: bytes) -> None:
    async with raw_session() as (control, _, session):
        control.write(frame)
        await control.next_of(Error)
        await session.wait_closed()
        with pytest.raises(SessionLost, match="broke the protocol"):
            await session.receive()


async def test_a_broken_payload_connection_ends_the_session_with_a_reason() -> None:
    async with raw_session() as (control, (payload,), session):
        payload.send(Ping(1))
        error = (await control.next_of(Error)).body
        assert isinstance(error, Error)
        assert error.code == "unexpected"
        await session.wait_closed()


async def test_unknown_optional_frames_are_skipped() -> None:
    async with raw_session() as (control, (payload,), session):
        unknown = encode_frame(0x7E, b"\xc1\xc1", bytes(300_000), stream=77)
        control.write(unknown + encode_body(Query(move=bytes(16))))
        payload.write(unknown + encode_body(Open("tree"), stream=1))
        assert await session.receive() == Query(move=bytes(16))
        assert (await session.accept_stream()).kind.value == "tree"


async def test_a_flood_of_pings_is_survived() -> None:
    async with raw_session() as (control, _, session):
        control.write(b"".join(encode_body(Ping(number)) for number in range(50_000)))
        while (await control.next_of(Pong)).body != Pong(49_999):
            pass
        assert session.over is None


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", bytes(64), PREAMBLE + b"\xff" * 64]
)
async def test_garbage_from_a_newcomer_is_cut_off(first: bytes) -> None:
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="b", on_session=Acceptors()) as listener,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(first)
        try:
            while await reader.read(4096):
                pass
        except ConnectionResetError:
            pass
        writer.close()
        assert not listener._half_open or all(channel.lost for channel in listener._half_open)


async def test_a_join_with_a_wrong_token_is_refused() -> None:
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="b", on_session=accepted) as listener,
    ):
        control = await RawPeer.connect(listener.port)
        control.send(Hello("raw", 1, 1, 1, 8))
        welcome = (await control.next()).body
        assert isinstance(welcome, Welcome)
        for join in (Join(welcome.session, bytes(32)), Join(bytes(16), welcome.token)):
            payload = await RawPeer.connect(listener.port)
            payload.send(join)
            error = (await payload.next()).body
            assert isinstance(error, Error)
            assert error.code == "unexpected"
            await payload.close()
        assert accepted.sessions.empty()
        payload = await RawPeer.connect(listener.port)
        payload.send(Join(welcome.session, welcome.token))
        await payload.next()
        await accepted.sessions.get()
        late = await RawPeer.connect(listener.port)
        late.send(Join(welcome.session, welcome.token))
        assert isinstance((await late.next()).body, Error)
        for peer in (late, payload, control):
            await peer.close()


async def test_no_common_version_is_told() -> None:
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="b", on_session=Acceptors()) as listener,
    ):
        control = await RawPeer.connect(listener.port)
        control.send(Hello("raw", 7, 9, 1, 8))
        error = (await control.next()).body
        assert isinstance(error, Error)
        assert error.code == "version"
        await control.close()


async def test_who_trickles_is_cut_off_at_the_deadline() -> None:
    config = replace(CONFIG, handshake_s_max=0.3)
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="b", on_session=Acceptors()) as listener,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        ended = asyncio.ensure_future(reader.read())
        began = time.monotonic()
        try:
            for value in PREAMBLE + encode_body(Hello("x" * 200, 1, 1, 1, 1)):
                writer.write(bytes((value,)))
                await writer.drain()
                await asyncio.wait({ended}, timeout=0.02)
                if ended.done():
                    break
        except ConnectionError:
            pass
        await asyncio.wait({ended})
        assert 0.2 < time.monotonic() - began < 2
        ended.exception()
        writer.close()


async def test_a_session_that_never_gets_its_connections_is_cut_off() -> None:
    config = replace(CONFIG, handshake_s_max=0.2)
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="b", on_session=Acceptors()) as listener,
    ):
        control = await RawPeer.connect(listener.port)
        control.send(Hello("raw", 1, 1, 2, 8))
        await control.next()
        with pytest.raises(EOFError):
            await control.next()
        assert not listener._joining
        await control.close()


async def test_silent_newcomers_are_bounded_and_an_honest_peer_still_connects() -> None:
    config, accepted = replace(CONFIG, half_open_max=16), Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, config, name="b", on_session=accepted) as listener,
    ):
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(100)]
        began = time.monotonic()
        async with await dial("127.0.0.1", listener.port, config, name="a"):
            await accepted.sessions.get()
            assert time.monotonic() - began < 1
            assert len(listener._half_open) <= 16
        for _, writer in silent:
            writer.close()


async def test_a_peer_that_stops_in_the_middle_of_a_frame() -> None:
    async with raw_session() as (_, (payload,), session):
        payload.send(Open("memory"), stream=1)
        payload.write(data_frame(1, bytes(1000))[:500])
        stream = await session.accept_stream()
        await payload.close()
        await session.wait_closed()
        with pytest.raises(SessionLost, match="middle of a frame"):
            await anext(stream)


async def test_another_session_is_not_harmed() -> None:
    async with two_peers() as (dialer, acceptor):
        async with raw_session() as (control, _, broken):
            control.write(b"\xff" * 64)
            await broken.wait_closed()
        await dialer.send(Query(move=bytes(16)))
        assert await acceptor.receive() == Query(move=bytes(16))


async def test_an_open_of_the_wrong_side_is_refused() -> None:
    async with raw_session() as (_, (payload,), session):
        payload.send(Open("memory"), stream=2)
        await session.wait_closed()
        assert session.over is not None
        assert isinstance(session.over.__cause__, UnexpectedError)
