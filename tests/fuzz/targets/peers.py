"""Whom to trust: pairing, tokens, certificates, the files of the peer book."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
from cryptography.utils import CryptographyDeprecationWarning

from fuzz.target import Target
from fuzz.targets.scratch import scratch
from streamhop.config import Address, Config
from streamhop.identity import DeviceId, IdentityError, PairingToken, PeerBook, PeerBookError, load_or_create
from streamhop.identity.certificate import fingerprint_of_pem
from streamhop.identity.token import PREFIX, BadTokenError
from streamhop.net.security import server_context
from streamhop.peering import Pairing, PairingError, PeerDirectory

warnings.simplefilter("ignore", CryptographyDeprecationWarning)

_HOME = tempfile.TemporaryDirectory(prefix="streamhop-fuzz-")
_IDENTITY = load_or_create(Path(_HOME.name) / "mine")
_OTHER = load_or_create(Path(_HOME.name) / "theirs")
MY_PEM = _IDENTITY.certificate.read_text(encoding="ascii")
THEIR_PEM = _OTHER.certificate.read_text(encoding="ascii")
SECRET = bytes(16)
NONCE = b"n" * 32
_LOOP = asyncio.new_event_loop()


class _Sink:
    """Where answers go."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


def _pairing(directory: Path) -> Pairing:
    book = PeerBook(directory / "peers")
    peers = PeerDirectory(Config(name="mine", state_dir=directory), _IDENTITY, book)
    return Pairing(peers, _IDENTITY, "mine", (Address("mine"),))


def _said(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(loop=_LOOP)
    reader.feed_data(data)
    reader.feed_eof()
    return reader


def _still_starts(directory: Path) -> None:
    """Whatever a peer said, the daemon must be able to start with the book that came of it."""
    book = PeerBook(directory / "peers")
    server_context(_IDENTITY.certificate, _IDENTITY.key, book.certificates)


class _KnowsTheSecret(Pairing):
    """A guest that has the token: what it says after its proof counts."""

    def _proven(self, guest: DeviceId, nonces: tuple[bytes, bytes], given: bytes) -> Any:
        return self._invitations[0]


def run_pairing_inviter(data: bytes) -> None:
    """All that a guest with a token says. Never raises: what is wrong is logged."""
    with scratch() as directory:
        pairing = _pairing(directory)
        pairing.__class__ = _KnowsTheSecret
        pairing.invite(60)
        sink = _Sink()
        _LOOP.run_until_complete(pairing.serve(_said(data), sink))  # type: ignore[arg-type]
        assert len(sink.sent) < 32 * 1024
        _still_starts(directory)


def run_pairing_guest(data: bytes) -> None:
    """All that an inviter says."""
    with scratch() as directory:
        pairing = _pairing(directory)
        token = PairingToken(_OTHER.id, (Address("theirs"),), SECRET)
        try:
            _LOOP.run_until_complete(pairing._exchange(_said(data), _Sink(), token, THEIR_PEM, None))  # type: ignore[arg-type]
        finally:
            _still_starts(directory)


def run_token(data: bytes) -> None:
    """A token's text; if it does not begin like one, its fields, with prefix and checksum made to fit."""
    text = data.decode("utf-8", "replace") if data.startswith(PREFIX.encode()) else token_text(data)
    token = PairingToken.parse(text)
    assert PairingToken.parse(str(token)) == token


def token_text(body: bytes) -> str:
    """A token of any fields."""
    return PREFIX + base64.urlsafe_b64encode(body + hashlib.sha256(body).digest()[:4]).decode().rstrip("=")


def run_certificate(data: bytes) -> None:
    """A certificate: PEM, or DER that is put into PEM."""
    text = data.decode("utf-8", "replace") if data.startswith(b"-----") else pem_of(data)
    fingerprint_of_pem(text, "it")
    server_context(_IDENTITY.certificate, _IDENTITY.key, text)


def pem_of(der: bytes) -> str:
    """PEM of any bytes."""
    return ssl.DER_cert_to_PEM_cert(der)


def run_peer_file(data: bytes) -> None:
    """A file of the peer book."""
    with scratch() as directory:
        (directory / "peers").mkdir()
        (directory / "peers" / "edge-b.json").write_bytes(data)
        book = PeerBook(directory / "peers")
        server_context(_IDENTITY.certificate, _IDENTITY.key, book.certificates)
        for text in (data[:60].decode("utf-8", "replace"), "edge-b"):
            try:
                book.find(text)
            except PeerBookError:
                continue


def framed(message: object) -> bytes:
    """A message of the exchange."""
    data: bytes = msgpack.packb(message)
    return len(data).to_bytes(4, "big") + data


def guest_says(**more: object) -> bytes:
    """Both messages of a guest, with other fields in the second."""
    introduction = {"name": "theirs", "addresses": ["theirs:4711"], "certificate": THEIR_PEM, "proof": bytes(32)}
    return framed({"nonce": NONCE}) + framed({**introduction, **more})


def _guest_seeds() -> Iterator[bytes]:
    yield framed({"nonce": NONCE}) + framed({"error": "no"})
    yield framed({"nonce": NONCE}) + framed({"name": "theirs", "addresses": ["a:1"], "proof": bytes(32)})


def _inviter_seeds() -> Iterator[bytes]:
    yield guest_says()
    yield guest_says(addresses=["[::1]:1", "a"], name="edge-b")


def _token_seeds() -> Iterator[bytes]:
    token = PairingToken(_OTHER.id, (Address("theirs"), Address("::1", 1)), SECRET)
    yield str(token).encode()
    yield msgpack.packb([_OTHER.id.fingerprint, ["theirs:4711"], SECRET])


def _certificate_seeds() -> Iterator[bytes]:
    yield THEIR_PEM.encode()
    yield ssl.PEM_cert_to_DER_cert(THEIR_PEM)


def peer_file(**more: object) -> bytes:
    """A file of the peer book, with other fields."""
    kept = {"name": "edge-b", "id": str(_OTHER.id), "addresses": ["b:1"], "certificate": THEIR_PEM}
    return json.dumps({**kept, **more}).encode()


def _file_seeds() -> Iterator[bytes]:
    yield peer_file()


TARGETS = {
    "pairing_inviter": Target(run_pairing_inviter, _inviter_seeds, ()),
    "pairing_guest": Target(run_pairing_guest, _guest_seeds, (PairingError, OSError, EOFError)),
    "token": Target(run_token, _token_seeds, (BadTokenError,)),
    "certificate": Target(run_certificate, _certificate_seeds, (IdentityError,)),
    "peer_file": Target(run_peer_file, _file_seeds, (PeerBookError,)),
}
