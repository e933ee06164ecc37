"""A daemon's own key and self-signed certificate, made once and kept in its state directory."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .device_id import DeviceId

COMMON_NAME = "streamhop"
"""The same for all: what counts is the fingerprint, and a name in a certificate is one that nobody has checked."""

PEM_BYTES_MAX = 16 * 1024

_NOT_BEFORE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
"""For ever: trust ends by unpairing, and edge hosts may not know the time. RFC 5280, 4.1.2.5, has a year for that."""


class IdentityError(Exception):
    """The key or the certificate cannot be used or made; the text names the file."""


@dataclass(frozen=True, slots=True)
class Identity:
    """This daemon.

    :param certificate: file of its certificate, PEM.
    :param key: file of its private key, PEM, readable to its owner alone.
    """

    id: DeviceId
    certificate: Path
    key: Path


def load_or_create(directory: Path) -> Identity:
    """The identity in ``directory``, made there if there is none.

    :raises IdentityError: one of the two files is missing, damaged or open to others, or cannot be written.
    """
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    try:
        if not certificate.exists() and not key.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(certificate, key)
        if key.stat().st_mode & 0o077:
            raise IdentityError(f"{key} is open to others: chmod 600 it, and think about who has read it")
        identifier = fingerprint_of_pem(certificate.read_text(encoding="ascii"), str(certificate))
        # Says whether the key is the certificate's.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityError(f"{directory}: this daemon's key or certificate cannot be used: {error}") from error
    return Identity(identifier, certificate, key)


def _create(certificate: Path, key: Path) -> None:
    """Key first: a certificate without its key would be an identity that is lost."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(COMMON_NAME)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, secret)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def fingerprint_of_pem(text: str, where: str) -> DeviceId:
    """The ID of the one certificate in ``text``.

    :raises IdentityError: as :func:`plain_pem`.
    """
    return DeviceId.of_certificate(ssl.PEM_cert_to_DER_cert(plain_pem(text, where)))


def plain_pem(text: str, where: str) -> str:
    """The one certificate in ``text``, without anything around it.

    :param where: names the text in errors.
    :raises IdentityError: it is not exactly one certificate, or none that TLS can be told to trust.
    """
    if len(text) > PEM_BYTES_MAX:
        raise IdentityError(f"{where}: too long for a certificate")
    try:
        found = x509.load_pem_x509_certificates(text.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise IdentityError(f"{where}: not a certificate in PEM form: {error}") from error
    if len(found) != 1:
        raise IdentityError(f"{where}: {len(found)} certificates instead of one")
    plain = ssl.DER_cert_to_PEM_cert(found[0].public_bytes(serialization.Encoding.DER))
    try:
        # Some that one library can read the other cannot: kept, such a one would keep the listener from starting.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=plain)
    except ssl.SSLError as error:
        raise IdentityError(f"{where}: TLS cannot use this certificate: {error.reason or error}") from error
    return plain
