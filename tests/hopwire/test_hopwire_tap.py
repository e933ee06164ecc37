"""``hopwire tap``: real sessions through the relay, in the clear and over TLS, and what is kept of them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hopwire_support import seen
from support.net_helpers import CONFIG, DEADLINE_S, Acceptors, until
from support.net_security import Device

from hopwire.cli import main
from hopwire.commands import writing
from hopwire.commands.writing import flow_file
from hopwire.errors import FlowTruncatedError, WireError
from hopwire.events import BrokenSeen, EndSeen, FrameSeen, Seen
from hopwire.flow.reader import FlowReader
from hopwire.flow.records import About, Violation
from hopwire.flow.writer import FlowWriter
from hopwire.recorder import Recorder
from hopwire.roster import Roster
from hopwire.tapping.identities import Contexts, contexts
from hopwire.tapping.relay import Tap
from streamhop.config import Address
from streamhop.net import PeerSession, Security, dial, serve
from streamhop_protocol.messages import Query, Ready, StreamKind

MOVE = bytes(16)
MEMORY = os.urandom(300_000)


class Recording:
    """A recording in memory, and a tap that makes it."""

    def __init__(self, *, payload: bool = False) -> None:
        self.file = io.BytesIO()
        self.told: list[Seen] = []
        self.remarks: list[str] = []
        self.writer = FlowWriter(self.file, About("tap", 0, payload))
        self.recorder = Recorder(self.writer, self.told.append)

    def tap(self, upstream: int, tls: Contexts | None = None) -> Tap:
        listen = Address("127.0.0.1", 0)
        return Tap(listen, Address("127.0.0.1", upstream), self.recorder, contexts=tls, remark=self.remarks.append)

    def frames(self) -> list[FrameSeen]:
        self.writer.close()
        return [event for event in seen(self.file.getvalue()) if isinstance(event, FrameSeen)]


@contextlib.asynccontextmanager
async def tapped(
    recording: Recording, tls: Contexts | None = None, security: tuple[Security | None, Security | None] = (None, None)
) -> AsyncIterator[tuple[PeerSession, PeerSession]]:
    """Both ends of a session through a tap; ``security`` is the dialer's and the acceptor's."""
    accepted = Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="edge-b", on_session=accepted, security=security[1]) as listener,
        recording.tap(listener.port, tls) as tap,
        await dial("127.0.0.1", tap.port, CONFIG, name="edge-a", security=security[0]) as dialer,
    ):
        yield dialer, await accepted.sessions.get()


async def exchange(dialer: PeerSession, acceptor: PeerSession) -> None:
    """A question, an answer, a stream each way that the other takes whole."""
    await dialer.send(Query(MOVE))
    assert await acceptor.receive() == Query(MOVE)
    await acceptor.send(Ready(MOVE, 1))
    assert await dialer.receive() == Ready(MOVE, 1)
    for sender, receiver in ((dialer, acceptor), (acceptor, dialer)):
        stream = await sender.open_stream(StreamKind.MEMORY, {"round": 0})
        taking = asyncio.ensure_future(receiver.accept_stream())
        for at in range(0, len(MEMORY), 100_000):
            await stream.write(MEMORY[at : at + 100_000], {"at": at})
        stream.end()
        incoming = await taking
        assert b"".join([bytes(chunk.data) async for chunk in incoming]) == MEMORY
        await incoming.done()
        await stream.finish()


@pytest.fixture
def devices(tmp_path: Path) -> tuple[Device, Device]:
    return Device(tmp_path, "a"), Device(tmp_path, "b")


def tls_of(tmp_path: Path, a: Device, b: Device) -> tuple[Contexts, tuple[Security, Security]]:
    return contexts(tmp_path / "a", tmp_path / "b"), (a.client(b), b.server(a))


@pytest.mark.parametrize("tls", [False, True])
async def test_a_session_goes_through_and_every_frame_is_kept(
    tmp_path: Path, devices: tuple[Device, Device], tls: bool
) -> None:
    recording = Recording(payload=True)
    contexts_of, security = tls_of(tmp_path, *devices) if tls else (None, (None, None))
    async with tapped(recording, contexts_of, security) as (dialer, acceptor):
        if tls:
            assert (acceptor.peer_name, dialer.peer_name) == ("a", "b")
        await exchange(dialer, acceptor)
        sent = dialer.wire_bytes_sent, acceptor.wire_bytes_sent
    await until(lambda: sum(isinstance(event, EndSeen) for event in recording.told) == 6)
    assert recording.remarks == []
    assert not [event for event in recording.told if isinstance(event, BrokenSeen)]
    frames, roster = recording.frames(), Roster()
    for from_dialer, wire_bytes in ((True, sent[0]), (False, sent[1])):
        there = sum(f.prefix.wire_bytes for f in frames if f.from_dialer == from_dialer and f.type_name != "BYE")
        # a PING or a CREDIT may have left between the count and the end
        assert 0 <= there + 3 * 8 - wire_bytes < 200
        content = b"".join(
            bytes(frame.payload or b"")
            for frame in sorted(
                (f for f in frames if f.type_name == "DATA" and f.from_dialer == from_dialer),
                key=lambda frame: int(frame.field("seq")),
            )
        )
        assert content == MEMORY
    for frame in frames:
        assert frame.error is None
        roster.take(frame)
        assert roster.session(frame.connection) == 1
    assert {frame.connection for frame in frames} == {1, 2, 3}
    types = {frame.type_name for frame in frames}
    assert types >= {"HELLO", "WELCOME", "JOIN", "JOINED", "QUERY", "READY", "OPEN", "DATA", "END", "DONE", "BYE"}


async def test_a_guest_without_a_certificate_is_not_let_through(tmp_path: Path, devices: tuple[Device, Device]) -> None:
    recording = Recording()
    tls, security = tls_of(tmp_path, *devices)
    async with tapped(recording, tls, security), recording.tap(1, tls) as tap:
        _, writer = await asyncio.open_connection("127.0.0.1", tap.port, ssl=_guest())
        await until(lambda: bool(recording.remarks))
        writer.transport.abort()
    assert "without a certificate" in recording.remarks[0]


def _guest() -> object:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["streamhop-pair/1"])
    return context


async def test_nobody_upstream() -> None:
    recording = Recording()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with recording.tap(port) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    assert "cannot be reached" in recording.remarks[0]
    assert recording.told == []


async def test_a_slow_reader_slows_the_writer_down_and_memory_stays() -> None:
    """Nothing piles up in the relay: what the writer gets rid of is what buffers hold."""
    met = asyncio.Queue[asyncio.StreamReader]()

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.put_nowait(reader)
        await over.wait()
        writer.close()

    over = asyncio.Event()
    recording = Recording()
    server = await asyncio.start_server(never_reads, "127.0.0.1", 0, limit=1024)
    async with server, recording.tap(server.sockets[0].getsockname()[1]) as tap:
        _, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        written = 0
        with contextlib.suppress(TimeoutError):
            while written < 200_000_000:
                writer.write(bytes(65536))
                async with asyncio.timeout(0.5):
                    await writer.drain()
                written += 65536
        assert written < 50_000_000
        over.set()
        writer.transport.abort()


async def test_what_does_not_speak_the_protocol_is_passed_on_all_the_same() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    recording = Recording()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with asyncio.timeout(DEADLINE_S), server, recording.tap(server.sockets[0].getsockname()[1]) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(100_000))
        writer.write_eof()
        assert len(await reader.read()) == 100_018
        writer.close()
        await until(lambda: sum(isinstance(event, EndSeen) for event in recording.told) == 2)
    broken = [event for event in recording.told if isinstance(event, BrokenSeen)]
    assert [event.code for event in broken] == ["malformed", "unexpected"]
    assert sum(event.unread_bytes for event in recording.told if isinstance(event, EndSeen)) > 0


class _Full(io.BytesIO):
    """A disk that fills up."""

    def write(self, data: object, /) -> int:
        if self.tell() > 200:
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


async def test_a_full_disk_ends_the_recording_and_not_the_session() -> None:
    recording = Recording()
    recording.recorder = Recorder(FlowWriter(_Full(), About("tap", 0, payload=False)), recording.told.append)
    async with tapped(recording) as (dialer, acceptor):
        await exchange(dialer, acceptor)
    assert recording.remarks == ["nothing is recorded any longer: No space left on device"]


class _FullForAWhile(io.BytesIO):
    """A disk on which somebody makes room again."""

    full = False

    def write(self, data: object, /) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]

    def close(self) -> None:
        """What was written is looked at afterwards."""


@pytest.mark.parametrize("caught", [False, True], ids=["told at once", "told at the end"])
def test_a_recording_with_a_gap_is_one_line_and_does_not_say_that_it_is_whole(
    monkeypatch: pytest.MonkeyPatch, caught: bool
) -> None:
    """The tap goes on without its recording; reading a capture ends."""
    disk = _FullForAWhile()
    monkeypatch.setattr(writing, "_new_file", lambda _: disk)
    told = pytest.raises(WireError, match=r"^x\.flow is not complete: No space left on device$")
    with told, flow_file(Path("x.flow"), About("tap", 0, payload=False)) as writer:
        assert writer is not None
        writer.record(Violation(1, 1, from_dialer=True, code="x", reason="first"))
        disk.full = True
        with contextlib.suppress(OSError) if caught else contextlib.nullcontext():
            writer.record(Violation(2, 1, from_dialer=True, code="x", reason="second"))
        disk.full = False
    disk.seek(0)
    reader = FlowReader(disk)
    with pytest.raises(FlowTruncatedError):
        list(reader)


def test_a_file_that_cannot_be_completed_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path("/dev/full").open("wb")  # noqa: SIM115 - how it is closed is what is tested
    monkeypatch.setattr(writing, "_new_file", lambda _: file)
    told = pytest.raises(WireError, match=r"^x\.flow is not complete: No space left on device$")
    with told, flow_file(Path("x.flow"), About("tap", 0, payload=False)):
        pass
    assert file.closed


def test_another_error_meanwhile_is_none_of_the_recording(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), flow_file(tmp_path / "x.flow", About("tap", 0, payload=False)):
        raise BrokenPipeError


def test_identities_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(WireError, match=r"certificate.pem is missing"):
        contexts(tmp_path, tmp_path)


# -- the command -------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


async def test_the_command(tmp_path: Path) -> None:
    path, accepted = tmp_path / "x.flow", Acceptors()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="edge-b", on_session=accepted) as listener,
    ):
        port = _free_port()
        arguments = ["tap", f"127.0.0.1:{port}", f"127.0.0.1:{listener.port}", "-w", str(path), "-f", "type == QUERY"]
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hopwire", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert running.stdout is not None
        assert running.stderr is not None
        assert f"listening on 127.0.0.1:{port}" in (await running.stderr.readline()).decode()
        async with await dial("127.0.0.1", port, CONFIG, name="edge-a") as dialer:
            await dialer.send(Query(MOVE))
            while "QUERY" not in (await running.stdout.readline()).decode():
                pass
        running.send_signal(signal.SIGINT)
        assert await running.wait() == 0
        await running.communicate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    events = seen(path.read_bytes())
    assert [event.type_name for event in events if isinstance(event, FrameSeen)][:2] == ["HELLO", "WELCOME"]
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert again.stderr == f"hopwire: {path}: File exists\n"
