"""The relay: bytes go through as they are, in pieces, and no faster than they are taken."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hopwire.errors import WireError
from hopwire.recorder import Recorder
from streamhop.config import Address
from streamhop.net.security import SERVER_NAME

from .identities import Contexts

CONNECTIONS_MAX = 128
"""Connections at once: each takes two buffers, and at most one payload each way while it is put together."""

PIECE_BYTES = 64 * 1024
CONNECT_S_MAX = 10.0
GOODBYE_S_MAX = 2.0
"""How long the other direction of a connection may go on after one has ended, if TLS or an error ended it."""


class Tap:
    """Relays connections while it is entered.

    :param recorder: is told of everything. If its file cannot be written the relay goes on without it.
    :param remark: is told what a user should know besides.
    """

    def __init__(
        self,
        listen: Address,
        upstream: Address,
        recorder: Recorder,
        *,
        contexts: Contexts | None = None,
        remark: Callable[[str], object] = print,
    ) -> None:
        self._listen, self._upstream = listen, upstream
        self._recorder: Recorder | None = recorder
        self._contexts = contexts
        self._remark = remark
        self._tasks = asyncio.TaskGroup()
        self._relays: set[asyncio.Task[None]] = set()
        self._began_ns = time.monotonic_ns()
        self._connections = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        :raises WireError: the address cannot be used.
        """
        context = self._contexts.listening if self._contexts is not None else None
        try:
            self._server = await asyncio.start_server(
                self._met, self._listen.host, self._listen.port, ssl=context, limit=PIECE_BYTES
            )
        except OSError as error:
            raise WireError(f"cannot listen on {self._listen}: {error.strerror or error}") from error
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for relay in self._relays:
            relay.cancel()
        await self._tasks.__aexit__(None, None, None)  # it would make a group of the error

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._server is None:
            raise ValueError("not entered")
        return int(self._server.sockets[0].getsockname()[1])

    # -- one connection --------------------------------------------------------------------------------------------

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._relays) >= CONNECTIONS_MAX:
            self._remark(f"a connection was refused: {CONNECTIONS_MAX} are open")
            writer.transport.abort()
            return
        relay = self._tasks.create_task(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, dialer: asyncio.StreamReader, to_dialer: asyncio.StreamWriter) -> None:
        if self._contexts is not None and not _has_certificate(to_dialer):
            self._remark("a guest without a certificate was refused: pair the two daemons without the tap")
            to_dialer.transport.abort()
            return
        try:
            acceptor, to_acceptor = await self._dial()
        except (OSError, TimeoutError) as error:
            self._remark(f"{self._upstream} cannot be reached: {error or 'no answer'}")
            to_dialer.transport.abort()
            return
        self._connections += 1
        number = self._connections
        try:
            self._tell_opened(number, to_dialer, to_acceptor)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(number, dialer, to_acceptor, from_dialer=True))
                both.create_task(self._pump(number, acceptor, to_dialer, from_dialer=False))
        finally:
            for writer in (to_dialer, to_acceptor):
                writer.transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = self._upstream.host, self._upstream.port
        async with asyncio.timeout(CONNECT_S_MAX):
            if self._contexts is None:
                return await asyncio.open_connection(*where, limit=PIECE_BYTES)
            context = self._contexts.dialing
            return await asyncio.open_connection(*where, ssl=context, server_hostname=SERVER_NAME, limit=PIECE_BYTES)

    async def _pump(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_dialer: bool
    ) -> None:
        """One direction, until it ends."""
        try:
            while data := await reader.read(PIECE_BYTES):
                # Before it is passed on: what answers it must not be seen earlier.
                self._record(lambda recorder, now: recorder.data(now, number, data, from_dialer=from_dialer))
                writer.write(data)
                await writer.drain()
        except OSError:  # ssl.SSLError is one; the other end hears it as an end
            pass
        finally:
            self._record(lambda recorder, now: recorder.ended(now, number, from_dialer=from_dialer))
        await _end(writer)

    # -- what is recorded ------------------------------------------------------------------------------------------

    def _tell_opened(self, number: int, to_dialer: asyncio.StreamWriter, to_acceptor: asyncio.StreamWriter) -> None:
        addresses = _address(to_dialer), _address(to_acceptor)
        tls = self._contexts is not None
        self._record(lambda recorder, now: recorder.opened(now, number, addresses, tls=tls))

    def _record(self, step: Callable[[Recorder, int], object]) -> None:
        if self._recorder is None:
            return
        try:
            step(self._recorder, time.monotonic_ns() - self._began_ns)
        except OSError as error:
            self._recorder = None
            self._remark(f"nothing is recorded any longer: {error.strerror or error}")


def _has_certificate(writer: asyncio.StreamWriter) -> bool:
    tls = writer.get_extra_info("ssl_object")
    return isinstance(tls, ssl.SSLObject) and tls.getpeercert(binary_form=True) is not None


def _address(writer: asyncio.StreamWriter) -> str:
    host, port = (writer.get_extra_info("peername") or ("gone", 0))[:2]
    return str(Address(host, port))


async def _end(writer: asyncio.StreamWriter) -> None:
    """Tell the other end that nothing more comes; the other direction may go on for a while."""
    try:
        if writer.can_write_eof():
            writer.write_eof()
            return
        writer.close()
        async with asyncio.timeout(GOODBYE_S_MAX):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
