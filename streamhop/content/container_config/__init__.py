"""A container's configuration: taken from ``docker inspect`` at the source, checked and granted at the target."""

from .admission import AdmissionPolicy, admit
from .comparison import differences
from .creation import creation_request
from .request import CreationRequest
from .source_checks import unsupported

__all__ = [
    "AdmissionPolicy",
    "CreationRequest",
    "admit",
    "creation_request",
    "differences",
    "unsupported",
]
