"""Pairing: two daemons that do not know each other yet come to trust each other's certificates, by a token.

The guest dials one of the token's addresses without a certificate, with an ALPN protocol of its own, and goes on only
if the certificate that it is shown has the token's fingerprint. Then, each message a 4-byte length and a msgpack map::

    guest:   {nonce}
    inviter: {nonce}
    guest:   {name, addresses, certificate, proof}
    inviter: {name, addresses, proof}    or    {error}

The proofs show that both know the token's secret, see :func:`streamhop.identity.token.proof`. TLS keeps everything
from others; the fingerprint keeps a man in the middle out; the proof keeps out whoever was not given the token.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamhop.config import Address, ConfigError, parse_address
from streamhop.identity import (
    ADDRESSES_MAX,
    PEER_NAME,
    DeviceId,
    Identity,
    IdentityError,
    PairingToken,
    Peer,
    PeerBookError,
    fingerprint_of_pem,
    plain_pem,
    proof,
)
from streamhop.identity.token import NONCE_BYTES
from streamhop.net.security import ALPN_PAIRING, SERVER_NAME
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.wirepack import pack, unpack

from .addresses import unreachable_warning
from .directory import PeerDirectory

log = logging.getLogger("streamhop.peering")

MESSAGE_BYTES_MAX = 16 * 1024
ERROR_CHARACTERS_MAX = 500
EXCHANGE_S_MAX = 10.0

_ANOTHER_TOKEN = "make another token there: `streamhop pair`"  # noqa: S105 - no secret
INVITATIONS_MAX = 16


class PairingError(Exception):
    """The two were not paired; the text says why.

    :param fix: what to do about it; empty if there is nothing but what the text says.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


@dataclass(slots=True)
class _Invitation:
    token: PairingToken
    name: str | None
    ends_at: float


class Pairing:
    """Both sides of the exchange.

    :param addresses: where this daemon can be reached, the likeliest first.
    :param clock: seconds that only go forward.
    """

    def __init__(
        self,
        directory: PeerDirectory,
        identity: Identity,
        name: str,
        addresses: tuple[Address, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._name = name
        self._addresses = addresses[:ADDRESSES_MAX]
        self._clock = clock
        self._invitations: list[_Invitation] = []

    @property
    def warning(self) -> str | None:
        """What keeps other hosts from this daemon whoever is paired with it; None if nothing is known to."""
        return unreachable_warning(self._addresses)

    # -- inviter ---------------------------------------------------------------------------------------------------

    def invite(self, seconds: float, name: str | None = None) -> PairingToken:
        """A new token, good for one pairing within ``seconds``.

        :param name: what the guest will be called here; by default as it calls itself.
        :raises PairingError: too many invitations are open.
        """
        self._forget_expired()
        if len(self._invitations) >= INVITATIONS_MAX:
            raise PairingError(f"{INVITATIONS_MAX} invitations are open", "let one be used, or expire")
        token = PairingToken.new(self._identity.id, self._addresses)
        self._invitations.append(_Invitation(token, name, self._clock() + seconds))
        return token

    def _forget_expired(self) -> None:
        now = self._clock()
        self._invitations = [each for each in self._invitations if each.ends_at > now]

    @property
    def inviting(self) -> bool:
        """Whether a guest would be listened to now."""
        self._forget_expired()
        return bool(self._invitations)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear out one guest; never raises what a guest can cause. The listener bounds how many there are at once."""
        try:
            async with asyncio.timeout(EXCHANGE_S_MAX):
                await self._serve(reader, writer)
        except (PairingError, PeerBookError) as error:
            log.warning("a guest was not paired: %s", error)
            try:
                await _send(writer, {"error": str(error)[:ERROR_CHARACTERS_MAX]})
            except OSError:
                return
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.info("a guest went away: %s", error or type(error).__name__)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = _bytes(await _receive(reader), "nonce", NONCE_BYTES)
        ours = secrets.token_bytes(NONCE_BYTES)
        await _send(writer, {"nonce": ours})
        answer = await _receive(reader)
        name, addresses, certificate, identifier = _introduction(answer)
        given = _bytes(answer, "proof", 32)
        nonces = (ours, theirs)
        invitation = self._proven(identifier, nonces, given)
        if identifier == self._identity.id:
            raise PairingError("a host cannot be paired with itself")
        called = self._directory.book.free_name(invitation.name or name, identifier)
        self._directory.add(Peer(called, identifier, addresses, certificate))
        self._invitations.remove(invitation)
        mine = proof(invitation.token.secret, "inviter", self._identity.id, identifier, nonces)
        await _send(writer, {**self._introduce(with_certificate=False), "proof": mine})

    def _proven(self, guest: DeviceId, nonces: tuple[bytes, bytes], given: bytes) -> _Invitation:
        self._forget_expired()
        for invitation in self._invitations:
            expected = proof(invitation.token.secret, "guest", self._identity.id, guest, nonces)
            if hmac.compare_digest(expected, given):
                return invitation
        # Nothing is counted: nobody guesses 128 bits, and whoever reaches the port could void invitations so.
        raise PairingError("the token is not one of this host's, was used, or has expired")

    def _introduce(self, *, with_certificate: bool) -> dict[str, Any]:
        said = {"name": self._name, "addresses": [str(address) for address in self._addresses]}
        if with_certificate:
            said["certificate"] = self._identity.certificate.read_text(encoding="ascii")
        return said

    # -- guest -----------------------------------------------------------------------------------------------------

    async def accept(self, token: PairingToken, name: str | None = None) -> Peer:
        """Use a token: pair this host with the one that made it.

        :param name: what the inviter will be called here; by default as it calls itself.
        :raises PairingError: it cannot be reached, is another device, or refuses.
        :raises PeerBookError: it cannot be called ``name``; nothing was said to it.
        """
        if token.inviter == self._identity.id:
            raise PairingError("the token is this host's own", "use it on the other one")
        if name is not None:
            self._directory.book.check_free(name, token.inviter)
        failures = []
        for address in token.addresses:
            try:
                async with asyncio.timeout(EXCHANGE_S_MAX):
                    return await self._accept_at(address, token, name)
            except asyncio.IncompleteReadError as error:
                raise PairingError(
                    f"{address} closed the connection: the token was used or has expired, or no pairing is open there",
                    _ANOTHER_TOKEN,
                ) from error
            except (OSError, TimeoutError) as error:
                failures.append(f"{address}: {str(error) or 'no answer'}")
        raise PairingError(
            f"the inviting host cannot be reached: {'; '.join(failures)}",
            "let its daemon listen on an address that this host reaches (`listen` in the configuration), then make "
            "another token there",
        )

    async def _accept_at(self, address: Address, token: PairingToken, name: str | None) -> Peer:
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=_guest_context(), server_hostname=SERVER_NAME
        )
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            if shown is None or DeviceId.of_certificate(shown) != token.inviter:
                raise PairingError(f"what answers at {address} is not the device that made the token", _ANOTHER_TOKEN)
            return await self._exchange(reader, writer, token, ssl.DER_cert_to_PEM_cert(shown), name)
        finally:
            writer.close()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        token: PairingToken,
        certificate: str,
        name: str | None,
    ) -> Peer:
        ours = secrets.token_bytes(NONCE_BYTES)
        await _send(writer, {"nonce": ours})
        nonces = (_bytes(await _receive(reader), "nonce", NONCE_BYTES), ours)
        mine = proof(token.secret, "guest", token.inviter, self._identity.id, nonces)
        await _send(writer, {**self._introduce(with_certificate=True), "proof": mine})
        answer = await _receive(reader)
        if "error" in answer:
            raise PairingError(f"the inviting host refuses: {_printable(answer['error'])}", _ANOTHER_TOKEN)
        called, addresses, _, _ = _introduction({**answer, "certificate": certificate})
        expected = proof(token.secret, "inviter", token.inviter, self._identity.id, nonces)
        if not hmac.compare_digest(expected, _bytes(answer, "proof", 32)):
            raise PairingError("the inviting host does not know its own token")
        # The address that worked comes first, whatever the inviter thinks of its addresses.
        known = tuple(dict.fromkeys((*token.addresses, *addresses)))[:ADDRESSES_MAX]
        peer = Peer(self._directory.book.free_name(name or called, token.inviter), token.inviter, known, certificate)
        try:
            self._directory.add(peer)
        except PeerBookError as error:
            raise PairingError(
                f"the other host trusts this one now, but not the reverse: {error}", error.fix
            ) from error
        return peer


def _guest_context() -> ssl.SSLContext:
    """No certificate is trusted: what counts is the fingerprint, looked at when the handshake is over."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN_PAIRING])
    return context


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    data = pack(message)
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    """:raises PairingError: it is no message."""
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > MESSAGE_BYTES_MAX:
        raise PairingError(f"a message of {length} bytes")
    try:
        message = unpack(await reader.readexactly(length), bytes_max=MESSAGE_BYTES_MAX)
    except ProtocolError as error:
        raise PairingError("a message that cannot be read") from error
    if not isinstance(message, dict):
        raise PairingError("a message that is no map")
    return message


def _bytes(message: dict[str, Any], field: str, length: int) -> bytes:
    value = message.get(field)
    if not isinstance(value, bytes) or len(value) != length:
        raise PairingError(f"{field} is not {length} bytes")
    return value


def _printable(reason: object) -> str:
    """What a terminal can show of a reason that the other side gives."""
    text = reason[:ERROR_CHARACTERS_MAX] if isinstance(reason, str) else ""
    return "".join(character if character.isprintable() else "?" for character in text) or "it gives no reason"


def _introduction(message: dict[str, Any]) -> tuple[str, tuple[Address, ...], str, DeviceId]:
    """Name, addresses, certificate and ID that the other side claims.

    :raises PairingError: one of them is none.
    """
    name, addresses, certificate = (message.get(field) for field in ("name", "addresses", "certificate"))
    if not isinstance(name, str) or not PEER_NAME.fullmatch(name):
        raise PairingError("the other host calls itself by what is no name: give it one")
    if not isinstance(addresses, list) or len(addresses) > ADDRESSES_MAX or not isinstance(certificate, str):
        raise PairingError("the other host does not introduce itself")
    if not all(isinstance(address, str) for address in addresses):
        raise PairingError("the other host gives addresses that are none")
    try:
        parsed = tuple(parse_address(address) for address in addresses)
        plain = plain_pem(certificate, "the other host's certificate")
        return name, parsed, plain, fingerprint_of_pem(plain, "the other host's certificate")
    except (ConfigError, IdentityError) as error:
        raise PairingError(str(error)) from error
