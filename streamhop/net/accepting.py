"""Listening sockets, and the loop that accepts from them.

An event loop's own server makes a transport, and with TLS a handshake, of whatever comes. Here somebody else is asked
first, with nothing but the socket there, and what is taken at once is bounded: descriptors cannot pile up in a burst.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

log = logging.getLogger("streamhop.net")

BACKLOG = 1024
"""Connections that the kernel keeps ready; it drops what is beyond, and a dialer tries again only after a second."""

ACCEPTED_AT_ONCE_MAX = 128
"""After so many the event loop gets to serve its sessions."""

SHORTAGE_PAUSE_S = 0.1
_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

OnAccepted = Callable[[socket.socket], None]
"""Owns the socket from then on, which does not block. Must not raise."""


class Acceptor:
    """The sockets of one address, which may be a name of several."""

    def __init__(self, on_accepted: OnAccepted) -> None:
        self._on_accepted = on_accepted
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._pauses: set[asyncio.TimerHandle] = set()

    async def bind(self, host: str, port: int) -> None:
        """Take the port on every address of ``host``.

        :raises OSError: one of them cannot be used, or the name is not known.
        """
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                self._sockets.append(_listening(family, kind, protocol, address))
        except OSError:
            self.close()
            raise

    @property
    def port(self) -> int:
        """The port of the first address, also if 0 was asked for.

        :raises ValueError: nothing is bound.
        """
        if not self._sockets:
            raise ValueError("the listener is not bound")
        return int(self._sockets[0].getsockname()[1])

    def start(self) -> None:
        """Accept from now on."""
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Give the port back; what waits in the kernel's queue is refused."""
        for pause in self._pauses:
            pause.cancel()
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE_MAX):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _SHORTAGE:
                    self._pause(listening, error)
                    return
                continue  # the connection ended in the queue: accept(2) passes on its error
            accepted.setblocking(False)
            self._on_accepted(accepted)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Without this the socket would be ready again and again."""
        log.warning("no connection can be accepted now: %s", error.strerror)
        self._loop.remove_reader(listening)

        def resume() -> None:
            self._pauses.discard(pause)
            self._loop.add_reader(listening, self._accept, listening)

        pause = self._loop.call_later(SHORTAGE_PAUSE_S, resume)
        self._pauses.add(pause)


def _listening(family: int, kind: int, protocol: int, address: object) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # The IPv4 addresses of the same name have sockets of their own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
