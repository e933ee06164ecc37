"""Mutual TLS of sessions, and who is at the other end.

Trust is in certificates, not in names: each side trusts exactly those that it was paired with. Nothing that a peer
sends is looked at before its certificate is known.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

ALPN_SESSION = "streamhop/1"
"""What a session's connections say they speak, RFC 7301."""

ALPN_PAIRING = "streamhop-pair/1"
"""What a guest says that has no certificate to show yet."""

SERVER_NAME = "streamhop"
"""Sent in the clear by every dialer: it must tell nothing."""


_VERIFY_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h; Python has no name for it."""


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """Who a certificate belongs to.

    :param name: what this side calls the peer now.
    :param reference: what stays the same when it is called otherwise.
    """

    name: str
    reference: str


Who = Callable[[bytes], KnownPeer | None]
"""From a certificate in DER form to the peer it belongs to; None if it is nobody's."""

GuestHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Hears out one guest; must not raise what a guest can cause."""

Guests = Callable[[], GuestHandler | None]
"""Gives what serves a guest; None if nobody is expected."""


@dataclass(frozen=True, slots=True)
class Security:
    """How one side of a session protects it.

    :param context: made by :func:`server_context` or :func:`client_context`.
    :param who: asked for each connection when its TLS handshake is over.
    :param guests: takes over a connection that came without a certificate, in order to be paired.
    """

    context: ssl.SSLContext
    who: Who
    guests: Guests | None = None


def server_context(certificate: Path, key: Path, trusted: str, keylog: Path | None = None) -> ssl.SSLContext:
    """A listener's context: dialers must show one of the certificates in ``trusted``, or none and be guests.

    :param trusted: PEM, any number of certificates; more can be added with ``load_verify_locations`` at any time.
    :param keylog: where the secrets of each connection are added, in the format of NSS (``SSLKEYLOGFILE``): whoever
        reads it reads what was said. For a lab alone; the environment has no say in it.
    :raises OSError: the files cannot be read, written or do not belong together (``ssl.SSLError`` is one).
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, trusted, keylog)
    # One that is shown is verified all the same; without one the listener hears only what a guest has to say.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols([ALPN_SESSION, ALPN_PAIRING])
    # A resumed session would bring back a peer that has been unpaired since.
    context.num_tickets = 0
    return context


def client_context(certificate: Path, key: Path, trusted: str, keylog: Path | None = None) -> ssl.SSLContext:
    """A dialer's context: the listener must show the one certificate in ``trusted``.

    :param keylog: as for :func:`server_context`.
    :raises OSError: as :func:`server_context`.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, trusted, keylog)


def _context(
    protocol: ssl._SSLMethod, certificate: Path, key: Path, trusted: str, keylog: Path | None
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    if keylog is not None:
        context.keylog_filename = str(keylog)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # The certificates are their own authorities: each is trusted by itself, not for what it may have signed.
    # And until they are unpaired: a date says nothing about that, and clocks of edge hosts are often wrong.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _VERIFY_NO_CHECK_TIME
    context.load_cert_chain(certificate, key)
    if trusted.strip():
        context.load_verify_locations(cadata=trusted)
    context.set_alpn_protocols([ALPN_SESSION])
    return context
