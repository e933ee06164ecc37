"""A container's configuration: taken from ``docker inspect`` at the source, checked and granted at the target."""

from .admission import AdmissionPolicy, admit
from .comparison import differences
from .creation import creation_request
from .refusal import Refusal, shown
from .request import CreationRequest
from .segments import Endpoint, connected, endpoint_on, endpoints_from_wire, misfit, outside, pinned
from .source_checks import unsupported

__all__ = [
    "AdmissionPolicy",
    "CreationRequest",
    "Endpoint",
    "Refusal",
    "admit",
    "connected",
    "creation_request",
    "differences",
    "endpoint_on",
    "endpoints_from_wire",
    "misfit",
    "outside",
    "pinned",
    "shown",
    "unsupported",
]
