"""Frames that tell where addresses are, seen by a neighbour in another namespace."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamhop.engine.announcements import announce_addresses
from streamhop.engine.announcing import Announcer, gratuitous_arp, unsolicited_advertisement
from streamhop.engine.netgate import close_gate
from streamhop.engine.nftgate import socket_in_namespace

MAC = bytes.fromhex("02420a320064")
SIX = socket.inet_pton(socket.AF_INET6, "fd00:50::64")
ETH_P_ALL = socket.htons(3)


def test_a_gratuitous_arp() -> None:
    frame = gratuitous_arp(MAC, bytes([10, 50, 0, 100]))
    assert frame.hex() == (
        "ffffffffffff02420a3200640806000108000604000102420a3200640a3200640000000000000a320064"
    )  # fmt: skip


def test_an_advertisement_has_a_checksum_that_adds_up() -> None:
    frame = unsolicited_advertisement(MAC, SIX)
    assert frame[:14].hex() == "33330000000102420a32006486dd"
    assert frame[14 + 7] == 255, "anything else would be dropped by who hears it"
    icmp = frame[14 + 40 :]
    source, destination = frame[14 + 8 : 14 + 24], frame[14 + 24 : 14 + 40]
    assert (source, icmp[8:24], icmp[24:]) == (SIX, SIX, b"\x02\x01" + MAC)
    assert icmp[4] == 0x20, "who knows another address is to forget that"
    covered = source + destination + struct.pack("!II", len(icmp), 58) + icmp
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


@pytest.fixture
def pair() -> Iterator[tuple[int, socket.socket]]:
    """A process with addresses of both kinds, and a socket that hears what its neighbour gets."""
    links = (
        "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up; "
        "ip link set d0 address 02:42:0a:32:00:64; ip addr add 10.50.0.100/24 dev d0; "
        "ip addr add fd00:50::64/64 dev d0 nodad"
    )
    script = f"set -e; {links}; echo ready; exec sleep 1000"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as inside:
        try:
            assert inside.stdout is not None
            assert inside.stdout.readline() == "ready\n"
            path = f"/proc/{inside.pid}/ns/net"
            with socket_in_namespace(path, socket.AF_PACKET, socket.SOCK_RAW, ETH_P_ALL) as neighbour:
                neighbour.bind(("d1", 3))
                neighbour.settimeout(5)
                yield inside.pid, neighbour
        finally:
            inside.kill()


def heard(neighbour: socket.socket, *wanted: bytes) -> None:
    """Return once all of ``wanted`` came, in that order."""
    missing = list(wanted)
    while missing:
        if neighbour.recv(2048) == missing[0]:
            missing.pop(0)


@pytest.mark.root
async def test_every_address_is_announced_through_a_closed_gate(pair: tuple[int, socket.socket]) -> None:
    pid, neighbour = pair
    await close_gate(pid)
    await announce_addresses(pid)
    heard(neighbour, gratuitous_arp(MAC, bytes([10, 50, 0, 100])), unsolicited_advertisement(MAC, SIX))


@pytest.mark.root
def test_it_says_it_as_often_as_it_is_asked_to(pair: tuple[int, socket.socket]) -> None:
    pid, neighbour = pair
    home = Path("/proc/thread-self/ns/net").readlink()
    with Announcer(pid) as announcer:
        assert announcer.announce() >= 2
        assert announcer.announce() >= 2
    heard(neighbour, *[gratuitous_arp(MAC, bytes([10, 50, 0, 100])), unsolicited_advertisement(MAC, SIX)] * 2)
    assert Path("/proc/thread-self/ns/net").readlink() == home


async def test_a_process_that_is_gone_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    await announce_addresses(2**22 + 1)
    assert "could not be announced" in caplog.text
