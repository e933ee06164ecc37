"""What stands in the way of a move, in one form, whoever finds it: the source, the target, a peer."""

from .catalogue import CATALOGUE, Kind, found
from .finding import Finding, Severity, refusing, shown, told, warning
from .wire import FINDINGS_MAX, findings_from_wire, findings_to_wire

__all__ = [
    "CATALOGUE",
    "FINDINGS_MAX",
    "Finding",
    "Kind",
    "Severity",
    "findings_from_wire",
    "findings_to_wire",
    "found",
    "refusing",
    "shown",
    "told",
    "warning",
]
