"""A lab as ``hoplab status`` shows it, as plain JSON data."""

from __future__ import annotations

from typing import Any

from .host import DOCKERD_LOG, data_dir
from .settings import Settings, netns_name, netns_path
from .state import HostState, LabState, LinkState


def lab_status(where: Settings, state: LabState) -> dict[str, Any]:
    """Everything one may want to know about a lab."""
    return {
        "name": state.name,
        "ready": state.ready,
        "segment": state.segment,
        "hosts": [_host_status(where, state.name, host) for host in state.hosts],
        "links": [_link_status(link) for link in state.links],
    }


def _host_status(where: Settings, lab: str, host: HostState) -> dict[str, Any]:
    data = data_dir(where, lab, host.name)
    init = host.init if host.init is not None and host.init.alive() else None
    return {
        "name": host.name,
        "kind": "docker" if host.docker else "client",
        "address": host.address,
        "powered": init is not None,
        "pid": init.pid if init else None,
        "netns": str(netns_path(netns_name(lab, host.name))),
        "image_store": host.image_store if host.docker else None,
        "data": str(data),
        "dockerd_log": str(data / "upper" / DOCKERD_LOG[1:]) if host.docker else None,
        "disk_limits": host.disk_limits,
    }


def _link_status(link: LinkState) -> dict[str, Any]:
    measured = link.measured
    return {
        "a": link.a,
        "b": link.b,
        "up": link.up,
        "backend": link.backend,
        "rate_bit_per_s": link.rate_bit_per_s,
        "rtt_s": link.rtt_s,
        "loss": link.loss,
        "measured": None if measured is None else {"bit_per_s": measured.bit_per_s, "rtt_s": measured.rtt_s},
    }
