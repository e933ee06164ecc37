"""Which addresses a container can take along: those on a layer-2 segment that both hosts are on.

Nobody can see from one host that two networks are one segment, so people say it: both Docker networks have the label
``streamhop.segment`` with the same value. What can be seen is held against that.
"""

from __future__ import annotations

import contextlib
import copy
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamhop.findings import shown
from streamhop_protocol.errors import LimitError, MalformedError

SEGMENT_LABEL = "streamhop.segment"

DRIVERS = frozenset({"bridge", "macvlan"})
"""Kinds of Docker networks whose containers are on the segment with an address of layer 2 of their own."""

ENDPOINTS_MAX = 32

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}")
_SEGMENT = re.compile(r"[!-~]{1,128}")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_MULTICAST = 1

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's place on a network."""

    network: str
    """The Docker network's name."""

    segment: str
    mac: str
    addresses: tuple[Interface, ...]
    """One of IPv4, one of IPv6, or both."""

    def to_wire(self) -> dict[str, Any]:
        """The endpoint as a map of texts."""
        addresses = [str(address) for address in self.addresses]
        return {"network": self.network, "segment": self.segment, "mac": self.mac, "addresses": addresses}

    @classmethod
    def from_wire(cls, value: object) -> Endpoint:
        """Check a peer's word.

        :raises MalformedError: it is not what :meth:`to_wire` makes.
        """
        if not isinstance(value, dict) or value.keys() != {"network", "segment", "mac", "addresses"}:
            raise MalformedError("an endpoint is not a map of network, segment, mac and addresses")
        for key, form in (("network", _NAME), ("segment", _SEGMENT), ("mac", _MAC)):
            if not isinstance(value[key], str) or not form.fullmatch(value[key]):
                raise MalformedError(f"the {key} of an endpoint is none")
        if int(value["mac"][:2], 16) & _MULTICAST:
            raise MalformedError("the mac of an endpoint is a group's")
        addresses = value["addresses"]
        if not isinstance(addresses, list) or not 1 <= len(addresses) <= 2:
            raise MalformedError("an endpoint has no addresses, or too many")
        found = tuple(_interface(address) for address in addresses)
        if len({address.version for address in found}) != len(found):
            raise MalformedError("an endpoint has two addresses of one kind")
        return cls(value["network"], value["segment"], value["mac"], found)


def _interface(text: object) -> Interface:
    if not isinstance(text, str) or "/" not in text or "%" in text or len(text) > 64:
        raise MalformedError("an address of an endpoint is none with a prefix")
    try:
        return ipaddress.ip_interface(text)
    except ValueError as error:
        raise MalformedError("an address of an endpoint is none with a prefix") from error


def endpoints_from_wire(value: object) -> tuple[Endpoint, ...]:
    """The endpoints of a container that a peer offers.

    :raises MalformedError: they are none.
    :raises LimitError: there are too many.
    """
    if not isinstance(value, list):
        raise MalformedError("endpoints must be a list")
    if len(value) > ENDPOINTS_MAX:
        raise LimitError(f"{len(value)} endpoints, at most {ENDPOINTS_MAX} allowed")
    found = tuple(Endpoint.from_wire(entry) for entry in value)
    if len({endpoint.network for endpoint in found}) != len(found):
        raise MalformedError("two endpoints on one network")
    return found


def connected(inspect: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The networks on which a container has an address, by their names.

    :param inspect: what ``docker inspect`` prints about it.
    """
    networks = inspect.get("NetworkSettings", {}).get("Networks") or {}
    return {
        name: endpoint
        for name, endpoint in sorted(networks.items())
        if endpoint and (endpoint.get("IPAddress") or endpoint.get("GlobalIPv6Address"))
    }


def endpoint_on(name: str, endpoint: Mapping[str, Any], network: Mapping[str, Any]) -> Endpoint | str:
    """A container's place on a network at the source; or why it cannot be taken along.

    :param endpoint: an entry of ``NetworkSettings.Networks``.
    :param network: what ``docker network inspect`` prints.
    """
    if network.get("Driver") not in DRIVERS:
        return (
            f"the network {shown(name)} is of kind {shown(network.get('Driver'))}, not {' or '.join(sorted(DRIVERS))}"
        )
    segment = (network.get("Labels") or {}).get(SEGMENT_LABEL, "")
    if not _SEGMENT.fullmatch(segment):
        return f"the network {shown(name)} has no label {SEGMENT_LABEL}"
    pairs = (("IPAddress", "IPPrefixLen"), ("GlobalIPv6Address", "GlobalIPv6PrefixLen"))
    addresses = tuple(
        ipaddress.ip_interface(f"{endpoint[address]}/{endpoint[prefix]}")
        for address, prefix in pairs
        if endpoint.get(address)
    )
    mac = str(endpoint.get("MacAddress", "")).lower()
    if not _MAC.fullmatch(mac):
        return f"Docker does not tell its MAC address on the network {shown(name)}"
    return Endpoint(name, segment, mac, addresses)


def misfit(endpoint: Endpoint, network: Mapping[str, Any]) -> str | None:
    """Why a container cannot have its place on the target's network of that name; None if it can.

    :param network: what ``docker network inspect`` prints at the target.
    """
    name = shown(endpoint.network)
    if network.get("Name") != endpoint.network:
        return f"there is no network {name}"
    if network.get("Driver") not in DRIVERS:
        return f"the network {name} is of kind {shown(network.get('Driver'))}"
    segment = (network.get("Labels") or {}).get(SEGMENT_LABEL)
    if segment != endpoint.segment:
        said = f"has the label {SEGMENT_LABEL}={shown(segment)}" if segment else f"has no label {SEGMENT_LABEL}"
        return f"the network {name} {said}, the source's has {shown(endpoint.segment)}"
    subnets = list(subnets_of(network))
    own = {text for pool in (network.get("IPAM") or {}).get("Config") or () for text in _reserved(pool)}
    taken = addresses_taken(network)
    for address in endpoint.addresses:
        if address.network not in subnets:
            return f"the network {name} has not the subnet {address.network}"
        if str(address.ip) in own:
            return f"{address.ip} is the network's own on {name}"
        if str(address.ip) in taken:
            return f"another container has {address.ip} on the network {name}"
    others = (network.get("Containers") or {}).values()
    if endpoint.mac in {str(other.get("MacAddress", "")).lower() for other in others}:
        return f"another container has {endpoint.mac} on the network {name}"
    return None


def subnets_of(network: Mapping[str, Any]) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The subnets of a network, as ``docker network inspect`` prints it."""
    for pool in (network.get("IPAM") or {}).get("Config") or ():
        with contextlib.suppress(ValueError):
            yield ipaddress.ip_network(pool.get("Subnet", ""), strict=False)


def addresses_taken(network: Mapping[str, Any]) -> set[str]:
    """The addresses that containers have on a network, as ``docker network inspect`` prints it."""
    return {
        str(endpoint.get(field, "")).partition("/")[0]
        for endpoint in (network.get("Containers") or {}).values()
        for field in ("IPv4Address", "IPv6Address")
    }


def _reserved(pool: Mapping[str, Any]) -> Iterator[str]:
    """Addresses that are no container's."""
    for text in (pool.get("Gateway"), *(pool.get("AuxiliaryAddresses") or {}).values()):
        if text:
            yield text.partition("/")[0]


def pinned(body: Mapping[str, Any], endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """A copy of the body of ``POST /containers/create`` that asks for just these addresses."""
    result = copy.deepcopy(dict(body))
    asked = result.setdefault("NetworkingConfig", {}).setdefault("EndpointsConfig", {})
    for endpoint in endpoints:
        config = asked.setdefault(endpoint.network, {})
        keys = {4: "IPv4Address", 6: "IPv6Address"}
        config["IPAMConfig"] = {
            **config.get("IPAMConfig", {}),
            **{keys[address.version]: str(address.ip) for address in endpoint.addresses},
        }
        config["MacAddress"] = endpoint.mac
    return result


def outside(remotes: Sequence[Address], endpoints: Sequence[Endpoint]) -> list[Address]:
    """Those ends of connections that are not neighbours on one of the segments, nor in the container itself."""
    networks = [address.network for endpoint in endpoints for address in endpoint.addresses]
    return [
        remote
        for remote in remotes
        if not remote.is_loopback
        and not remote.is_link_local
        and not any(remote.version == network.version and remote in network for network in networks)
    ]
