"""A session with a peer that a user named, or why there is none in words that help."""

from __future__ import annotations

from streamhop.net import PeerSession, UntrustedError
from streamhop.peering import PeerTarget

from .errors import PreflightError, UnpairedError, UnreachableError
from .failures import EXPECTED, plain
from .host import Host


async def reach(host: Host, peer: PeerTarget, limit_bytes_per_s: float | None) -> PeerSession:
    """Connect to ``peer``; the caller closes what is returned.

    :param limit_bytes_per_s: most that leaves as payload; None for no limit.
    :raises UnpairedError: it is not the device that is trusted, or does not trust this one.
    :raises UnreachableError: nobody answers.
    :raises PreflightError: it is this host.
    """
    try:
        session = await host.peers.dial(peer, host.config.connections, limit_bytes_per_s)
    except UntrustedError as error:
        raise UnpairedError(f"{peer.name}: {error}") from error
    except EXPECTED as error:
        places = ", ".join(map(str, peer.addresses))
        where = peer.name if peer.name == places else f"{peer.name} ({places})"
        raise UnreachableError(
            f"{where} cannot be reached: {plain(error)}",
            "check that streamhop runs there and listens on that address"
            if peer.name != places
            else f"it is no peer's name, so it was taken for an address; {host.peers.known_names()}",
        ) from error
    if peer.peer is None and session.peer_name == host.config.name:
        await session.close()
        raise PreflightError(
            f"the peer calls itself {session.peer_name}, like this host: it is this host, or two share a name",
            "give each daemon a name of its own",
        )
    return session
