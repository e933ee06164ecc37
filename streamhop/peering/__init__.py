"""The peers of this host: how they are found, dialed, recognised, and how new ones are paired."""

from .addresses import is_loopback, reachable_addresses
from .directory import NoAddressError, NotPairedError, PeerDirectory, PeerTarget
from .pairing import Pairing, PairingError

__all__ = [
    "NoAddressError",
    "NotPairedError",
    "Pairing",
    "PairingError",
    "PeerDirectory",
    "PeerTarget",
    "is_loopback",
    "reachable_addresses",
]
