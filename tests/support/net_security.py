"""Devices with identities of their own, for the tests of sessions over TLS."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streamhop.identity import DeviceId, Identity, load_or_create
from streamhop.net import KnownPeer, Security, client_context, server_context


class Device:
    """A device with its identity and whom it trusts."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.identity: Identity = load_or_create(directory / name)
        self.trusted: dict[DeviceId, str] = {}

    @property
    def pem(self) -> str:
        return self.identity.certificate.read_text()

    def trust(self, other: Device) -> None:
        self.trusted[other.identity.id] = other.name

    def who(self, certificate: bytes) -> KnownPeer | None:
        identifier = DeviceId.of_certificate(certificate)
        name = self.trusted.get(identifier)
        return None if name is None else KnownPeer(name, str(identifier))

    def server(self, *others: Device) -> Security:
        for other in others:
            self.trust(other)
        context = server_context(self.identity.certificate, self.identity.key, "".join(o.pem for o in others))
        return Security(context, self.who)

    def client(self, other: Device) -> Security:
        self.trust(other)
        return Security(client_context(self.identity.certificate, self.identity.key, other.pem), self.who)

    def certified_again(self, directory: Path, name: str, days: tuple[int, int]) -> Device:
        """The same key in another certificate.

        :param days: from when until when it is valid, counted from today.
        """
        key = serialization.load_pem_private_key(self.identity.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "streamhop")])
        begins, ends = (dt.datetime.now(dt.UTC) + dt.timedelta(days=each) for each in days)
        made = (
            x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number(), begins, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        (directory / name).mkdir(mode=0o700)
        for file, content in (
            ("key.pem", self.identity.key.read_bytes()),
            ("certificate.pem", made.public_bytes(serialization.Encoding.PEM)),
        ):
            (directory / name / file).write_bytes(content)
            (directory / name / file).chmod(0o600)
        return Device(directory, name)
