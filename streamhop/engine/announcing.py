"""Tells a container's neighbours where its addresses are now: gratuitous ARP, unsolicited neighbour advertisement.

Bridges and switches learn from the first frame on which port a MAC address is; until then they send to the port where
it was. A server whose clients wait for it says nothing by itself, so somebody has to speak for it.

Standard library only and no asyncio: the OCI runtime's supervisor speaks at the moment of GO. Packets of these sockets
do not pass the network gate's hooks. Source of the forms: RFC 5227, section 3 (an ARP request for one's own address);
RFC 4861, sections 4.4 and 7.2.6.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from pathlib import Path

from .nftgate import socket_in_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself costs milliseconds to import
    from collections.abc import Iterator
    from typing import Self

REPEATS_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""When to say it again, in seconds after the first time: until its end the frozen copy's kernel answers ARP, too."""

_ETH_ARP, _ETH_IPV6 = 0x0806, 0x86DD
_BROADCAST = b"\xff" * 6
_ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ICMPV6, _ADVERTISEMENT = 58, 136
_OVERRIDE = 0x20000000
_TARGET_LINK_LAYER = 2
_SIOCGIFADDR, _SIOCGIFHWADDR = 0x8915, 0x8927
_LOOPBACK = "lo"


def gratuitous_arp(mac: bytes, address: bytes) -> bytes:
    """The Ethernet frame by which an IPv4 address tells its MAC address.

    :param mac: 6 bytes.
    :param address: 4 bytes.
    """
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, address, bytes(6), address)
    return _BROADCAST + mac + struct.pack("!H", _ETH_ARP) + arp


def unsolicited_advertisement(mac: bytes, address: bytes) -> bytes:
    """The Ethernet frame by which an IPv6 address tells its MAC address to all nodes.

    :param mac: 6 bytes.
    :param address: 16 bytes.
    """
    option = struct.pack("!BB6s", _TARGET_LINK_LAYER, 1, mac)

    def message(checksum: int) -> bytes:
        return struct.pack("!BBHI", _ADVERTISEMENT, 0, checksum, _OVERRIDE) + address + option

    length = len(message(0))
    pseudo_header = address + _ALL_NODES + struct.pack("!II", length, _ICMPV6)
    icmp = message(_checksum(pseudo_header + message(0)))
    header = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + address + _ALL_NODES
    return _ALL_NODES_MAC + mac + struct.pack("!H", _ETH_IPV6) + header + icmp


def _checksum(data: bytes) -> int:
    """RFC 1071; ``data`` has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Announcer:
    """Speaks for all addresses in the network namespace of a process. The calling thread enters it for a moment.

    :param pid: any process of the namespace, as this process's ``/proc`` knows it.
    :raises OSError: there is no such process, or no such sockets.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._sockets: dict[str, socket.socket] = {}
        self._path = f"/proc/{pid}/ns/net"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets.values():
            sock.close()

    def announce(self) -> int:
        """Send one frame for each address; returns how many were sent. An interface that is down is passed over.

        :raises OSError: the namespace is gone.
        """
        sent = 0
        for interface, frame in self._frames():
            with contextlib.suppress(OSError):
                self._bound(interface).send(frame)
                sent += 1
        return sent

    def _bound(self, interface: str) -> socket.socket:
        if interface not in self._sockets:
            sock = socket_in_namespace(self._path, socket.AF_PACKET, socket.SOCK_RAW, 0)
            try:
                sock.bind((interface, 0))
            except OSError:
                sock.close()
                raise
            self._sockets[interface] = sock
        return self._sockets[interface]

    def _frames(self) -> Iterator[tuple[str, bytes]]:
        rows = Path(f"/proc/{self._pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
        names = [row.partition(":")[0].strip() for row in rows]
        six = _addresses_v6(Path(f"/proc/{self._pid}/net/if_inet6"))
        for name in names:
            if name == _LOOPBACK:
                continue
            try:
                sock = self._bound(name)
                mac = _ask(sock, _SIOCGIFHWADDR, name)[18:24]
            except OSError:
                continue
            with contextlib.suppress(OSError):  # it has no address of IPv4
                yield name, gratuitous_arp(mac, _ask(sock, _SIOCGIFADDR, name)[20:24])
            for interface, address in six:
                if interface == name:
                    yield name, unsolicited_advertisement(mac, address)


def _ask(sock: socket.socket, request: int, interface: str) -> bytes:
    """See netdevice(7)."""
    return fcntl.ioctl(sock, request, struct.pack("16s24x", os.fsencode(interface)))


def _addresses_v6(table: Path) -> list[tuple[str, bytes]]:
    """Interfaces and addresses; the table is not there where the kernel has no IPv6."""
    if not table.exists():
        return []
    rows = (line.split() for line in table.read_text(encoding="ascii").splitlines())
    return [(row[5], bytes.fromhex(row[0])) for row in rows if len(row) == 6]
