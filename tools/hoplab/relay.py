"""A link whose packets arrive late, or never: a program between two TUN devices.

For kernels without netem. Run as ``python -m hoplab.relay SPEC``, a JSON object with the two ends (network
namespace and device name each), a path for the control socket, and what to do at first. The program answers
``ready`` on its standard output once the devices are there, and then works until it is killed.

Both devices are opened with a virtio-net header before each packet and with segmentation offload, so that the
kernel hands over packets of up to 64 KiB: one copy through Python moves what would be 45 packets on a wire.
Format of the header and of the ioctls: linux/if_tun.h, linux/virtio_net.h.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .namespaces import CLONE_NEWNET, inside_network, setns

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x1, 0x1000, 0x4000
_OFFLOAD_CSUM_TSO = 0x1 | 0x2 | 0x4 | 0x8

_PACKET_BYTES_MAX = 70_000
_READS_PER_TURN = 64
_HELD_BYTES_MAX = 128 * 2**20
_IDLE_S = 60.0


@dataclass(slots=True)
class Setting:
    """What happens to packets; changed while the relay runs."""

    delay_s: float = 0.0
    """Each way."""

    loss: float = 0.0
    """Share of packets that are dropped, each way."""

    up: bool = True
    """While down every packet is dropped, those already under way too."""


@dataclass(slots=True)
class Way:
    """One direction: packets under way, oldest first."""

    held: deque[tuple[float, bytes]] = field(default_factory=deque)
    held_bytes: int = 0

    def accept(self, packet: bytes, due_s: float) -> None:
        """Keep ``packet`` until ``due_s``; dropped if far too much is under way already."""
        if self.held_bytes + len(packet) <= _HELD_BYTES_MAX:
            self.held.append((due_s, packet))
            self.held_bytes += len(packet)

    def due(self, now_s: float) -> bytes | None:
        """The next packet whose time has come."""
        if not self.held or self.held[0][0] > now_s:
            return None
        packet = self.held.popleft()[1]
        self.held_bytes -= len(packet)
        return packet

    def clear(self) -> None:
        """Drop all that is under way."""
        self.held.clear()
        self.held_bytes = 0


def open_device(netns: Path, name: str) -> int:
    """Make a TUN device in a namespace; it lives as long as the returned descriptor."""

    def work() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        request = struct.pack("16sH14x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
        return descriptor

    return inside_network(netns, work)


class Relay:
    """Two devices and what is between them."""

    def __init__(self, descriptors: tuple[int, int], setting: Setting) -> None:
        self._ways = {descriptor: Way() for descriptor in descriptors}
        self._other = dict(zip(descriptors, reversed(descriptors), strict=True))
        self._random = random.Random()  # noqa: S311 - decides which packets are lost
        self._setting = setting
        self.apply(setting)

    def apply(self, setting: Setting) -> None:
        """Take over a new setting. Packets under way keep the delay they got."""
        self._setting = setting
        # A large packet that stands for many must not be lost as one: with loss the kernel cuts them up before.
        offload = 0 if setting.loss else _OFFLOAD_CSUM_TSO
        for descriptor, way in self._ways.items():
            fcntl.ioctl(descriptor, _TUNSETOFFLOAD, offload)
            if not setting.up:
                way.clear()

    def receive(self, descriptor: int) -> None:
        """Take what a device has sent."""
        setting = self._setting
        way = self._ways[self._other[descriptor]]
        due_s = time.monotonic() + setting.delay_s
        for _ in range(_READS_PER_TURN):
            try:
                packet = os.read(descriptor, _PACKET_BYTES_MAX)
            except OSError:
                return  # nothing more now, or the device is down
            if setting.up and not (setting.loss and self._random.random() < setting.loss):
                way.accept(packet, due_s)

    def deliver(self, now_s: float) -> float:
        """Hand over every packet whose time has come; returns the seconds until the next one."""
        wait_s = _IDLE_S
        for descriptor, way in self._ways.items():
            while (packet := way.due(now_s)) is not None:
                # A device that is down or gone refuses packets: they are lost, as on a wire.
                with contextlib.suppress(OSError):
                    os.write(descriptor, packet)
            if way.held:
                wait_s = min(wait_s, max(0.0, way.held[0][0] - now_s))
        return wait_s


def serve(relay: Relay, descriptors: tuple[int, int], control: socket.socket) -> None:
    """Move packets and take settings until killed."""
    watched: list[Any] = [*descriptors, control]
    while True:
        wait_s = relay.deliver(time.monotonic())
        for source in select.select(watched, [], [], wait_s)[0]:
            if source is control:
                _take_setting(relay, control)
            else:
                relay.receive(source)


def _take_setting(relay: Relay, control: socket.socket) -> None:
    request, sender = control.recvfrom(4096)
    relay.apply(Setting(**json.loads(request)))
    with contextlib.suppress(OSError):
        control.sendto(b"ok", sender)


def main() -> int:
    """Entry of the program."""
    spec = json.loads(sys.argv[1])
    first, second = ((Path(end["netns"]), str(end["device"])) for end in spec["ends"])
    descriptors = (open_device(*first), open_device(*second))
    # Everything of a lab is in a namespace of the lab: so it is found whatever was written down.
    with first[0].open("rb") as namespace:
        setns(namespace.fileno(), CLONE_NEWNET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        control.bind(spec["control"])
        relay = Relay(descriptors, Setting(**spec["setting"]))
        # Late packets are the one thing this program must not do on a busy machine; root may ask for that.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -15)
        os.write(1, b"ready\n")
        serve(relay, descriptors, control)
    return 0


if __name__ == "__main__":
    sys.exit(main())
