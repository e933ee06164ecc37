"""Who a daemon is, and which others it trusts: keys, device IDs, paired peers, pairing tokens."""

from .certificate import Identity, fingerprint_of_pem, load_or_create
from .device_id import BadDeviceIdError, DeviceId

__all__ = ["BadDeviceIdError", "DeviceId", "Identity", "fingerprint_of_pem", "load_or_create"]
