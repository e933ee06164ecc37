"""Networks that this host has routes to. Format: the kernel's net/ipv4/fib_trie.c and net/ipv6/route.c."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_IPV4_FIELDS, _IPV4_MASK = 8, 7
_IPV6_FIELDS = 10
_LOOPBACK_DEVICE = "lo"


def routed_networks(proc_net: Path) -> list[Network]:
    """Every network that a route of this host leads to, the default routes apart; blocks.

    :param proc_net: ``/proc/net``.
    :raises OSError: the tables cannot be read.
    """
    found = list(_ipv4(_text(proc_net / "route"))) + list(_ipv6(_text(proc_net / "ipv6_route")))
    return [network for network in found if network.prefixlen]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return ""  # a kernel without it


def _ipv4(table: str) -> Iterator[Network]:
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= _IPV4_FIELDS:
            address, mask = (int.from_bytes(bytes.fromhex(fields[at]), "little") for at in (1, _IPV4_MASK))
            yield ipaddress.ip_network((address & mask, mask.bit_count()))


def _ipv6(table: str) -> Iterator[Network]:
    for line in table.splitlines():
        fields = line.split()
        if len(fields) >= _IPV6_FIELDS and fields[-1] != _LOOPBACK_DEVICE:
            yield ipaddress.ip_network((int(fields[0], 16), int(fields[1], 16)), strict=False)
