"""Addresses that go with a container: what counts as one segment, and what a peer may say about it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from streamhop.content.container_config import (
    Endpoint,
    connected,
    endpoint_on,
    endpoints_from_wire,
    misfit,
    outside,
    pinned,
)
from streamhop_protocol.errors import LimitError, MalformedError

MAC = "02:42:0a:32:00:64"
ENDPOINT = Endpoint(
    "l2", "hall", MAC, (ipaddress.ip_interface("10.50.0.100/24"), ipaddress.ip_interface("fd00:50::64/64"))
)
SOURCE: dict[str, Any] = {
    "IPAddress": "10.50.0.100",
    "IPPrefixLen": 24,
    "GlobalIPv6Address": "fd00:50::64",
    "GlobalIPv6PrefixLen": 64,
    "MacAddress": MAC.upper(),
}


def network(**changed: Any) -> dict[str, Any]:
    """What ``docker network inspect`` prints about a network that suits."""
    pools = [{"Subnet": "10.50.0.0/24", "Gateway": "10.50.0.1"}, {"Subnet": "fd00:50::/64", "Gateway": "fd00:50::1"}]
    return {
        "Name": "l2",
        "Driver": "bridge",
        "Labels": {"streamhop.segment": "hall"},
        "IPAM": {"Config": pools},
        "Containers": {"c": {"IPv4Address": "10.50.0.7/24", "IPv6Address": "", "MacAddress": "02:42:0a:32:00:07"}},
        **changed,
    }


def test_only_networks_with_an_address_count() -> None:
    networks = {"none": {"IPAddress": ""}, "l2": SOURCE, "gone": None, "six": {"GlobalIPv6Address": "fd00::2"}}
    assert list(connected({"NetworkSettings": {"Networks": networks}})) == ["l2", "six"]
    assert connected({}) == {}


def test_a_place_on_a_segment_is_read_from_what_docker_prints() -> None:
    assert endpoint_on("l2", SOURCE, network()) == ENDPOINT


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"Labels": {}}, "has no label streamhop.segment"),
        ({"Labels": None}, "has no label streamhop.segment"),
        ({"Labels": {"streamhop.segment": "two words"}}, "has no label streamhop.segment"),
        ({"Driver": "ipvlan"}, "is of kind ipvlan"),
    ],
)
def test_a_network_that_is_no_segment(changed: dict[str, Any], says: str) -> None:
    found = endpoint_on("l2", SOURCE, network(**changed))
    assert isinstance(found, str)
    assert says in found


def test_without_a_mac_address_nothing_is_kept() -> None:
    assert "MAC address" in str(endpoint_on("l2", {**SOURCE, "MacAddress": ""}, network()))


def test_it_travels_whole() -> None:
    assert endpoints_from_wire([ENDPOINT.to_wire()]) == (ENDPOINT,)


@pytest.mark.parametrize(
    "changed",
    [
        {"mac": "01:42:0a:32:00:64"},
        {"mac": "ff:ff:ff:ff:ff:ff"},
        {"mac": MAC + "\n"},
        {"network": "../x"},
        {"segment": "a\x1b[0m"},
        {"segment": ""},
        {"addresses": []},
        {"addresses": ["10.50.0.100"]},
        {"addresses": ["10.50.0.100/24", "10.50.0.101/24"]},
        {"addresses": ["fe80::1%eth0/64"]},
        {"addresses": ["10.50.0.100/24", 7]},
        {"more": 1},
    ],
)
def test_a_peer_that_says_nonsense(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        endpoints_from_wire([{**ENDPOINT.to_wire(), **changed}])


def test_a_peer_that_says_too_much() -> None:
    with pytest.raises(LimitError):
        endpoints_from_wire([ENDPOINT.to_wire()] * 33)
    with pytest.raises(MalformedError, match="two endpoints"):
        endpoints_from_wire([ENDPOINT.to_wire()] * 2)
    with pytest.raises(MalformedError):
        endpoints_from_wire({"l2": ENDPOINT.to_wire()})


def test_a_network_that_suits() -> None:
    assert misfit(ENDPOINT, network()) is None
    assert misfit(ENDPOINT, network(Driver="macvlan", Containers=None)) is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"Name": "other"}, "there is no network l2"),
        ({"Driver": "overlay"}, "of kind overlay"),
        ({"Labels": {"streamhop.segment": "yard"}}, "streamhop.segment=yard"),
        ({"Labels": {}}, "has no label"),
        ({"IPAM": {"Config": [{"Subnet": "10.51.0.0/24"}, {"Subnet": "fd00:50::/64"}]}}, "not the subnet 10.50.0.0/24"),
        ({"IPAM": {"Config": [{"Subnet": "10.50.0.0/24"}]}}, "not the subnet fd00:50::/64"),
        ({"IPAM": {"Config": [{"Subnet": "10.50.0.0/25"}, {"Subnet": "fd00:50::/64"}]}}, "not the subnet"),
        (
            {"IPAM": {"Config": [{"Subnet": "10.50.0.0/24", "Gateway": "10.50.0.100"}, {"Subnet": "fd00:50::/64"}]}},
            "is the network's own",
        ),
        ({"Containers": {"x": {"IPv4Address": "10.50.0.100/24"}}}, "another container has 10.50.0.100"),
        ({"Containers": {"x": {"MacAddress": MAC}}}, f"another container has {MAC}"),
    ],
)
def test_a_network_at_the_target_that_does_not_suit(changed: dict[str, Any], says: str) -> None:
    assert says in (misfit(ENDPOINT, network(**changed)) or "")


def test_nothing_at_all_is_there() -> None:
    assert misfit(ENDPOINT, {}) == "there is no network l2"


def test_the_container_is_made_with_its_addresses() -> None:
    body = {"Image": "i", "NetworkingConfig": {"EndpointsConfig": {"l2": {"Aliases": ["web"]}}}}
    made = pinned(body, [ENDPOINT])
    assert made["NetworkingConfig"]["EndpointsConfig"]["l2"] == {
        "Aliases": ["web"],
        "IPAMConfig": {"IPv4Address": "10.50.0.100", "IPv6Address": "fd00:50::64"},
        "MacAddress": MAC,
    }
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"l2": {"Aliases": ["web"]}}}


def test_which_ends_are_beyond_the_segment() -> None:
    remotes = ["10.50.0.9", "127.0.0.1", "192.0.2.7", "fd00:50::9", "::1", "fd00:51::9", "fe80::1"]
    found = outside([ipaddress.ip_address(text) for text in remotes], [ENDPOINT])
    assert [str(address) for address in found] == ["192.0.2.7", "fd00:51::9"]
