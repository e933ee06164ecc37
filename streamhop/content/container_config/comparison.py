"""Compares what ``docker inspect`` prints before and after a move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .creation import SHORT_ID_CHARACTERS, binding_of, endpoint_config, is_fixed

IGNORED_CONFIG = frozenset({"Image"})
"""The name that the image was asked for by; the image itself is compared by its ID."""

IGNORED_HOST_CONFIG = frozenset({"ContainerIDFile", "Runtime", "NetworkMode", "PortBindings"})
"""Host specific, or compared in another way."""

_ZERO_IS_A_CHOICE = frozenset({"MemorySwappiness", "StopTimeout"})
"""Numbers whose zero is another setting than none."""


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Where the two differ in anything that was asked for; an empty list if a move kept the configuration.

    What Docker makes up by itself is not compared: IDs, times, paths of the host, PIDs, addresses that were not asked
    for. Neither is the runtime, which restores the container at the target.

    :returns: one line each, ``place: before -> after``.
    """
    return [f"{place}: {was!r} -> {now!r}" for place, was, now in _pairs(before, after) if _plain(was) != _plain(now)]


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for place in ("Name", "Image", "Path", "Args", "Platform"):
        yield place, before.get(place), after.get(place)
    yield "State.Status", before["State"].get("Status"), after["State"].get("Status")
    for section, ignored in (("Config", IGNORED_CONFIG), ("HostConfig", IGNORED_HOST_CONFIG)):
        was, now = before[section], after[section]
        for key in sorted(was.keys() | now.keys()):
            if key in _ZERO_IS_A_CHOICE:
                yield f"{section}.{key}", _chosen(was.get(key)), _chosen(now.get(key))
            elif key not in ignored:
                yield f"{section}.{key}", was.get(key), now.get(key)
    yield "HostConfig.NetworkMode", _mode(before), _mode(after)
    chosen = _chosen_by_docker(before)
    yield "HostConfig.PortBindings", _bindings(before, chosen), _bindings(after, chosen)
    yield "NetworkSettings.Ports", _ports(before), _ports(after)
    was, now = _networks(before), _networks(after)
    for name in sorted(was.keys() | now.keys()):
        yield f"NetworkSettings.Networks.{name}", was.get(name), now.get(name)
    yield "Mounts", _mounts(before), _mounts(after)


def _chosen(value: object) -> str:
    return "none" if value is None else str(value)


def _plain(value: Any) -> Any:
    """Without what is empty: Docker writes null, an empty list or zero for the same thing, by version and by option."""
    if isinstance(value, dict):
        # A key whose value is empty can be the point of it, as with exposed ports and labels.
        return {key: _plain(entry) for key, entry in value.items()} or None
    if isinstance(value, list):
        return [_plain(entry) for entry in value] or None
    return value or None


def _endpoints(inspect: Mapping[str, Any]) -> Mapping[str, Any]:
    return inspect.get("NetworkSettings", {}).get("Networks") or {}


def _networks(inspect: Mapping[str, Any]) -> dict[str, Any]:
    # The host name is compared by itself; where nobody chose one it is the ID that the container had at first.
    made_up = {str(inspect.get("Id", ""))[:SHORT_ID_CHARACTERS], inspect["Config"].get("Hostname")}
    result = {}
    for name, endpoint in _endpoints(inspect).items():
        names = set(endpoint.get("DNSNames") or ()) - made_up
        result[name] = endpoint_config(endpoint, inspect) | {"DNSNames": sorted(names)}
    return result


def _mode(inspect: Mapping[str, Any]) -> str:
    mode = str(inspect["HostConfig"].get("NetworkMode") or "default")
    for name, endpoint in _endpoints(inspect).items():
        if str(endpoint.get("NetworkID") or "").startswith(mode):
            return name
    return "bridge" if mode == "default" else mode


def _chosen_by_docker(before: Mapping[str, Any]) -> set[str]:
    """Ports whose port on the host Docker chose. A move keeps the choice, so that it becomes a binding afterwards."""
    asked = before["HostConfig"].get("PortBindings") or {}
    given = before.get("NetworkSettings", {}).get("Ports") or {}
    open_choice = {
        port
        for port, bindings in asked.items()
        if not all(is_fixed(binding_of(binding)["HostPort"]) for binding in bindings or ())
    }
    return open_choice | {port for port, bindings in given.items() if bindings and port not in asked}


def _bindings(inspect: Mapping[str, Any], ignored: set[str]) -> dict[str, Any]:
    asked = inspect["HostConfig"].get("PortBindings") or {}
    return {
        port: [binding_of(binding) for binding in bindings or ()]
        for port, bindings in asked.items()
        if port not in ignored
    }


def _ports(inspect: Mapping[str, Any]) -> dict[str, Any]:
    ports = inspect.get("NetworkSettings", {}).get("Ports") or {}
    return {
        port: sorted((binding_of(binding)["HostIp"], binding_of(binding)["HostPort"]) for binding in bindings or ())
        for port, bindings in ports.items()
    }


def _mounts(inspect: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return sorted(
        (str(mount.get("Type")), str(mount.get("Destination")), str(mount.get("Mode")))
        for mount in inspect.get("Mounts") or ()
    )
