"""Networks as the source describes them, and what of them the target takes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from streamhop.content.container_config import (
    NetworkDescription,
    describe_network,
    network_refusals,
    networks_from_wire,
)
from streamhop_protocol.errors import LimitError, MalformedError

LABEL = "only.here"

INSPECT: dict[str, Any] = {
    "Name": "shop",
    "Id": "1" * 64,
    "Created": "2026-01-01T00:00:00Z",
    "Scope": "local",
    "Driver": "bridge",
    "EnableIPv4": True,
    "EnableIPv6": False,
    "IPAM": {
        "Driver": "default",
        "Options": {},
        "Config": [{"Subnet": "172.28.0.0/16", "IPRange": "172.28.5.0/24", "Gateway": "172.28.5.254"}],
    },
    "Internal": True,
    "Attachable": False,
    "Ingress": False,
    "ConfigFrom": {"Network": ""},
    "ConfigOnly": False,
    "Containers": {"c" * 64: {"Name": "web", "IPv4Address": "172.28.5.1/16"}},
    "Options": {"com.docker.network.driver.mtu": "1400"},
    "Labels": {"com.docker.compose.network": "shop", LABEL: "x", "streamhop.segment": "hall"},
}


def sent(**fields: Any) -> NetworkDescription:
    wire = describe_network(INSPECT, without_labels=frozenset({LABEL})).to_wire()
    (network,) = networks_from_wire([copy.deepcopy(wire) | fields])
    return network


def test_a_network_is_made_as_it_was() -> None:
    network = sent()
    assert list(network_refusals(network)) == []
    assert network.body({"streamhop.move": "m"}) == {
        "Name": "shop",
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Internal": True,
        "IPAM": {"Driver": "default", "Config": INSPECT["IPAM"]["Config"]},
        "Options": {"com.docker.network.driver.mtu": "1400"},
        "Labels": {"com.docker.compose.network": "shop", "streamhop.move": "m"},
    }


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"Driver": "macvlan"}, "no plain bridge"),
        ({"Driver": "host"}, "no plain bridge"),
        ({"IpamDriver": "dhcp"}, "no plain bridge"),
        ({"Options": {"com.docker.network.bridge.name": "eth0"}}, "bridge.name"),
        ({"Config": [{"Subnet": "0.0.0.0/0"}]}, "0.0.0.0/0"),
        ({"Config": [{"Subnet": "8.8.8.0/24"}]}, "8.8.8.0/24"),
        ({"Config": [{"Subnet": "10.0.0.0/8"}]}, "10.0.0.0/8"),
        ({"Config": [{"Subnet": "127.0.0.0/16"}]}, "127.0.0.0/16"),
        ({"Config": [{"Subnet": "169.254.169.0/24"}]}, "169.254.169.0/24"),
        ({"Config": [{"Subnet": "2001:db8::/64"}]}, "2001:db8::/64"),
        ({"Config": [{"Subnet": "fd00::/16"}]}, "fd00::/16"),
    ],
)
def test_what_would_take_more_than_a_bridge_is_not_made(fields: dict[str, Any], named: str) -> None:
    """P12: a network's addresses become routes of the host."""
    (refusal,) = network_refusals(sent(**fields))
    assert refusal.id == "policy.network"
    assert named in refusal.reason


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"Name": "../x"}, MalformedError),
        ({"Name": None}, MalformedError),
        ({"Config": [{"Subnet": "172.28.0.1/16"}]}, MalformedError),
        ({"Config": [{"Subnet": ""}]}, MalformedError),
        ({"Config": [{"Subnet": "172.28.0.0/16", "Gateway": "10.0.0.1"}]}, MalformedError),
        ({"Config": [{"Subnet": "172.28.0.0/16", "IPRange": "10.0.0.0/24"}]}, MalformedError),
        ({"Config": [{"Subnet": "172.28.0.0/16", "IPRange": "fd00::/64"}]}, MalformedError),
        ({"Config": [{"Subnet": "172.28.0.0/16"}] * 5}, LimitError),
        ({"Config": "172.28.0.0/16"}, MalformedError),
        ({"Labels": {"x": 1}}, MalformedError),
        ({"Internal": "yes"}, MalformedError),
        ({"ConfigFrom": {"Network": "x"}}, MalformedError),
    ],
)
def test_no_honest_peer_sends_that(fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        sent(**fields)


def test_networks_are_a_short_list() -> None:
    with pytest.raises(MalformedError):
        networks_from_wire("shop")
    with pytest.raises(LimitError):
        networks_from_wire([{"Name": f"n{number}"} for number in range(33)])
