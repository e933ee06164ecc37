"""Devices with identities of their own, for the tests of sessions over TLS."""

from __future__ import annotations

from pathlib import Path

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
