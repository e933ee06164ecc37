"""At the target: the networks of a container that arrives; those that are missing are made, if the policy says so."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamhop.content.container_config import NetworkDescription, addresses_taken, network_refusals, subnets_of
from streamhop.engine.docker import Conflict, Engine, EngineError, NotFound
from streamhop.engine.routes import routed_networks
from streamhop.findings import Finding, found, shown

from .host import Host, MoveJournal
from .journal import Record
from .manifest import Manifest
from .surroundings import MOVE_LABEL

log = logging.getLogger("streamhop.handover")

NETWORKS_MADE = "networks_made"
"""Detail of a target's record: names of networks that are made for the move."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


async def check_networks(engine: Engine, manifest: Manifest, *, may_make: bool) -> list[Finding]:
    """What of a container's networks does not fit this host.

    :param may_make: whether the policy lets this host make missing ones.
    :raises EngineError: Docker does not answer.
    """
    findings: list[Finding] = []
    endpoints = manifest.request.body.get("NetworkingConfig", {}).get("EndpointsConfig", {})
    for name in manifest.request.networks:
        try:
            details = await _found(engine, name)
        except EngineError as error:
            findings.append(found("target.network", f"the target's network {name!r} cannot be used: {error}"))
            continue
        if details is not None and details["Driver"] == "host":
            reason = f"the target's network {name!r} is the host's own"
            findings.append(found("target.network-host", reason, "rename one of them"))
        elif details is None or details["Name"] != name:
            findings += await _missing(engine, manifest, name, may_make=may_make)
        else:
            findings += _address_findings(name, details, endpoints.get(name, {}).get("IPAMConfig", {}))
    return findings


async def _found(engine: Engine, name: str) -> dict[str, Any] | None:
    """What Docker takes the name for, the beginning of an ID included."""
    try:
        return await engine.inspect_network(name)
    except NotFound:
        return None


async def _named(engine: Engine, name: str) -> dict[str, Any] | None:
    details = await _found(engine, name)
    return details if details is not None and details["Name"] == name else None


async def _missing(engine: Engine, manifest: Manifest, name: str, *, may_make: bool) -> list[Finding]:
    described = _description(manifest, name)
    if described is None or not may_make:
        fix = f"create it there: docker network create {name}"
        if described is not None:
            fix += '; or allow it in [policy] at the target: networks = "create"'
        return [found("target.network", f"the target has no network {name!r}", fix)]
    refusals = list(network_refusals(described))
    taken = [pool for network in await engine.list_networks() for pool in subnets_of(network)]
    taken += await asyncio.to_thread(routed_networks, Path("/proc/net"))
    return refusals + list(_overlaps(described, taken))


def _description(manifest: Manifest, name: str) -> NetworkDescription | None:
    return next((network for network in manifest.networks if network.name == name), None)


def _overlaps(network: NetworkDescription, taken: Sequence[_Network]) -> Iterator[Finding]:
    for subnet in network.subnets:
        other = next((pool for pool in taken if pool.version == subnet.version and pool.overlaps(subnet)), None)
        if other is not None:
            yield found(
                "target.network-overlap",
                f"the network {network.name!r} has the addresses {subnet}, the target uses {other} otherwise",
                "make a network of that name there with other addresses: docker network create --subnet",
            )


def _address_findings(name: str, details: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the fixed addresses of the container are to be had in a network that is there."""
    pools = list(subnets_of(details))
    used = addresses_taken(details)
    for field in ("IPv4Address", "IPv6Address"):
        text = str(wanted.get(field) or "")
        if not text:
            continue
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            yield found("target.network-address", f"{shown(text)!r} is no address", "")
            continue
        if not any(address in pool for pool in pools):
            fix = "make that network anew there with the same subnet"
            yield found("target.network-address", f"{address} is no address of the target's network {name!r}", fix)
        elif str(address) in used:
            fix = "stop the one that has it"
            yield found("target.network-address", f"{address} is taken in the target's network {name!r}", fix)


async def make_networks(host: Host, journal: MoveJournal, move: bytes, manifest: Manifest, *, may_make: bool) -> None:
    """Make those of the container's networks that are missing.

    :raises EngineError: Docker would not.
    :raises sqlite3.Error: the journal could not be written.
    """
    if not may_make:
        return
    missing = [network for network in manifest.networks if await _named(host.engine, network.name) is None]
    missing = [network for network in missing if network.name in manifest.request.networks]
    if not missing:
        return
    await journal.note(**{NETWORKS_MADE: [network.name for network in missing]})
    for network in missing:
        # Another move may have made it meanwhile; then it is there.
        with contextlib.suppress(Conflict):
            await host.engine.create_network(network.body({MOVE_LABEL: move.hex()}))


async def remove_networks(host: Host, record: Record) -> None:
    """Remove what was made for a move that has failed, once its container is gone, unless others use it by now.

    :raises EngineError: Docker would not.
    """
    made = record.details.get(NETWORKS_MADE) or ()
    if not made:
        return
    in_use = {
        name
        for container in await host.engine.list_containers(all=True)
        for name in (container.get("NetworkSettings") or {}).get("Networks") or {}
    }
    for name in map(str, made):
        details = await _named(host.engine, name)
        if details is None or (details.get("Labels") or {}).get(MOVE_LABEL) != record.move.hex():
            continue
        if name in in_use:
            log.warning("the network %s of a move that failed stays: others use it", name)
            continue
        with contextlib.suppress(NotFound):
            await host.engine.remove_network(name)
