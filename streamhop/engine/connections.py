"""TCP connections of a container, as the kernel lists them in proc_net_tcp(5)."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTEN, _CLOSE, _TIME_WAIT = "0A", "07", "06"


def remote_ends(init_pid: int) -> list[Address]:
    """The other end of each connection in the network namespace of a process; blocks for a moment.

    :raises OSError: the process is gone.
    """
    found: list[Address] = []
    for name in ("tcp", "tcp6"):
        path = Path(f"/proc/{init_pid}/net/{name}")
        if name == "tcp" or path.exists():
            found.extend(remotes_in(path.read_text(encoding="ascii")))
    return found


def remotes_in(table: str) -> Iterator[Address]:
    """The remote address of each connection in a table; sockets that are no connection have none."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] in (_LISTEN, _CLOSE, _TIME_WAIT):
            continue
        yield _address(fields[2].partition(":")[0])


def _address(digits: str) -> Address:
    """The kernel prints each 32-bit word of an address in its own byte order."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    data = struct.pack(f"={len(words)}I", *words)
    address = ipaddress.ip_address(data)
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
