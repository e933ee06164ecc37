"""How much memory this host has to spare."""

from __future__ import annotations

from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def available_memory_bytes(meminfo: Path = MEMINFO) -> int:
    """The kernel's estimate of what can be used without swapping; 0 if it gives none.

    Source: proc_meminfo(5), MemAvailable, in KiB.
    """
    return _bytes_of("MemAvailable", meminfo)


def free_swap_bytes(meminfo: Path = MEMINFO) -> int:
    """Swap space that nobody uses; 0 if there is none."""
    return _bytes_of("SwapFree", meminfo)


def _bytes_of(field: str, meminfo: Path) -> int:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return 0
