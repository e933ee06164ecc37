"""A container's configuration: taken from ``docker inspect`` at the source, checked and granted at the target."""

from .admission import AdmissionPolicy, admit
from .comparison import differences
from .creation import creation_request, is_fixed
from .mount_admission import may_be_bound
from .mounts import BIND, VOLUME, Mount, is_below, is_plain, mounts_of
from .networks import PREDEFINED, NetworkDescription, describe_network, network_refusals, networks_from_wire
from .request import CreationRequest
from .segments import (
    Endpoint,
    addresses_taken,
    connected,
    endpoint_on,
    endpoints_from_wire,
    misfit,
    outside,
    pinned,
    subnets_of,
)
from .source_checks import unsupported

__all__ = [
    "BIND",
    "PREDEFINED",
    "VOLUME",
    "AdmissionPolicy",
    "CreationRequest",
    "Endpoint",
    "Mount",
    "NetworkDescription",
    "addresses_taken",
    "admit",
    "connected",
    "creation_request",
    "describe_network",
    "differences",
    "endpoint_on",
    "endpoints_from_wire",
    "is_below",
    "is_fixed",
    "is_plain",
    "may_be_bound",
    "misfit",
    "mounts_of",
    "network_refusals",
    "networks_from_wire",
    "outside",
    "pinned",
    "subnets_of",
    "unsupported",
]
