"""The peers that this daemon trusts: paired ones, kept in its state directory, and those that the configuration names.

A paired peer is one file, ``<name>.json``, written whole or not at all::

    {"name": "edge-b", "id": "MFZWI3D-...", "addresses": ["edge-b:4711"], "certificate": "-----BEGIN ..."}
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from streamhop.config import Address, Config, ConfigError, parse_address

from .certificate import IdentityError, fingerprint_of_pem, plain_pem
from .device_id import SHORT_CHARACTERS, BadDeviceIdError, DeviceId

PEERS_MAX = 1000
FILE_BYTES_MAX = 64 * 1024
ADDRESSES_MAX = 16

PEER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
"""What a peer may be called: it becomes a file's name, and people type it."""

HOW_TO_PAIR = "pair the two: `streamhop pair` on one host, `streamhop pair TOKEN` on the other"

NAMES_TOLD_MAX = 20
"""Names that a message lists."""

_SUFFIX = ".json"


class PeerBookError(Exception):
    """A peer is not known, ambiguous, or cannot be kept; the text says which.

    :param fix: what to do about it; empty if there is nothing but what the text says.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


class UnknownPeerError(PeerBookError):
    """Nobody is called so, and nobody's ID is or begins so."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A daemon that is trusted.

    :param addresses: where it may be found, the likeliest first; may be empty for one that only calls.
    :param certificate: PEM, of which ``id`` is the fingerprint.
    :param configured: whether the configuration names it, so that only the configuration can change it.
    """

    name: str
    id: DeviceId
    addresses: tuple[Address, ...]
    certificate: str
    configured: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.addresses) > ADDRESSES_MAX:
            raise PeerBookError(f"{self.name}: more than {ADDRESSES_MAX} addresses")


def check_name(name: str) -> str:
    """``name``, if a peer may be called so.

    :raises PeerBookError: it may not.
    """
    if not PEER_NAME.fullmatch(name):
        raise PeerBookError(f"{name!r} is no name for a peer: letters, digits, '_', '.' and '-', at most 63")
    if _as_id(name) is not None:
        raise PeerBookError(f"{name!r} is no name for a peer: it is a device ID, and may be another device's")
    return name


def told_names(names: Iterable[str]) -> str:
    """``names`` for a message: sorted, and only the first of very many."""
    found = sorted(names)
    more = f" and {len(found) - NAMES_TOLD_MAX} more" if len(found) > NAMES_TOLD_MAX else ""
    return ", ".join(found[:NAMES_TOLD_MAX]) + more


def _as_id(text: str) -> DeviceId | None:
    """The ID that ``text`` is, all of it; None if it is none."""
    try:
        return DeviceId.parse(text)
    except BadDeviceIdError:
        return None


class PeerBook:
    """All trusted peers. Every change is on disk when its method returns."""

    def __init__(self, directory: Path, configured: Iterable[Peer] = (), own_name: str = "") -> None:
        """Read what is kept in ``directory``, which is made when the first peer is added.

        :param configured: peers from the configuration; they hide kept ones of the same name or ID.
        :param own_name: what this host is called: no peer is to be called so from now on.
        :raises PeerBookError: a file is damaged, or two peers share a name or an ID.
        """
        self._directory = directory
        self._own_name = own_name
        self._peers: dict[str, Peer] = {}
        for peer in configured:
            self._take(peer)
        ids = {peer.id for peer in self._peers.values()}
        for peer in map(_read, sorted(directory.glob(f"*{_SUFFIX}")) if directory.is_dir() else ()):
            if peer.name not in self._peers and peer.id not in ids:
                self._take(peer)

    def _take(self, peer: Peer) -> None:
        if peer.name in self._peers:
            raise PeerBookError(f"two peers are called {peer.name}")
        if (same := self.by_id(peer.id)) is not None:
            raise PeerBookError(f"{peer.name} and {same.name} are the same device, {peer.id.short}")
        if len(self._peers) >= PEERS_MAX:
            raise PeerBookError(f"more than {PEERS_MAX} peers")
        self._peers[peer.name] = peer

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def certificates(self) -> str:
        """Everybody's certificates, one after the other: what TLS trusts."""
        return "\n".join(peer.certificate for peer in self._peers.values())

    def by_id(self, identifier: DeviceId) -> Peer | None:
        """The peer of that ID, or None."""
        return next((peer for peer in self._peers.values() if peer.id == identifier), None)

    def find(self, text: str) -> Peer:
        """A peer as people write it: its name, its ID, or the beginning of its ID.

        A whole ID is that device or nobody, whatever others are called: the journal names peers so.

        :raises UnknownPeerError: there is none.
        :raises PeerBookError: several IDs begin so, or one peer is called as another's ID begins.
        """
        if (identifier := _as_id(text)) is not None:
            if (peer := self.by_id(identifier)) is None:
                raise UnknownPeerError(
                    f"{identifier.short} is not a peer of this host any longer, or never was", HOW_TO_PAIR
                )
            return peer
        named, beginning = self._peers.get(text), self._beginning(text)
        if named is not None and all(peer.id == named.id for peer in beginning):
            return named
        if named is not None:
            raise PeerBookError(f"{text!r} is a peer's name and the beginning of another's ID", "give the whole ID")
        if len(beginning) > 1:
            names = told_names(peer.name for peer in beginning)
            raise PeerBookError(f"{text!r} is the beginning of several IDs: {names}", "give the name, or the whole ID")
        if not beginning:
            raise self._unknown(text)
        return beginning[0]

    def _unknown(self, text: str) -> UnknownPeerError:
        if text == self._own_name:
            return UnknownPeerError(
                f"{text!r} is this host itself", "give the name of another one, see `streamhop peers`"
            )
        unknown = f"{text!r} is not a peer of this host"
        if not self._peers:
            return UnknownPeerError(f"{unknown}: none is known yet", HOW_TO_PAIR)
        return UnknownPeerError(
            f"{unknown}: known are {told_names(self._peers)}", f"give one of them, or {HOW_TO_PAIR}"
        )

    def _beginning(self, text: str) -> list[Peer]:
        """The peers whose IDs begin with ``text``; none if it is too short to tell devices apart."""
        plain = text.upper().replace("-", "").strip()
        if len(plain) < SHORT_CHARACTERS:
            return []
        return [peer for peer in self._peers.values() if str(peer.id).replace("-", "").startswith(plain)]

    def free_name(self, wanted: str, identifier: DeviceId) -> str:
        """``wanted``, or with a number if another device, or this host, is called so.

        A host that calls itself by what is an ID, or the beginning of another peer's, is called otherwise: it chose
        that itself.
        """
        if PEER_NAME.fullmatch(wanted) and self._is_taken_for_id(wanted, identifier):
            wanted = f"peer-{identifier.short}"
        name, number = check_name(wanted), 1
        while self._is_held(name, identifier):
            number += 1
            name = f"{wanted[:56]}-{number}"
        return name

    def check_free(self, name: str, identifier: DeviceId) -> None:
        """Whether a user may call that device ``name``.

        :raises PeerBookError: it is no name, this host's own, another peer's, or taken for another peer's ID.
        """
        check_name(name)
        if name == self._own_name:
            raise PeerBookError(f"{name} is what this host itself is called", "choose another name")
        if self._is_held(name, identifier):
            raise _taken(name)
        if self._is_taken_for_id(name, identifier):
            raise PeerBookError(f"{name} is the beginning of another peer's ID", "choose another name")

    def _is_held(self, name: str, identifier: DeviceId) -> bool:
        """Whether this host or another device than that is called ``name``."""
        holder = self._peers.get(name)
        return holder.id != identifier if holder is not None else name == self._own_name

    def _is_taken_for_id(self, name: str, identifier: DeviceId) -> bool:
        return _as_id(name) is not None or any(peer.id != identifier for peer in self._beginning(name))

    # -- changes ---------------------------------------------------------------------------------------------------

    def add(self, peer: Peer) -> None:
        """Trust ``peer``; one of the same ID is replaced.

        :raises PeerBookError: another one is called so, the configuration names it, or it cannot be written.
        """
        before = self.by_id(peer.id)
        if before is not None:
            self._check_ours(before)
        holder = self._peers.get(peer.name)
        if holder is not None and holder.id != peer.id:
            raise _taken(peer.name)
        if before is None and len(self._peers) >= PEERS_MAX:
            raise PeerBookError(f"there are {PEERS_MAX} peers already", "unpair one that is not needed")
        self._write(peer)
        if before is not None and before.name != peer.name:
            self._erase(before)
        self._peers[peer.name] = peer

    def rename(self, text: str, name: str) -> Peer:
        """Call a peer ``name`` from now on.

        :raises PeerBookError: as :meth:`find`, :meth:`check_free` and :meth:`add`.
        """
        found = self.find(text)
        self._check_ours(found)
        self.check_free(name, found.id)
        renamed = Peer(name, found.id, found.addresses, found.certificate)
        self.add(renamed)
        return renamed

    def remove(self, text: str) -> Peer:
        """Trust a peer no longer; returns it.

        :raises PeerBookError: as :meth:`find`; the configuration names it, or its file cannot be removed.
        """
        found = self.find(text)
        self._check_ours(found)
        self._erase(found)
        return found

    @staticmethod
    def _check_ours(peer: Peer) -> None:
        if peer.configured:
            raise PeerBookError(f"{peer.name} is in the configuration", f"change [peers.{peer.name}] there")

    def _path(self, peer: Peer) -> Path:
        return self._directory / f"{peer.name}{_SUFFIX}"

    def _write(self, peer: Peer) -> None:
        kept = {
            "name": peer.name,
            "id": str(peer.id),
            "addresses": [str(address) for address in peer.addresses],
            "certificate": peer.certificate,
        }
        temporary = self._directory / f".{peer.name}.new"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(kept, file)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(self._path(peer))
            _sync(self._directory)
        except OSError as error:
            raise PeerBookError(f"{peer.name} cannot be kept: {error}") from error

    def _erase(self, peer: Peer) -> None:
        try:
            self._path(peer).unlink(missing_ok=True)
            _sync(self._directory)
        except OSError as error:
            raise PeerBookError(f"{peer.name} cannot be forgotten: {error}") from error
        self._peers.pop(peer.name, None)


def _taken(name: str) -> PeerBookError:
    return PeerBookError(f"another peer is called {name} already", "choose another name, or rename that one")


def pinned_peers(config: Config) -> list[Peer]:
    """The peers that the configuration trusts, with their certificates from the files that it names.

    :raises PeerBookError: a file cannot be read, is no certificate, or is another device's.
    """
    found = []
    for name, pinned in config.pinned.items():
        try:
            certificate = plain_pem(pinned.certificate.read_text(encoding="ascii"), str(pinned.certificate))
            identifier = DeviceId.parse(pinned.id)
            certified = fingerprint_of_pem(certificate, str(pinned.certificate))
        except (OSError, UnicodeDecodeError, BadDeviceIdError, IdentityError) as error:
            raise PeerBookError(f"[peers.{name}]: {error}") from error
        if certified != identifier:
            raise PeerBookError(f"[peers.{name}]: {pinned.certificate} is of another device, {certified}")
        found.append(Peer(name, identifier, (), certificate, configured=True))
    return found


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Peer:
    try:
        with path.open("rb") as file:
            kept = json.loads(file.read(FILE_BYTES_MAX))
        addresses = tuple(parse_address(str(address)) for address in kept["addresses"])
        certificate = plain_pem(str(kept["certificate"]), str(path))
        peer = Peer(str(kept["name"]), DeviceId.parse(str(kept["id"])), addresses, certificate)
        certified = fingerprint_of_pem(certificate, str(path))
    except (
        *(OSError, ValueError, KeyError, TypeError, RecursionError),
        *(ConfigError, IdentityError, PeerBookError),
    ) as error:
        raise PeerBookError(f"{path} is damaged: {error}") from error
    if certified != peer.id or path.name != f"{peer.name}{_SUFFIX}":
        raise PeerBookError(f"{path} is damaged: its name, ID and certificate do not belong together")
    return peer
