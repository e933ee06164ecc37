"""A container's configuration: taken from ``docker inspect`` at the source, checked and granted at the target."""

from .admission import AdmissionPolicy, admit
from .comparison import differences
from .creation import creation_request
from .refusal import Refusal, shown
from .request import CreationRequest
from .source_checks import unsupported

__all__ = [
    "AdmissionPolicy",
    "CreationRequest",
    "Refusal",
    "admit",
    "creation_request",
    "differences",
    "shown",
    "unsupported",
]
