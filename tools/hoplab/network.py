"""Devices, addresses and queues of the hosts' network namespaces, over netlink."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from .errors import LabError
from .namespaces import inside_network

T = TypeVar("T")

ETHERNET_MTU = 1500
_FRAME_BYTES = ETHERNET_MTU + 14
_NO_RATE = 30 * 10**9
_ROOT = 0xFFFFFFFF
"""TC_H_ROOT of linux/pkt_sched.h."""


def _with_netlink(netns: Path, work: Callable[[Any], T]) -> T:
    def connect_and_work() -> T:
        with IPRoute() as netlink:
            return work(netlink)

    try:
        return inside_network(netns, connect_and_work)
    except NetlinkError as error:
        raise LabError(f"the kernel refuses to set up the network of {netns.name}: {error}") from error


def _index(netlink: Any, device: str) -> int:
    found = netlink.link_lookup(ifname=device)
    if not found:
        raise LabError(f"the network device {device} is gone")
    return int(found[0])


def bring_up(netns: Path, device: str) -> None:
    """Set a device up."""
    _with_netlink(netns, lambda netlink: netlink.link("set", index=_index(netlink, device), state="up"))


def devices(netns: Path) -> list[str]:
    """Names of the devices of a namespace."""
    return _with_netlink(netns, lambda netlink: [link.get_attr("IFLA_IFNAME") for link in netlink.get_links()])


def create_veth(netns_a: Path, device_a: str, netns_b: Path, device_b: str) -> None:
    """Join two namespaces with a pair of devices; none of it is ever seen in the machine's own namespace."""

    def work(netlink: Any) -> None:
        other = os.open(netns_b, os.O_RDONLY | os.O_CLOEXEC)
        try:
            netlink.link("add", ifname=device_a, kind="veth", peer={"ifname": device_b, "net_ns_fd": other})
        finally:
            os.close(other)

    _with_netlink(netns_a, work)


def create_bridge(netns: Path, device: str) -> None:
    """Make a bridge and set it up."""
    _with_netlink(netns, lambda netlink: netlink.link("add", ifname=device, kind="bridge"))
    bring_up(netns, device)


def attach(netns: Path, device: str, bridge: str) -> None:
    """Make ``device`` a port of ``bridge`` and set it up."""

    def work(netlink: Any) -> None:
        netlink.link("set", index=_index(netlink, device), master=_index(netlink, bridge), state="up")

    _with_netlink(netns, work)


def delete_device(netns: Path, device: str) -> None:
    """Delete a device if it is there; returns when it is gone."""

    def work(netlink: Any) -> None:
        for index in netlink.link_lookup(ifname=device):
            netlink.link("del", index=index)

    _with_netlink(netns, work)


def add_address(netns: Path, device: str, address: str, prefix_length: int, peer: str | None = None) -> None:
    """Give ``device`` an address and set it up; with ``peer``, the way to that one address goes through it."""

    def work(netlink: Any) -> None:
        index = _index(netlink, device)
        ends = {"local": address, "address": peer} if peer else {"address": address}
        netlink.addr("add", index=index, prefixlen=prefix_length, **ends)
        netlink.link("set", index=index, state="up")

    _with_netlink(netns, work)


def queue_bytes(rate_bit_per_s: int, rtt_s: float) -> int:
    """How much the queue before a slow link holds: 50 ms of it, or two bandwidth-delay products where that is more.

    Deep enough that one TCP stream fills the link, and bounded, so that it also suffers from its own queue.
    """
    bytes_per_s = rate_bit_per_s / 8
    return max(math.ceil(bytes_per_s * max(0.050, 2 * rtt_s)), 32 * _FRAME_BYTES)


def burst_bytes(rate_bit_per_s: int) -> int:
    """Bucket of the shaper: 4 ms of the rate, but some frames at least.

    Packets longer than this the kernel cuts to frames before it counts them.
    """
    return max(math.ceil(rate_bit_per_s / 8 * 0.004), 6 * _FRAME_BYTES)


def netem_available(netns: Path, device: str) -> bool:
    """Whether the kernel delays packets by itself; found by trying on ``device``."""

    def work(netlink: Any) -> bool:
        index = _index(netlink, device)
        try:
            netlink.tc("replace", "netem", index, "9:", delay=1000)
        except NetlinkError:
            return False
        netlink.tc("del", index=index, handle="9:", parent=_ROOT)
        return True

    return _with_netlink(netns, work)


def shape(netns: Path, device: str, *, rate_bit_per_s: int | None, rtt_s: float, delay_s: float = 0.0) -> None:
    """Set the queue of ``device`` and read it back.

    :param rtt_s: sizes the queue.
    :param delay_s: for how long netem shall hold each packet; zero where nothing or a relay does.
    :raises LabError: what is read back is not what was set.
    """

    def work(netlink: Any) -> None:
        index = _index(netlink, device)
        parent: dict[str, Any] = {}
        if delay_s:
            packets = 1000 + math.ceil((rate_bit_per_s or _NO_RATE) / 8 * (delay_s + 0.2) / 1000)
            _clear(netlink, index)
            netlink.tc("add", "netem", index, "1:", delay=round(delay_s * 1e6), limit=packets)
            parent = {"parent": "1:1"}
        elif rate_bit_per_s is None:
            _clear(netlink, index)
        if rate_bit_per_s is None:
            return
        # Replacing leaves no moment in which the link is not shaped.
        netlink.tc(
            "replace",
            "tbf",
            index,
            "10:",
            rate=rate_bit_per_s // 8,
            burst=burst_bytes(rate_bit_per_s),
            limit=queue_bytes(rate_bit_per_s, rtt_s),
            **parent,
        )
        found = _tbf_rate_bytes_per_s(netlink, index)
        if found != rate_bit_per_s // 8:
            raise LabError(f"{device} of {netns.name} shall carry {rate_bit_per_s // 8} bytes/s, reads back {found}")

    _with_netlink(netns, work)


def block(netns: Path, device: str) -> None:
    """Let everything sent through ``device`` vanish without a word, as on a cut cable far away."""

    def work(netlink: Any) -> None:
        index = _index(netlink, device)
        netlink.tc("replace", "blackhole", index, "20:")
        kinds = [queue.get_attr("TCA_KIND") for queue in netlink.get_qdiscs(index=index)]
        if "blackhole" not in kinds:
            raise LabError(f"{device} of {netns.name} shall be cut, reads back {kinds}")

    _with_netlink(netns, work)


def _clear(netlink: Any, index: int) -> None:
    """Give the device back the queue the kernel gave it."""
    for queue in netlink.get_qdiscs(index=index):
        if queue["handle"] and queue["parent"] == _ROOT:
            netlink.tc("del", index=index, handle=queue["handle"], parent=_ROOT)


def _tbf_rate_bytes_per_s(netlink: Any, index: int) -> int | None:
    for queue in netlink.get_qdiscs(index=index):
        if queue.get_attr("TCA_KIND") == "tbf":
            options = queue.get_attr("TCA_OPTIONS")
            return int(options.get_attr("TCA_TBF_PARMS")["rate"])
    return None
