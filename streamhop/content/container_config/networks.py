"""How a network of the source is made, so that the target can make the same one; and whether it may.

A network changes the routes of its host: what a peer asks for must not take addresses that lead elsewhere.

Source: Docker Engine API 1.51, NetworkCreate; options of the bridge driver: moby, libnetwork/drivers/bridge/labels.go.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamhop.findings import Finding, found, shown
from streamhop_protocol.errors import LimitError, MalformedError

from .schema import TEXT_MAP, Checker, ListOf, without_empty
from .segments import SEGMENT_LABEL

NETWORKS_MAX = 32
PREDEFINED = frozenset({"bridge", "host", "none", "default"})
"""Docker makes these on every host."""

SUBNETS_MAX = 4

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}")
_OPTIONS = frozenset(
    {
        "com.docker.network.bridge.enable_icc",
        "com.docker.network.bridge.enable_ip_masquerade",
        "com.docker.network.driver.mtu",
    }
)
_POOL = {"Subnet": str, "IPRange": str, "Gateway": str}
_WIRE: Mapping[str, Any] = {
    "Name": str,
    "Driver": str,
    "Internal": bool,
    "Attachable": bool,
    "EnableIPv6": bool,
    "IpamDriver": str,
    "Config": ListOf(_POOL),
    "Options": TEXT_MAP,
    "Labels": TEXT_MAP,
}
_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
_PREFIX_MIN = {4: 12, 6: 48}
"""A larger subnet would take addresses that others of the host's network may have."""

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class NetworkDescription:
    """A network, as its maker described it."""

    name: str
    wire: Mapping[str, Any]
    """Its fields; see :func:`networks_from_wire` for what is checked."""

    @property
    def subnets(self) -> list[Subnet]:
        """Its addresses."""
        return [ipaddress.ip_network(pool["Subnet"]) for pool in self.wire.get("Config", ()) if pool.get("Subnet")]

    def to_wire(self) -> dict[str, Any]:
        """The description as maps, lists, strings and booleans."""
        return dict(self.wire)

    def body(self, labels: Mapping[str, str]) -> dict[str, Any]:
        """The body of ``POST /networks/create``.

        That it is a segment is for the people of this host to say, who have joined it to others, or have not.

        :param labels: besides its own.
        """
        own = {key: value for key, value in self.wire.get("Labels", {}).items() if key != SEGMENT_LABEL}
        flags = {key: self.wire[key] for key in ("Internal", "Attachable", "EnableIPv6") if key in self.wire}
        return {
            "Name": self.name,
            "Driver": "bridge",
            "CheckDuplicate": True,
            **flags,
            "IPAM": {"Driver": "default", "Config": list(self.wire.get("Config", ()))},
            "Options": dict(self.wire.get("Options", {})),
            "Labels": {**own, **labels},
        }


def describe_network(inspect: Mapping[str, Any], *, without_labels: frozenset[str]) -> NetworkDescription:
    """A network as ``docker network inspect`` prints it.

    :param without_labels: labels that only mean something on this host.
    """
    ipam = inspect.get("IPAM") or {}
    wire = without_empty(inspect, _WIRE) | {
        "IpamDriver": str(ipam.get("Driver") or "default"),
        "Config": [without_empty(pool, _POOL) for pool in ipam.get("Config") or ()],
    }
    if labels := wire.pop("Labels", None):
        wire["Labels"] = {key: value for key, value in labels.items() if key not in without_labels}
    return NetworkDescription(str(inspect["Name"]), wire)


def networks_from_wire(value: object) -> tuple[NetworkDescription, ...]:
    """Check a peer's descriptions of networks.

    :raises MalformedError: one is none.
    :raises LimitError: they are too many or too large.
    """
    if not isinstance(value, list):
        raise MalformedError("networks must be a list")
    if len(value) > NETWORKS_MAX:
        raise LimitError(f"more than {NETWORKS_MAX} networks")
    checker = Checker()
    return tuple(_from_wire(checker.check(entry, _WIRE, "a network")) for entry in value)


def _from_wire(wire: Mapping[str, Any]) -> NetworkDescription:
    name = wire.get("Name", "")
    if not _NAME.fullmatch(name):
        raise MalformedError("the name of a network is not one that Docker accepts")
    pools = wire.get("Config", [])
    if len(pools) > SUBNETS_MAX:
        raise LimitError(f"a network with more than {SUBNETS_MAX} subnets")
    for pool in pools:
        _check_pool(pool)
    return NetworkDescription(name, wire)


def _check_pool(pool: Mapping[str, str]) -> None:
    try:
        subnet = ipaddress.ip_network(pool.get("Subnet", ""))
        part = ipaddress.ip_network(pool.get("IPRange") or subnet)
        gateway = ipaddress.ip_address(pool["Gateway"]) if pool.get("Gateway") else None
    except ValueError as error:
        raise MalformedError("a subnet of a network is none") from error
    outside = gateway is not None and gateway not in subnet
    if outside or part.version != subnet.version or not part.subnet_of(subnet):  # type: ignore[arg-type]  # same version
        raise MalformedError("a network's gateway or range is outside of its subnet")


def network_refusals(network: NetworkDescription) -> Iterator[Finding]:
    """Everything for which a network is not made here, whatever the policy says."""
    wire, name = network.wire, shown(network.name)
    if wire.get("Driver") != "bridge" or wire.get("IpamDriver", "default") != "default":
        yield _refusal(f"the network {name} to be made here: it is no plain bridge")
    for option in wire.get("Options", {}):
        if option not in _OPTIONS:
            yield _refusal(f"the option {shown(option)} of the network {name}")
    for subnet in network.subnets:
        private = any(subnet.version == range_.version and subnet.subnet_of(range_) for range_ in _PRIVATE)  # type: ignore[arg-type]  # same version
        if not private or subnet.prefixlen < _PREFIX_MIN[subnet.version]:
            yield _refusal(f"the addresses {subnet} of the network {name}")


def _refusal(what: str) -> Finding:
    return found("policy.network", f"the target does not take {what}", "make it there: docker network create")
