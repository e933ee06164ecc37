"""A second, layer-2 network for containers: a bridge of the lab, and in each host a Docker network joined to it.

A container with the same address and MAC at another host of the segment keeps its open connections.
"""

from __future__ import annotations

from . import network
from .host import Host
from .namespaces import create_network
from .settings import SEGMENT, netns_name, netns_path
from .state import HostState, LabState

BRIDGE = "br-seg"
_PORT = "seg0"
LABEL = "streamhop.segment"
"""By this label two hosts' Docker networks are told to be one segment."""


def segment_subnet(state: LabState) -> str:
    """Addresses of the segment. Below .128 they are for ``docker run --ip``, above Docker hands them out."""
    return f"{state.network}.200.0/24"


def segment_address(state: LabState, host: HostState) -> str:
    """The address a host itself has on the segment."""
    return f"{state.network}.200.{host.number}"


def segment_subnet_v6(state: LabState) -> str:
    """The same of IPv6: ``::1`` to ``::ffff`` are for hosts and for ``docker run --ip6``, the rest Docker hands out."""
    return f"{_prefix_v6(state)}::/64"


def segment_address_v6(state: LabState, host: HostState) -> str:
    """The IPv6 address a host itself has on the segment."""
    return f"{_prefix_v6(state)}::{host.number}"


def _prefix_v6(state: LabState) -> str:
    """Of the unique local addresses, RFC 4193."""
    return f"fd68:6f70:{int(state.network.rpartition('.')[2]):x}:c8"


def create_segment(lab: str) -> None:
    """Make the lab's bridge in a namespace of its own."""
    path = netns_path(netns_name(lab, SEGMENT))
    create_network(path)
    network.create_bridge(path, BRIDGE)


def wire_segment(lab: str, state: LabState, host: HostState) -> None:
    """Lead a cable from the lab's bridge to a host."""
    segment, netns = (netns_path(netns_name(lab, name)) for name in (SEGMENT, host.name))
    port = f"port{host.number}"
    network.delete_device(segment, port)
    network.create_veth(segment, port, netns, _PORT)
    network.attach(segment, port, BRIDGE)
    if not host.docker:
        network.add_address(netns, _PORT, segment_address(state, host), 24)
        network.add_address(netns, _PORT, segment_address_v6(state, host), 64)


def attach_host(handle: Host, state: LabState, host: HostState) -> None:
    """Make the host's Docker network, if it is not there yet, and plug the cable into its bridge."""
    if not host.docker:
        return
    known = handle.docker("network", "ls", "--filter", f"name=^{SEGMENT}$", "--format", "{{.Name}}")
    if not known:
        handle.docker(
            "network",
            "create",
            "--label",
            f"{LABEL}={state.name}",
            "--ipv6",
            "--subnet",
            segment_subnet_v6(state),
            "--gateway",
            segment_address_v6(state, host),
            "--ip-range",
            f"{_prefix_v6(state)}:{host.number}::/80",
            "--subnet",
            segment_subnet(state),
            "--ip-range",
            f"{state.network}.200.{120 + 8 * host.number}/29",
            "--gateway",
            segment_address(state, host),
            "--opt",
            f"com.docker.network.bridge.name={BRIDGE}",
            SEGMENT,
        )
    network.attach(handle.netns, _PORT, BRIDGE)
