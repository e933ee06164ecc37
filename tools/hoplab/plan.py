"""What a lab shall be, and finding one's way in it; nothing here touches the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from .errors import UsageError
from .settings import check_host_name, check_lab_name
from .state import HostState, LabState, LinkState
from .units import parse_size

IMAGE_STORES = ("classic", "containerd")
HOSTS_MAX = 16
DOCKER_DATA = "/var/lib/docker"

DiskLimits = Mapping[str, Mapping[str, int | str] | int | str]
"""Host -> bytes for Docker's data, or host -> {path: bytes}."""


def plan_lab(name: str, hosts: Sequence[str], clients: Sequence[str], image_store: str, *, segment: bool) -> LabState:
    """A lab without addresses, every two of its hosts joined by a link that is not shaped.

    :raises UsageError: a lab cannot be like that.
    """
    check_lab_name(name)
    names = [check_host_name(host) for host in (*hosts, *clients)]
    if not names:
        raise UsageError("a lab needs a host")
    if len(names) > HOSTS_MAX or len(set(names)) != len(names):
        raise UsageError(f"a lab has up to {HOSTS_MAX} hosts, each with a name of its own")
    if image_store not in IMAGE_STORES:
        raise UsageError(f"{image_store!r} is not an image store: {' or '.join(IMAGE_STORES)}")
    state = LabState(name, 0, segment)
    for number, host in enumerate(names, 1):
        state.hosts.append(HostState(host, number, "", docker=host in hosts, image_store=image_store))
    state.links = [LinkState(a, b) for a, b in combinations(names, 2)]
    return state


def find_host(state: LabState, name: str) -> HostState:
    for host in state.hosts:
        if host.name == name:
            return host
    raise UsageError(f"there is no host {name!r} in lab {state.name!r}: {', '.join(host.name for host in state.hosts)}")


def find_link(state: LabState, a: str, b: str) -> LinkState:
    """:raises UsageError: there is no such link."""
    for link in state.links:
        if {link.a, link.b} == {find_host(state, a).name, find_host(state, b).name} and a != b:
            return link
    raise UsageError(f"there is no link from {a} to {b}")


def links_of(state: LabState, host: str) -> list[LinkState]:
    return [link for link in state.links if host in (link.a, link.b)]


def limit_disks(state: LabState, limits: DiskLimits) -> None:
    """Note which directories of which hosts lie on a small file system.

    :raises UsageError: there is no such host, or that is no size.
    """
    for name, limit in limits.items():
        table = limit if isinstance(limit, Mapping) else {DOCKER_DATA: limit}
        find_host(state, name).disk_limits = {path: parse_size(size) for path, size in table.items()}


def shape_between_dockers(state: LabState, rate_bit_per_s: int | None, rtt_s: float | None, loss: float) -> None:
    """Shape the links whose two ends have Docker."""
    dockers = {host.name for host in state.hosts if host.docker}
    for link in state.links:
        if {link.a, link.b} <= dockers:
            link.rate_bit_per_s, link.rtt_s, link.loss = rate_bit_per_s, rtt_s, loss
