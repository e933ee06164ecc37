"""The network gate in a real network namespace."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamhop.engine.netgate import GateError, close_gate, gate_is_closed, open_gate
from streamhop.engine.nftgate import Gate, socket_in_namespace

pytestmark = pytest.mark.root


@pytest.fixture
def process() -> Iterator[int]:
    """A process in a network namespace of its own, with loopback and a pair of devices up."""
    links = "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up"
    addresses = "ip addr add 10.9.0.1/24 dev d0; ip addr add fd00:9::1/64 dev d0 nodad"
    script = f"set -e; {links}; {addresses}; echo ready; exec sleep 1000"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as inside:
        try:
            assert inside.stdout is not None
            assert inside.stdout.readline() == "ready\n"
            yield inside.pid
        finally:
            inside.kill()


def _sends(pid: int, address: str) -> bool:
    """Whether a datagram to ``address`` leaves; the gate shows itself as EPERM."""
    program = f"import socket; socket.socket(2, 2).sendto(b'x', ({address!r}, 9))"
    command = ["nsenter", "--target", str(pid), "--net", "python3", "-c", program]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def test_closed_it_lets_loopback_pass_and_nothing_else(process: int) -> None:
    assert not await gate_is_closed(process)
    assert _sends(process, "10.9.0.2")
    await close_gate(process)
    await close_gate(process)
    assert await gate_is_closed(process)
    assert not _sends(process, "10.9.0.2")
    assert _sends(process, "127.0.0.1")
    await open_gate(process)
    await open_gate(process)
    assert not await gate_is_closed(process)
    assert _sends(process, "10.9.0.2")


async def test_a_closed_gate_answers_no_arp(process: int) -> None:
    """A frozen copy would teach bridges that its addresses are still here."""
    with socket_in_namespace(f"/proc/{process}/ns/net", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as other:
        other.bind(("d1", 3))
        other.settimeout(0.5)
        assert _answers_arp(other)
        await close_gate(process)
        assert not _answers_arp(other)
        await open_gate(process)
        assert _answers_arp(other)


def _answers_arp(neighbour: socket.socket) -> bool:
    """Whether 10.9.0.1 tells 10.9.0.2 its MAC address."""
    mac = bytes.fromhex("020000000002")
    asking, asked = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])
    question = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, asking, bytes(6), asked)
    neighbour.send(b"\xff" * 6 + mac + b"\x08\x06" + question)
    try:
        while True:
            frame = neighbour.recv(2048)
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == asked:
                return True
    except TimeoutError:
        return False


async def test_advertisements_leave_a_closed_gate_and_solicitations_do_not(process: int) -> None:
    """Docker advertises addresses as it wires a namespace, and fails the start if it cannot."""
    await close_gate(process)
    assert _sends_icmpv6(process, 136)
    assert not _sends_icmpv6(process, 135)


def _sends_icmpv6(pid: int, kind: int) -> bool:
    target = "('fd00:9::2', 0)"
    program = f"import socket; socket.socket(10, 3, 58).sendto(bytes([{kind}]) + bytes(23), {target})"
    command = ["nsenter", "--target", str(pid), "--net", "python3", "-c", program]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


async def test_the_hosts_own_network_has_no_gate() -> None:
    with pytest.raises(GateError, match="host's network namespace"):
        await close_gate(os.getpid())


async def test_a_process_that_is_gone() -> None:
    with pytest.raises(GateError, match="is gone"):
        await close_gate(2**22 + 1)


def test_the_caller_stays_in_its_own_namespace(process: int) -> None:
    before = Path("/proc/thread-self/ns/net").readlink()
    with Gate(process) as gate:
        gate.close_gate()
        assert Path("/proc/thread-self/ns/net").readlink() == before


async def test_nobody_waits_for_the_kernel_to_close_the_socket(process: int) -> None:
    took_s = []
    for _ in range(5):
        began = time.perf_counter()
        await close_gate(process)
        took_s.append(time.perf_counter() - began)
    assert min(took_s) < 0.008
