"""TLS in captures made by hand: two ends without sockets, and the keys that open what they said."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from streamhop.identity import load_or_create
from streamhop.net.security import ALPN_SESSION, SERVER_NAME, client_context, server_context

from .captures import TcpConnection


class TlsConnection:
    """A connection that speaks mutual TLS 1.3 as daemons do.

    :param directory: for two identities; used again if they are there.
    :param keylog: where the keys are written, in the format of NSS.
    :param alpn: what is spoken inside.
    """

    def __init__(self, connection: TcpConnection, directory: Path, keylog: Path, alpn: str = ALPN_SESSION) -> None:
        self._connection = connection
        dialer, acceptor = (load_or_create(directory / name) for name in ("dialer", "acceptor"))
        client = client_context(dialer.certificate, dialer.key, acceptor.certificate.read_text())
        server = server_context(acceptor.certificate, acceptor.key, dialer.certificate.read_text())
        client.keylog_filename = str(keylog)
        client.set_alpn_protocols([alpn])
        self._in = {"dialer": ssl.MemoryBIO(), "acceptor": ssl.MemoryBIO()}
        self._out = {"dialer": ssl.MemoryBIO(), "acceptor": ssl.MemoryBIO()}
        self._ends = {
            "dialer": client.wrap_bio(self._in["dialer"], self._out["dialer"], server_hostname=SERVER_NAME),
            "acceptor": server.wrap_bio(self._in["acceptor"], self._out["acceptor"], server_side=True),
        }
        for by in ("dialer", "acceptor", "dialer", "acceptor"):
            self._shake(by)

    def _shake(self, by: str) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._ends[by].do_handshake()
        self._flush(by)

    def _flush(self, by: str) -> None:
        data = self._out[by].read()
        self._connection.send(by, data)
        self._in["acceptor" if by == "dialer" else "dialer"].write(data)

    def send(self, by: str, data: bytes) -> None:
        """Let ``by`` say ``data`` in as many records as it takes."""
        self._ends[by].write(data)
        self._flush(by)
