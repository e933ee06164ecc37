"""Streams over loopback: content, order, urgency, compression, credit, resets."""

from __future__ import annotations

import asyncio
import os

import pytest
from support.net_helpers import two_peers, until

from streamhop.net import Chunk, IncomingStream, OutgoingStream, PeerSession
from streamhop.net.streams import HELD_BYTES_MAX
from streamhop_protocol.errors import IntegrityError, LimitError, ProtocolError, UnexpectedError
from streamhop_protocol.limits import CHUNK_RAW_BYTES_MAX, STREAM_WINDOW_BYTES
from streamhop_protocol.messages import Query, StreamKind

WINDOW_CHUNKS = STREAM_WINDOW_BYTES // CHUNK_RAW_BYTES_MAX

TEXT = b"a line of text that compresses, more or less\n" * 4000


async def read_all(stream: IncomingStream) -> list[Chunk]:
    return [chunk async for chunk in stream]


async def echo_back(session: PeerSession) -> None:
    """Accept one stream and say in DONE how much it held."""
    stream = await session.accept_stream()
    chunks = await read_all(stream)
    await stream.done({"kind": stream.kind.value, "bytes": sum(len(chunk.data) for chunk in chunks)})


async def test_a_stream_from_one_end_to_the_other() -> None:
    async with two_peers() as (dialer, acceptor):
        noise = os.urandom(CHUNK_RAW_BYTES_MAX)
        sent = [(TEXT, {"n": 1}), (noise, None), (b"", {"empty": True}), (b"small", [1, "two", b"three"])]
        stream = await dialer.open_stream(StreamKind.MEMORY, {"round": 3})
        for data, meta in sent:
            await stream.write(data, meta)
        finishing = asyncio.ensure_future(stream.finish({"digest": b"d"}))
        incoming = await acceptor.accept_stream()
        assert (incoming.kind, incoming.attributes) == (StreamKind.MEMORY, {"round": 3})
        assert [(chunk.data, chunk.meta) for chunk in await read_all(incoming)] == sent
        assert incoming.end_attributes == {"digest": b"d"}
        assert not finishing.done()
        await incoming.done({"verified": True})
        assert await finishing == {"verified": True}
        assert stream.raw_bytes == sum(len(data) for data, _ in sent)
        assert CHUNK_RAW_BYTES_MAX < stream.wire_bytes < stream.raw_bytes
        assert sum(stream.wire_bytes_by_codec.values()) == stream.wire_bytes
        assert set(stream.wire_bytes_by_codec) == {"none", "zstd"}
        assert dialer.wire_bytes_sent > stream.wire_bytes


async def test_both_directions_and_many_streams_at_once() -> None:
    async with two_peers(streams_max=3, connections=4) as (dialer, acceptor):

        async def send(session: PeerSession, number: int) -> None:
            stream = await session.open_stream(list(StreamKind)[number % 4], {"n": number})
            for _ in range(number):
                await stream.write(TEXT)
            assert (await stream.finish())["bytes"] == number * len(TEXT)

        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            for sender, receiver in ((dialer, acceptor), (acceptor, dialer)):
                for number in range(12):
                    group.create_task(send(sender, number))
                    group.create_task(echo_back(receiver))


async def test_a_buffer_may_be_reused_after_write() -> None:
    async with two_peers() as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.MEMORY, {})
        buffer = bytearray(200_000)
        for value in range(10):
            buffer[:] = bytes((value,)) * len(buffer)
            await stream.write(memoryview(buffer))
        buffer[:] = b"\xff" * len(buffer)
        finishing = asyncio.ensure_future(stream.finish())
        incoming = await acceptor.accept_stream()
        chunks = await read_all(incoming)
        assert [set(chunk.data) for chunk in chunks] == [{value} for value in range(10)]
        await incoming.done()
        await finishing


async def test_what_is_urgent_overtakes_what_waits() -> None:
    async with two_peers(connections=1) as (dialer, acceptor):
        arrived: list[tuple[StreamKind, object]] = []

        async def note(stream: IncomingStream) -> None:
            async for chunk in stream:
                arrived.append((stream.kind, chunk.meta))  # noqa: PERF401 - the order across streams is the point
            await stream.done()

        dialer._payloads[0].writable = False  # as if the link were busy
        outgoing: list[OutgoingStream] = []
        kinds = (StreamKind.LAYER, StreamKind.TREE, StreamKind.MEMORY, StreamKind.FINAL)
        for kind in kinds:
            outgoing.append(await dialer.open_stream(kind, {}))
            for number in range(3):
                await outgoing[-1].write(b"x" * 1000, number)
        dialer._payloads[0].writable = True
        dialer.pump()
        async with asyncio.TaskGroup() as group:
            for _ in outgoing:
                group.create_task(note(await acceptor.accept_stream()))
            for stream in outgoing:
                group.create_task(stream.finish())
        urgent = sorted(kinds, key=lambda kind: kind.priority)
        assert arrived == [(kind, number) for kind in urgent for number in range(3)]


async def test_a_writer_waits_for_a_reader_and_memory_stays_bounded() -> None:
    async with two_peers() as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.LAYER, {})
        noise = os.urandom(CHUNK_RAW_BYTES_MAX)
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(20):
                await stream.write(noise)
                written += 1
            await stream.finish()

        writing = asyncio.ensure_future(write())
        incoming = await acceptor.accept_stream()
        await until(lambda: stream.wire_bytes > STREAM_WINDOW_BYTES - 70_000)
        await until(lambda: written >= WINDOW_CHUNKS + 1)
        await asyncio.sleep(0.05)
        assert stream.wire_bytes <= STREAM_WINDOW_BYTES + 100  # OPEN takes no credit
        assert written <= WINDOW_CHUNKS + -(-HELD_BYTES_MAX // CHUNK_RAW_BYTES_MAX)
        await dialer.send(Query(move=bytes(16)))  # the control connection is never behind bulk data
        assert await acceptor.receive() == Query(move=bytes(16))
        assert len(await read_all(incoming)) == 20
        await incoming.done()
        await writing


async def test_a_writer_of_tiny_chunks_waits_too() -> None:
    async with two_peers() as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.TREE, {})
        for channel in dialer._payloads:
            channel.writable = False  # as if the link were busy
        written = 0

        async def write() -> None:
            nonlocal written
            for written in range(1, 10_001):  # noqa: B007 - counts how far it came
                await stream.write(b"x")
            await stream.finish()

        writing = asyncio.ensure_future(write())
        await until(lambda: written > 50)
        await asyncio.sleep(0.02)
        assert written < 200
        for channel in dialer._payloads:
            channel.writable = True
        dialer.pump()
        assert len(await read_all(await acceptor.accept_stream())) == 10_000
        writing.cancel()


async def test_a_cancelled_write_sends_nothing_and_the_stream_goes_on() -> None:
    async with two_peers() as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.LAYER, {})
        noise = os.urandom(CHUNK_RAW_BYTES_MAX)
        accepted = 0
        while True:
            try:
                async with asyncio.timeout(0.2):
                    await stream.write(noise, accepted)
            except TimeoutError:
                break
            accepted += 1
        incoming = await acceptor.accept_stream()
        reading = asyncio.ensure_future(read_all(incoming))
        await stream.write(b"after", accepted)
        finishing = asyncio.ensure_future(stream.finish())
        assert [chunk.meta for chunk in await reading] == list(range(accepted + 1))
        finishing.cancel()
        await asyncio.wait({finishing})
        await incoming.done({"n": 1})
        assert await stream.finish() == {"n": 1}


async def test_a_cancelled_read_loses_no_chunk() -> None:
    async with two_peers() as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.LAYER, {})
        incoming = await acceptor.accept_stream()
        seen = []
        for number in range(30):
            reading = asyncio.ensure_future(incoming.__anext__())
            await asyncio.sleep(0)
            await stream.write(TEXT, number)
            await asyncio.sleep(0.0002 * number)
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                seen.append(reading.result().meta)
        finishing = asyncio.ensure_future(stream.finish())
        seen += [chunk.meta for chunk in await read_all(incoming)]
        assert seen == list(range(30))
        await incoming.done()
        await finishing


async def test_the_receiver_refuses_a_stream() -> None:
    async with two_peers() as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.FINAL, {})
        await stream.write(TEXT)
        incoming = await acceptor.accept_stream()
        finishing = asyncio.ensure_future(stream.finish())
        await incoming.reset("integrity", "the digest differs")
        with pytest.raises(IntegrityError, match="the digest differs"):
            await finishing
        with pytest.raises(IntegrityError):
            await stream.write(b"x")
        with pytest.raises(UnexpectedError):
            await incoming.done()
        assert dialer.over is acceptor.over is None


async def test_the_sender_gives_a_stream_up() -> None:
    async with two_peers(streams_max=1) as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.FINAL, {})
        await stream.write(TEXT)
        incoming = await acceptor.accept_stream()
        await stream.reset("a code of its own", "cancelled")
        with pytest.raises(ProtocolError, match="cancelled"):
            await read_all(incoming)
        with pytest.raises(UnexpectedError):
            await stream.finish()
        again = await dialer.open_stream(StreamKind.FINAL, {})  # once the receiver has confirmed
        reading = asyncio.ensure_future(echo_back(acceptor))
        assert (await again.finish())["bytes"] == 0
        await reading


async def test_the_number_of_streams_is_bounded_by_waiting() -> None:
    async with two_peers(streams_max=2) as (dialer, acceptor):
        streams = [await dialer.open_stream(StreamKind.LAYER, {"n": n}) for n in range(2)]
        third = asyncio.ensure_future(dialer.open_stream(StreamKind.LAYER, {"n": 2}))
        await asyncio.sleep(0.02)
        assert not third.done()
        reading = asyncio.ensure_future(echo_back(acceptor))
        await streams[0].finish()
        await third
        await reading
        assert [(await acceptor.accept_stream()).attributes["n"] for _ in range(2)] == [1, 2]


async def test_what_is_too_large_is_refused_here() -> None:
    async with two_peers() as (dialer, _):
        stream = await dialer.open_stream(StreamKind.LAYER, {})
        with pytest.raises(LimitError):
            await stream.write(bytes(CHUNK_RAW_BYTES_MAX + 1))
        with pytest.raises(LimitError):
            await stream.write(b"x", "m" * 70_000)
        with pytest.raises(LimitError):
            await dialer.open_stream(StreamKind.LAYER, {"x": "y" * 70_000})
        assert dialer.over is None


async def test_done_needs_the_whole_stream() -> None:
    async with two_peers() as (dialer, acceptor):
        stream = await dialer.open_stream(StreamKind.LAYER, {})
        await stream.write(b"x")
        incoming = await acceptor.accept_stream()
        await until(lambda: bool(incoming._chunks))
        with pytest.raises(UnexpectedError):
            await incoming.done()
        assert (await anext(incoming)).data == b"x"
        with pytest.raises(UnexpectedError):
            await incoming.done()
