"""Who a daemon is, and which others it trusts: keys, device IDs, paired peers, pairing tokens."""

from .certificate import Identity, IdentityError, fingerprint_of_pem, load_or_create, plain_pem
from .device_id import BadDeviceIdError, DeviceId
from .peer_book import (
    ADDRESSES_MAX,
    HOW_TO_PAIR,
    PEER_NAME,
    Peer,
    PeerBook,
    PeerBookError,
    UnknownPeerError,
    pinned_peers,
)
from .token import BadTokenError, PairingToken, proof

__all__ = [
    "ADDRESSES_MAX",
    "HOW_TO_PAIR",
    "PEER_NAME",
    "BadDeviceIdError",
    "BadTokenError",
    "DeviceId",
    "Identity",
    "IdentityError",
    "PairingToken",
    "Peer",
    "PeerBook",
    "PeerBookError",
    "UnknownPeerError",
    "fingerprint_of_pem",
    "load_or_create",
    "pinned_peers",
    "plain_pem",
    "proof",
]
