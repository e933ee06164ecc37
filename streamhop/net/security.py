"""Mutual TLS of sessions, and who is at the other end.

Trust is in certificates, not in names: each side trusts exactly those that it was paired with. Nothing that a peer
sends is looked at before its certificate is known.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ALPN_SESSION = "streamhop/1"
"""What a session's connections say they speak, RFC 7301."""

SERVER_NAME = "streamhop"
"""Sent in the clear by every dialer: it must tell nothing."""

Who = Callable[[bytes], str | None]
"""From a certificate in DER form to the name of the peer it belongs to; None if it is nobody's."""


@dataclass(frozen=True, slots=True)
class Security:
    """How one side of a session protects it.

    :param context: made by :func:`server_context` or :func:`client_context`.
    :param who: asked for each connection when its TLS handshake is over.
    """

    context: ssl.SSLContext
    who: Who


def server_context(certificate: Path, key: Path, trusted: str) -> ssl.SSLContext:
    """A listener's context: dialers must show one of the certificates in ``trusted``.

    :param trusted: PEM, any number of certificates; more can be added with ``load_verify_locations`` at any time.
    :raises OSError: the files cannot be read or do not belong together (``ssl.SSLError`` is one).
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, trusted)
    # A resumed session would bring back a peer that has been unpaired since.
    context.num_tickets = 0
    return context


def client_context(certificate: Path, key: Path, trusted: str) -> ssl.SSLContext:
    """A dialer's context: the listener must show the one certificate in ``trusted``.

    :raises OSError: as :func:`server_context`.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, trusted)


def _context(protocol: ssl._SSLMethod, certificate: Path, key: Path, trusted: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # The certificates are their own authorities: each is trusted by itself, not for what it may have signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(certificate, key)
    if trusted.strip():
        context.load_verify_locations(cadata=trusted)
    context.set_alpn_protocols([ALPN_SESSION])
    return context
