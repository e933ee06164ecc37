"""What the C library does with memory that was given back (mallopt(3))."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

REUSED_BYTES_MAX = 4 * 1024 * 1024
"""A block of less than this comes out of memory that the process has. Chunks and their buffers do, up to 1 MiB each."""

KEPT_BYTES_MAX = 8 * 1024 * 1024
"""So much may be free at the end of a heap before the kernel gets it back."""


def reuse_memory() -> None:
    """Keep what is freed for the next chunk of a transfer; without effect where the C library is not glibc.

    By default glibc asks the kernel for each block as large as a chunk, and gives it back at once: then every page of
    every chunk is a fault, and is cleared, a third of the processor time of a host that receives.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, REUSED_BYTES_MAX)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
