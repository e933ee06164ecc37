"""The peers of this host: how they are found, dialed, recognised, and how new ones are paired."""

from .addresses import reachable_addresses
from .directory import NotPairedError, PeerDirectory, PeerTarget
from .pairing import Pairing, PairingError

__all__ = ["NotPairedError", "Pairing", "PairingError", "PeerDirectory", "PeerTarget", "reachable_addresses"]
