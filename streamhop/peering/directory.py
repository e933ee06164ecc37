"""Finds peers by what people or the journal call them, dials them, and tells whose a certificate is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

from streamhop.config import Address, Config, parse_address
from streamhop.identity import DeviceId, Identity, Peer, PeerBook, PeerBookError, UnknownPeerError
from streamhop.identity.peer_book import told_names
from streamhop.net import (
    KnownPeer,
    NetConfig,
    PeerSession,
    Security,
    SessionLost,
    UntrustedError,
    WireTrace,
    client_context,
    dial,
    server_context,
)
from streamhop.net.listening import NO_LONGER_PAIRED
from streamhop_protocol.errors import UnexpectedError

log = logging.getLogger("streamhop.peering")


class NotPairedError(Exception):
    """The peer is not one that this host trusts.

    :param fix: what to do about it.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.fix = fix


class NoAddressError(Exception):
    """The peer is trusted, but nobody knows where it is."""

    fix = "add its address to [peers] in the configuration, or pair the two again"


@dataclass(frozen=True, slots=True)
class PeerTarget:
    """A peer to be dialed.

    :param name: for people.
    :param addresses: where it may be, the likeliest first; at least one.
    :param peer: whom it must be; None if sessions are in the clear.
    """

    name: str
    addresses: tuple[Address, ...]
    peer: Peer | None = None

    @property
    def reference(self) -> str:
        """What finds it again after a restart, even if it is called otherwise by then: for the journal."""
        return _known(self.peer).reference if self.peer is not None else str(self.addresses[0])


class PeerDirectory:
    """See the module. Without an identity every session is in the clear, and addresses are all that there is.

    :param identity: this daemon, or None for sessions in the clear.
    :param book: whom it trusts.
    :param trace: is told of the connections that are dialed.
    """

    def __init__(
        self, config: Config, identity: Identity | None, book: PeerBook, trace: WireTrace | None = None
    ) -> None:
        self.identity = identity
        self.book = book
        self._config = config
        self._trace = trace
        self._listening: Security | None = None
        self._dialed: WeakSet[PeerSession] = WeakSet()
        """Sessions that whoever asked for them still has."""
        self.on_unpaired: Callable[[str], None] | None = None
        """Called with the name of a peer that is trusted no longer: sessions that it has dialed are the listener's."""

    # -- finding ---------------------------------------------------------------------------------------------------

    def find(self, text: str) -> PeerTarget:
        """A peer as a user or the journal writes it: its name, its ID or the beginning of it; in the clear an address.

        :raises NotPairedError: nobody that is trusted is called so.
        :raises NoAddressError: it is trusted, but has no address.
        :raises ConfigError: in the clear, what is neither a known name nor an address.
        """
        if self.identity is None:
            address = self._config.peers.get(text) or parse_address(text)
            return PeerTarget(text if text in self._config.peers else str(address), (address,))
        try:
            peer = self._trusted(text)
        except PeerBookError as error:
            raise NotPairedError(str(error), error.fix) from error
        return self._target(peer)

    def _trusted(self, text: str) -> Peer:
        """As :meth:`PeerBook.find`; of a peer that has only an address, in the configuration, the error says that."""
        try:
            return self.book.find(text)
        except UnknownPeerError as error:
            if text not in self._config.peers:
                raise
            raise UnknownPeerError(
                f"{text} is configured, but not paired",
                f"`streamhop pair` there, then `streamhop pair TOKEN {text}` here",
            ) from error

    def known_names(self) -> str:
        """Who is known, for a message."""
        names = {*self._config.peers, *(peer.name for peer in self.book)}
        return f"known are {told_names(names)}" if names else "none is known yet"

    def _target(self, peer: Peer) -> PeerTarget:
        configured = self._config.peers.get(peer.name)
        addresses = tuple(dict.fromkeys(((configured,) if configured else ()) + peer.addresses))
        if not addresses:
            raise NoAddressError(f"{peer.name} is paired, but no address of it is known")
        return PeerTarget(peer.name, addresses, peer)

    def name_of(self, reference: str) -> str:
        """What the peer is called here now that the journal or a user calls ``reference``; that itself if nothing."""
        if self.identity is None:
            return reference
        try:
            return self.book.find(reference).name
        except PeerBookError:
            return reference

    def all(self) -> list[PeerTarget]:
        """Every known peer that has an address."""
        if self.identity is None:
            return [PeerTarget(name, (address,)) for name, address in self._config.peers.items()]
        found = []
        for peer in self.book:
            try:
                found.append(self._target(peer))
            except NoAddressError as error:
                log.debug("%s", error)
        return found

    # -- connecting ------------------------------------------------------------------------------------------------

    async def dial(self, target: PeerTarget, connections: int, limit_bytes_per_s: float | None = None) -> PeerSession:
        """A session with ``target``, at the first of its addresses where it is.

        :param limit_bytes_per_s: most that leaves as payload; None for no limit.
        :raises OSError: none of the addresses answers; the last one's error.
        :raises SessionLost: it does not answer in time, or is another device.
        :raises ProtocolError: what answers is no streamhop, or refuses.
        """
        config = NetConfig(connections=connections, limit_bytes_per_s=limit_bytes_per_s, trace=self._trace)
        security = self._dialing(target.peer)
        failure: Exception | None = None
        for address in target.addresses:
            try:
                session = await dial(address.host, address.port, config, name=self._config.name, security=security)
            except (OSError, SessionLost) as error:
                failure = error
                continue
            self._dialed.add(session)
            if target.peer is not None and self.book.by_id(target.peer.id) is None:
                session.fail(UnexpectedError(NO_LONGER_PAIRED))
                raise UntrustedError(f"{target.name} was unpaired meanwhile")
            return session
        assert failure is not None
        raise failure

    def _dialing(self, peer: Peer | None) -> Security | None:
        if self.identity is None or peer is None:
            return None
        keylog = self._config.lab_keylog
        context = client_context(self.identity.certificate, self.identity.key, peer.certificate, keylog)

        def who(certificate: bytes) -> KnownPeer | None:
            return _known(peer) if DeviceId.of_certificate(certificate) == peer.id else None

        return Security(context, who)

    def listening(self) -> Security | None:
        """What a listener is to be given; peers paired later are let in too."""
        if self.identity is None:
            return None
        if self._listening is None:
            own, keylog = self.identity, self._config.lab_keylog
            context = server_context(own.certificate, own.key, self.book.certificates, keylog)
            self._listening = Security(context, self.who)
        return self._listening

    def who(self, certificate: bytes) -> KnownPeer | None:
        """The trusted peer that has ``certificate``, or None."""
        peer = self.book.by_id(DeviceId.of_certificate(certificate))
        return _known(peer) if peer is not None else None

    # -- changes ---------------------------------------------------------------------------------------------------

    def add(self, peer: Peer) -> None:
        """Trust ``peer`` from now on.

        :raises PeerBookError: as :meth:`PeerBook.add`.
        """
        before = self.book.by_id(peer.id)
        self.book.add(peer)
        if self._listening is not None:
            self._listening.context.load_verify_locations(cadata=peer.certificate)
        log.info("%s (%s) is paired with this host", peer.name, peer.id.short)
        if before is not None and before.name != peer.name:
            self._drop(before.name)

    def rename(self, text: str, name: str) -> Peer:
        """Call a peer ``name``; its live sessions, known by the old name, end.

        :raises PeerBookError: as :meth:`PeerBook.rename`.
        """
        before = self._trusted(text)
        renamed = self.book.rename(text, name)
        self._drop(before.name)
        return renamed

    def remove(self, text: str) -> Peer:
        """Trust a peer no longer; its live sessions end at once, whoever dialed them.

        :raises PeerBookError: as :meth:`PeerBook.remove`.
        """
        removed = self.book.remove(str(self._trusted(text).id))
        log.info("%s (%s) is unpaired", removed.name, removed.id.short)
        self._drop(removed.name)
        for session in list(self._dialed):
            if session.peer_reference == str(removed.id):
                session.fail(UnexpectedError(NO_LONGER_PAIRED))
        return removed

    def _drop(self, name: str) -> None:
        if self.on_unpaired is not None:
            self.on_unpaired(name)


def _known(peer: Peer) -> KnownPeer:
    return KnownPeer(peer.name, str(peer.id))
