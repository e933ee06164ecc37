"""What a container's processes do that a dump cannot take along, read from /proc while they run; nothing is touched."""

from .inspection import inspect_workload

__all__ = ["inspect_workload"]
