"""Pairing tokens: one line that a person carries from one host to the other.

A token holds what the other host needs to find this one, to know it when it has found it, and to prove that it was
invited: addresses, fingerprint, secret. Its text is ``streamhop-pair-1:`` and base64url of msgpack, with a checksum, so
that half a token is noticed before anything is asked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Self

from streamhop.config import Address, ConfigError, parse_address
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.wirepack import pack, unpack

from .device_id import FINGERPRINT_BYTES, DeviceId
from .peer_book import ADDRESSES_MAX

PREFIX = "streamhop-pair-1:"
SECRET_BYTES = 16
NONCE_BYTES = 32
TOKEN_CHARACTERS_MAX = 4096
_CHECKSUM_BYTES = 4


class BadTokenError(ValueError):
    """The text is no pairing token; it says why."""

    fix = "give the whole line that `streamhop pair` printed on the other host"


@dataclass(frozen=True, slots=True)
class PairingToken:
    """An invitation by the device ``inviter``; whoever has it may be paired with that device."""

    inviter: DeviceId
    addresses: tuple[Address, ...]
    secret: bytes

    @classmethod
    def new(cls, inviter: DeviceId, addresses: tuple[Address, ...]) -> Self:
        """A token with a secret that nobody has yet."""
        return cls(inviter, addresses[:ADDRESSES_MAX], secrets.token_bytes(SECRET_BYTES))

    def __str__(self) -> str:
        """The token's text. It is a secret until it is used."""
        body = pack([self.inviter.fingerprint, [str(a) for a in self.addresses], self.secret])
        return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).decode().rstrip("=")

    def __repr__(self) -> str:
        """Without the secret: tokens must not get into logs."""
        return f"PairingToken(inviter={self.inviter.short}, addresses={self.addresses})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a token's text.

        :raises BadTokenError: it is none, or not all of it.
        """
        text = text.strip()
        if len(text) > TOKEN_CHARACTERS_MAX or not text.startswith(PREFIX):
            raise BadTokenError(f"a pairing token begins with {PREFIX}")
        encoded = text.removeprefix(PREFIX)
        try:
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise BadTokenError("the token has characters that no token has") from None
        body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if not hmac.compare_digest(_checksum(body), checksum):
            raise BadTokenError("the token is not complete, or mistyped")
        try:
            return cls._from_fields(unpack(body))
        except (ValueError, TypeError, ConfigError, ProtocolError) as error:
            raise BadTokenError(f"the token makes no sense: {error}") from error

    @classmethod
    def _from_fields(cls, fields: Any) -> Self:
        fingerprint, addresses, secret = fields
        if not isinstance(fingerprint, bytes) or len(fingerprint) != FINGERPRINT_BYTES:
            raise ValueError("no fingerprint")
        if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
            raise ValueError("no secret")
        if not isinstance(addresses, list) or not 1 <= len(addresses) <= ADDRESSES_MAX:
            raise ValueError("no addresses")
        if not all(isinstance(address, str) for address in addresses):
            raise ValueError("no addresses")
        return cls(DeviceId(fingerprint), tuple(map(parse_address, addresses)), secret)


def proof(secret: bytes, role: str, inviter: DeviceId, guest: DeviceId, nonces: tuple[bytes, bytes]) -> bytes:
    """What shows that one knows a token's secret, and whom one takes the two devices for.

    HMAC-SHA-256 over role, both fingerprints and both nonces: it fits this exchange between these two alone.

    :param role: ``inviter`` or ``guest``, so that neither proof can be sent back as the other.
    :param nonces: the inviter's and the guest's, 32 bytes each.
    """
    message = b"\0".join((b"streamhop pairing 1", role.encode()))
    message += inviter.fingerprint + guest.fingerprint + nonces[0] + nonces[1]
    return hmac.digest(secret, message, "sha256")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]
