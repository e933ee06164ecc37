"""TLS of both sides of the tap: to each daemon it is the other one, with that one's key. A thing for the lab."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from hopwire.errors import WireError
from streamhop.identity import IdentityError, load_or_create
from streamhop.identity.certificate import plain_pem
from streamhop.net.security import client_context, server_context


@dataclass(frozen=True, slots=True)
class Contexts:
    """How the tap shows itself.

    :param listening: to the dialer, as the acceptor.
    :param dialing: to the acceptor, as the dialer.
    """

    listening: ssl.SSLContext
    dialing: ssl.SSLContext


def contexts(dialer: Path, acceptor: Path) -> Contexts:
    """Contexts for a tap between two daemons whose identities are at hand.

    :param dialer: the directory ``identity`` of the dialing daemon's state directory: ``certificate.pem``, ``key.pem``.
    :param acceptor: the same of the daemon that is dialed.
    :raises WireError: one of the files is missing, or cannot be used.
    """
    dialers, acceptors = _identity(dialer), _identity(acceptor)
    return Contexts(
        listening=server_context(acceptors.certificate, acceptors.key, dialers.pem),
        dialing=client_context(dialers.certificate, dialers.key, acceptors.pem),
    )


def dialing_context(identity: Path, peer_certificate: Path) -> ssl.SSLContext:
    """A context to dial with as the daemon of ``identity``.

    :param peer_certificate: PEM of the daemon that is dialed.
    :raises WireError: one of the files is missing, or cannot be used.
    """
    own = _identity(identity)
    return client_context(own.certificate, own.key, _pem(peer_certificate))


@dataclass(frozen=True, slots=True)
class _Files:
    certificate: Path
    key: Path
    pem: str


def _identity(directory: Path) -> _Files:
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    for path in (certificate, key):
        if not path.is_file():
            raise WireError(f"{path} is missing: name the directory `identity` of a daemon's state directory")
    try:
        found = load_or_create(directory)
    except IdentityError as error:
        raise WireError(str(error)) from error
    return _Files(found.certificate, found.key, _pem(certificate))


def _pem(path: Path) -> str:
    try:
        return plain_pem(path.read_text(encoding="ascii"), str(path))
    except (OSError, UnicodeDecodeError, IdentityError) as error:
        raise WireError(f"{path}: {error}") from error
