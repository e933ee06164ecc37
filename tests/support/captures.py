"""Packet captures made by hand: TCP connections in a pcap file, for what reads captures."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

PORT = 4711
"""Where daemons listen by default; the dissector looks there."""

_DIALER, _ACCEPTOR = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
_FIN, _SYN, _PUSH, _ACK = 0x01, 0x02, 0x08, 0x10
_LINK_ETHERNET = 1


@dataclass(slots=True)
class Capture:
    """Packets in the order in which they were captured, a millisecond apart."""

    packets: list[bytes] = field(default_factory=list)

    def write(self, path: Path) -> Path:
        """Write the classic pcap format, <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>."""
        rows = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, _LINK_ETHERNET)]
        for number, packet in enumerate(self.packets):
            at = number * 1000
            rows.append(struct.pack("<IIII", at // 1_000_000, at % 1_000_000, len(packet), len(packet)) + packet)
        path.write_bytes(b"".join(rows))
        return path


class TcpConnection:
    """One connection from the dialer to the acceptor; opened by its first packet.

    :param client_port: the dialer's port, which makes the connection another one than the others of the capture.
    :param segment_bytes: most bytes of one segment.
    """

    def __init__(self, capture: Capture, client_port: int, *, server_port: int = PORT, segment_bytes: int = 1400):
        self._capture = capture
        self._ports = (client_port, server_port)
        self._segment_bytes = segment_bytes
        # Ends that are used again begin elsewhere, as they would.
        begin = (len(capture.packets) * 1_000_003) % (1 << 31)
        self._next = {"dialer": begin + 1000, "acceptor": begin + 5000}
        for by, flags in (("dialer", _SYN), ("acceptor", _SYN | _ACK), ("dialer", _ACK)):
            self._packet(by, flags)
            if flags & _SYN:
                self._next[by] += 1

    def send(self, by: str, data: bytes) -> None:
        """Let ``by``, dialer or acceptor, send ``data`` in as many segments as it takes."""
        for at in range(0, len(data), self._segment_bytes):
            self._packet(by, _PUSH | _ACK, data[at : at + self._segment_bytes])

    def close(self) -> None:
        """Both say that nothing more comes."""
        for by in ("dialer", "acceptor"):
            self._packet(by, _FIN | _ACK)
            self._next[by] += 1

    def _packet(self, by: str, flags: int, data: bytes = b"") -> None:
        dials = by == "dialer"
        other = "acceptor" if dials else "dialer"
        ports = self._ports if dials else self._ports[::-1]
        tcp = struct.pack(">HHIIBBHHH", *ports, self._next[by], self._next[other], 5 << 4, flags, 65535, 0, 0)
        addresses = _DIALER + _ACCEPTOR if dials else _ACCEPTOR + _DIALER
        total = 20 + len(tcp) + len(data)
        ip = struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, 6, 0) + addresses
        self._capture.packets.append(bytes(12) + b"\x08\x00" + ip + tcp + data)
        self._next[by] += len(data)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """``data`` with a few bytes changed, added or taken away."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed)) if changed else 0
        match chance.randrange(4):
            case 0 if changed:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at:at] = chance.choice((b"\x1b[31m", b"\x00", b"\xff" * 8, b"\n"))
            case 2:
                del changed[at : at + chance.randint(1, 9)]
            case _ if changed:
                changed[at] = chance.randrange(256)
    return bytes(changed)
