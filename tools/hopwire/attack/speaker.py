"""Connections to a daemon on which anything can be said; and all that it answers."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from hopwire.errors import WireError
from hopwire.events import body_fields
from streamhop.config import Address
from streamhop.net.security import SERVER_NAME
from streamhop_protocol.connection import Received, decode_frame, encode_body
from streamhop_protocol.errors import FlowError, ProtocolError
from streamhop_protocol.frames import PREAMBLE, FrameReader
from streamhop_protocol.messages import MoveMessage
from streamhop_protocol.signals import Credit, Done, Ping, Pong, Reset, Welcome
from streamhop_protocol.windows import SendWindow

from .outcomes import Heard

PIECE_BYTES = 64 * 1024
HEARD_MAX = 10_000
STREAMS_MAX = 4096
CONNECTIONS_MAX = 16
CONNECT_S_MAX = 10.0


@dataclass(slots=True)
class _Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    reading: asyncio.Task[None] | None = None
    over: bool = False


class Speaker:
    """Opens connections while it is entered. PINGs are answered, credit is counted; all else is up to the user.

    :param tls: None for the clear.
    """

    def __init__(self, target: Address, tls: ssl.SSLContext | None) -> None:
        self._target = target
        self._tls = tls
        self._tasks = asyncio.TaskGroup()
        self._lines: dict[str, _Line] = {}
        self._windows: dict[int, SendWindow] = {}
        self._began = time.monotonic()
        self._changed = asyncio.Event()
        self.heard: list[Heard] = []
        self.heard_left_out = 0
        self.counts: Counter[str] = Counter()
        """Types of frames that came, those that are not in :attr:`heard` too."""
        self.answers = 0
        """Messages, DONE and RESET that came: what a sender may have to wait for."""
        self.welcome: Welcome | None = None
        self.sent_frames = 0
        self.sent_bytes = 0

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines.values():
            if line.reading is not None:
                line.reading.cancel()
            line.writer.transport.abort()
        await self._tasks.__aexit__(None, None, None)  # it would make a group of the error

    @property
    def now_s(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._began

    # -- speaking --------------------------------------------------------------------------------------------------

    async def connect(self, name: str, *, preamble: bool = True) -> None:
        """Open a connection, and call it so.

        :raises WireError: nobody answers, the daemon does not trust these keys, or there are too many.
        """
        if name in self._lines:
            raise WireError(f"a connection {name!r} is open already")
        if len(self._lines) >= CONNECTIONS_MAX:
            raise WireError(f"more than {CONNECTIONS_MAX} connections")
        server_name = None if self._tls is None else SERVER_NAME
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                reader, writer = await asyncio.open_connection(
                    self._target.host, self._target.port, ssl=self._tls, server_hostname=server_name, limit=PIECE_BYTES
                )
        except (OSError, TimeoutError) as error:
            raise WireError(f"{self._target} cannot be reached: {error or 'no answer'}") from error
        line = self._lines[name] = _Line(reader, writer)
        line.reading = self._tasks.create_task(self._read(name, line))
        if preamble:
            await self.write(name, PREAMBLE)

    async def write(self, name: str, data: bytes | memoryview) -> bool:
        """Send bytes; waits while the daemon does not take them. Returns whether the connection was still there."""
        line = self._line(name)
        if line.over:
            return False
        try:
            line.writer.write(data)
            await line.writer.drain()
        except OSError:
            return False
        self.sent_bytes += len(data)
        return True

    def take_credit(self, stream: int, cost_bytes: int) -> bool:
        """Use credit of a stream, if there is as much."""
        window = self._windows.get(stream)
        if window is None:
            if len(self._windows) >= STREAMS_MAX:
                raise WireError(f"more than {STREAMS_MAX} streams")
            window = self._windows[stream] = SendWindow()
        if cost_bytes > window.available_bytes:
            return False
        window.take(cost_bytes)
        return True

    def close(self, name: str) -> None:
        """Close a connection once what was written has gone."""
        self._line(name).writer.close()

    def _line(self, name: str) -> _Line:
        line = self._lines.get(name)
        if line is None:
            raise WireError(f"there is no connection {name!r}; open are {', '.join(self._lines) or 'none'}")
        return line

    # -- hearing ---------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether every connection has ended."""
        return all(line.over for line in self._lines.values())

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``condition`` holds; False if it does not in time, or cannot any more."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    if self.over:
                        return False
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    async def _read(self, name: str, line: _Line) -> None:
        frames = FrameReader()
        frames.trusted = True
        ended = "closed"
        try:
            while data := await line.reader.read(PIECE_BYTES):
                frames.feed(data)
                while (frame := frames.next_frame()) is not None:
                    await self._hear(name, decode_frame(frame))
        except ProtocolError as error:
            self._note(name, "broke the protocol", {"code": error.code, "reason": str(error)})
            line.writer.transport.abort()
        except OSError as error:  # ssl.SSLError is one
            ended = "lost"
            self._note(name, ended, {"reason": str(error)})
        finally:
            line.over = True
            if ended == "closed":
                self._note(name, ended, {})
            line.writer.close()

    async def _hear(self, name: str, received: Received) -> None:
        body = received.body
        what = type(body).__name__.upper()
        self.counts[what] += 1
        self._changed.set()
        match body:
            case Ping(number=number):
                await self.write(name, encode_body(Pong(number)))
                return
            case Pong():
                return
            case Credit(size_bytes=size_bytes):
                self._credit(received.stream, size_bytes)
                return
            case Welcome():
                self.welcome = body
            case MoveMessage() | Done() | Reset():
                self.answers += 1
        self._note(name, what, body_fields(body), received.stream)

    def _credit(self, stream: int, size_bytes: int) -> None:
        window = self._windows.get(stream)
        try:
            if window is not None:
                window.grant(size_bytes)
        except FlowError:
            pass  # a fault may make the daemon count otherwise than we do

    def _note(self, name: str, what: str, fields: dict[str, Any], stream: int = 0) -> None:
        if len(self.heard) < HEARD_MAX:
            self.heard.append(Heard(self.now_s, name, what, fields, stream))
        else:
            self.heard_left_out += 1
        self._changed.set()
