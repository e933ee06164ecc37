"""Where this host can be reached, as far as it can tell itself."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from streamhop.config import Address

_SIOCGIFADDR = 0x8915
_WILDCARDS = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104 - recognised, not used
_IF_INET6 = Path("/proc/net/if_inet6")


def reachable_addresses(name: str, listen: Address, port: int) -> tuple[Address, ...]:
    """Addresses to give to peers, the likeliest first.

    :param name: how this host is called; peers may know that name.
    :param listen: where the daemon was told to listen.
    :param port: where it does.
    """
    if listen.host not in _WILDCARDS:
        return (Address(listen.host, port),)
    return (*(Address(address, port) for address in (*_ipv4(), *_ipv6())), Address(name, port))


def is_loopback(host: str) -> bool:
    """Whether ``host``, an address or a name as in the configuration, is this host to itself and nothing to others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def unreachable_warning(addresses: Sequence[Address]) -> str | None:
    """What to tell people where :func:`reachable_addresses` are none that another host reaches; None if they are.

    :param addresses: one or more. Names are not looked up: what they mean elsewhere is not known here.
    """
    if not all(is_loopback(address.host) for address in addresses):
        return None
    hosts = ", ".join(dict.fromkeys(address.host for address in addresses))
    return f"this daemon listens on {hosts} alone: another host cannot reach it; set listen to an address of this host"


def _ipv4() -> Iterator[str]:
    """The address of each interface but loopback and Docker's bridges."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, interface in socket.if_nameindex():
            address = None if _is_dockers(interface) else _ipv4_of(sock, interface)
            if address is not None and not address.is_loopback:
                yield str(address)


def _ipv4_of(sock: socket.socket, interface: str) -> ipaddress.IPv4Address | None:
    """SIOCGIFADDR, netdevice(7): a struct ifreq whose address begins 20 bytes in."""
    try:
        answer: bytes = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
    except OSError:
        return None
    return ipaddress.IPv4Address(answer[20:24])


def _is_dockers(interface: str) -> bool:
    return interface.startswith(("docker", "br-", "veth"))


def _ipv6() -> Iterator[str]:
    """Global addresses: proc(5), /proc/net/if_inet6."""
    with contextlib.suppress(OSError):
        for line in _IF_INET6.read_text(encoding="ascii").splitlines():
            digits, *_, interface = line.split()
            address = ipaddress.IPv6Address(int(digits, 16))
            if not (address.is_loopback or address.is_link_local or _is_dockers(interface)):
                yield str(address)
