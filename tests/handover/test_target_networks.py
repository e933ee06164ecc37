"""Networks at the target: there by their names, or made if the policy says so; and gone with a move that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from content.container_config_support import changed, wire
from handover_support import MOVE, host_with, written
from surroundings_support import FakeDocker, manifest_with

from streamhop.content.container_config import CreationRequest, NetworkDescription, networks_from_wire
from streamhop.handover import target_networks
from streamhop.handover.host import Host, MoveJournal
from streamhop.handover.journal import Journal
from streamhop.handover.manifest import Manifest
from streamhop.handover.states import Role, State
from streamhop.handover.surroundings import MOVE_LABEL
from streamhop.handover.target_networks import check_networks, make_networks, remove_networks


@pytest.fixture(autouse=True)
def no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's own are."""
    monkeypatch.setattr(target_networks, "routed_networks", lambda _: [])


@pytest.fixture
def engine() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def host(engine: Any, journal: Journal, tmp_path: Path) -> Host:
    return host_with(engine, journal, tmp_path)


def described(name: str, subnet: str = "172.28.0.0/16", **more: Any) -> NetworkDescription:
    (network,) = networks_from_wire([{"Name": name, "Driver": "bridge", "Config": [{"Subnet": subnet}], **more}])
    return network


def in_networks(*networks: NetworkDescription, **endpoints: dict[str, Any]) -> Manifest:
    """A container that is in these networks, with these endpoints."""
    manifest = manifest_with(networks=networks)
    sent = changed(wire(NetworkMode=next(iter(endpoints))), "body/NetworkingConfig", {"EndpointsConfig": endpoints})
    object.__setattr__(manifest, "request", CreationRequest.from_wire(sent))
    return manifest


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("shop", None),
        ("abc", "has no network"),
        ("other", "has no network"),
        ("h", "the host's own"),
        ("broken", "does not answer"),
    ],
)
async def test_a_network_must_be_there_by_its_name(engine: Any, network: str, reason: str | None) -> None:
    engine.add_network("shop")
    engine.networks["abc"] = engine.networks["shop"]  # as Docker takes the beginning of an ID
    engine.networks["h"] = {"Name": "host", "Driver": "host"}
    found = await check_networks(engine, in_networks(**{network: {}}), may_make=True)
    assert [reason is not None and reason in finding.reason for finding in found] == ([] if reason is None else [True])


async def test_a_missing_one_is_made_only_if_the_policy_says_so(engine: Any) -> None:
    manifest = in_networks(described("shop"), shop={})
    assert await check_networks(engine, manifest, may_make=True) == []
    (finding,) = await check_networks(engine, manifest, may_make=False)
    assert 'networks = "create"' in finding.fix


async def test_not_one_that_would_take_the_hosts_addresses(engine: Any) -> None:
    """P12: however willing the policy is."""
    manifest = in_networks(described("shop", "8.8.8.0/24"), shop={})
    assert [finding.id for finding in await check_networks(engine, manifest, may_make=True)] == ["policy.network"]


async def test_nor_one_that_overlaps_with_another_or_with_a_route(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = in_networks(described("shop"), shop={})
    engine.add_network("bridge", "172.28.128.0/24")
    (finding,) = await check_networks(engine, manifest, may_make=True)
    assert (finding.id, "172.28.128.0/24" in finding.reason) == ("target.network-overlap", True)
    engine.networks.clear()
    monkeypatch.setattr(target_networks, "routed_networks", lambda _: described("x", "172.16.0.0/12").subnets)
    (finding,) = await check_networks(engine, manifest, may_make=True)
    assert (finding.id, "172.16.0.0/12" in finding.reason) == ("target.network-overlap", True)


@pytest.mark.parametrize(
    ("address", "says"),
    [("172.28.0.9", None), ("10.0.0.9", "is no address of"), ("172.28.0.7", "is taken"), ("nonsense", "is no address")],
)
async def test_a_fixed_address_must_be_free_in_it(engine: Any, address: str, says: str | None) -> None:
    engine.add_network("shop", "172.28.0.0/16", Containers={"c": {"IPv4Address": "172.28.0.7/16", "IPv6Address": ""}})
    manifest = in_networks(shop={"IPAMConfig": {"IPv4Address": address}})
    found = await check_networks(engine, manifest, may_make=False)
    assert [finding.id for finding in found] == ([] if says is None else ["target.network-address"])
    assert says is None or says in found[0].reason


async def made(host: Host, journal: Journal, manifest: Manifest, *, may_make: bool = True) -> None:
    record = written(journal, Role.TARGET, State.RECEIVING)
    await make_networks(
        host, MoveJournal(journal, MOVE, Role.TARGET, 1, record.state), MOVE, manifest, may_make=may_make
    )


async def removed(host: Host) -> None:
    record = host.journal.latest(MOVE, Role.TARGET)
    assert record is not None
    await remove_networks(host, record)


async def test_it_is_made_with_our_label_and_goes_again(host: Host, engine: FakeDocker, journal: Journal) -> None:
    """P16."""
    engine.add_network("there")
    await made(host, journal, in_networks(described("shop"), described("there"), described("more"), shop={}, there={}))
    assert engine.calls == ["create network shop"]
    assert engine.networks["shop"]["Labels"] == {MOVE_LABEL: MOVE.hex()}
    await removed(host)
    assert list(engine.networks) == ["there"]
    await removed(host)


async def test_nothing_is_made_that_the_policy_does_not_allow(host: Host, engine: FakeDocker, journal: Journal) -> None:
    await made(host, journal, in_networks(described("shop"), shop={}), may_make=False)
    assert engine.calls == []


async def test_what_others_use_or_made_stays(host: Host, engine: FakeDocker, journal: Journal) -> None:
    await made(host, journal, in_networks(described("shop"), shop={}))
    engine.containers = [{"NetworkSettings": {"Networks": {"shop": {}}}}]
    await removed(host)
    engine.containers = []
    engine.networks["shop"]["Labels"] = {}
    await removed(host)
    assert list(engine.networks) == ["shop"]
