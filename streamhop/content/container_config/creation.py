"""From ``docker inspect`` back to the body of ``POST /containers/create``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .mounts import sent_mounts, with_other_sources
from .request import NO_RESTART, CreationRequest
from .schema import CONFIG, ENDPOINT, HOST_CONFIG, without_empty

SHORT_ID_CHARACTERS = 12
PORT_DIGITS_MAX = 5


def creation_request(
    inspect: Mapping[str, Any],
    image_inspect: Mapping[str, Any] | None = None,
    *,
    new_name: str | None,
    runtime: str,
    bind_map: Sequence[tuple[str, str]] = (),
    publish: Mapping[str, str] | None = None,
) -> CreationRequest:
    """What to create elsewhere so that ``docker inspect`` shows the same container there.

    :param inspect: what ``docker inspect`` prints about the container.
    :param image_inspect: what ``docker image inspect`` prints about its image; the ID is taken from there if given.
    :param new_name: the container's name at the target, if it is to be another.
    :param runtime: name of the OCI runtime that restores it at the target.
    :param bind_map: where binds are at the target, see :func:`.mounts.with_other_sources`.
    :param publish: ports of the host, by the container's ports such as ``80/tcp``, that are to be other ones there.
    """
    config, host = inspect["Config"], inspect["HostConfig"]
    networks = inspect.get("NetworkSettings", {}).get("Networks") or {}
    body = without_empty(config, CONFIG)
    body["Image"] = image_inspect["Id"] if image_inspect else inspect["Image"]
    if not config.get("Entrypoint"):
        # Left out, the image's would be taken; this is how `--entrypoint ""` is written.
        body["Entrypoint"] = [""]
    body["HostConfig"] = without_empty(host, HOST_CONFIG) | {
        "RestartPolicy": dict(NO_RESTART),
        "Runtime": runtime,
        "NetworkMode": _network_mode(host.get("NetworkMode") or "default", networks),
    }
    if bindings := _port_bindings(inspect):
        body["HostConfig"]["PortBindings"] = _published_elsewhere(bindings, publish or {})
    if mounts := body["HostConfig"].get("Mounts"):
        body["HostConfig"]["Mounts"] = sent_mounts(mounts)
    body = with_other_sources(body, bind_map)
    if networks:
        body["NetworkingConfig"] = {
            "EndpointsConfig": {
                name: endpoint_config(endpoint or {}, inspect) for name, endpoint in sorted(networks.items())
            }
        }
    return CreationRequest(
        name=new_name or str(inspect["Name"]).removeprefix("/"),
        body=body,
        restart_policy=without_empty(host.get("RestartPolicy") or {}, {"Name": str, "MaximumRetryCount": int}),
    )


def _network_mode(mode: str, networks: Mapping[str, Any]) -> str:
    """The mode with a network's name in place of its ID, which is another on every host."""
    if mode in networks:
        return mode
    for name, endpoint in networks.items():
        network_id = (endpoint or {}).get("NetworkID") or ""
        if len(mode) >= SHORT_ID_CHARACTERS and network_id.startswith(mode):
            return name
    return mode


def endpoint_config(endpoint: Mapping[str, Any], inspect: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for of a network, without what Docker assigned by itself.

    :param endpoint: an entry of ``NetworkSettings.Networks``.
    """
    wanted = without_empty(endpoint, ENDPOINT)
    short_id = str(inspect.get("Id", ""))[:SHORT_ID_CHARACTERS]
    # Docker before 25 lists the short ID among the aliases.
    aliases = [alias for alias in wanted.pop("Aliases", []) if alias != short_id]
    if aliases:
        wanted["Aliases"] = aliases
    ipam = without_empty(wanted.pop("IPAMConfig", {}), ENDPOINT["IPAMConfig"])
    if ipam:
        wanted["IPAMConfig"] = ipam
    # Whether a MAC address was asked for Docker tells of the first network alone, in the older field. Beside a fixed IP
    # address it is part of who the container is to its neighbours; any other may be in use at the target.
    if not ipam and endpoint.get("MacAddress") != inspect["Config"].get("MacAddress"):
        wanted.pop("MacAddress", None)
    return wanted


def _port_bindings(inspect: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Published ports; where Docker chose the host's port, the port that it chose, because clients use that."""
    asked: Mapping[str, Any] = inspect["HostConfig"].get("PortBindings") or {}
    given: Mapping[str, Any] = inspect.get("NetworkSettings", {}).get("Ports") or {}
    result = {}
    for port in [*asked, *(port for port in given if port not in asked)]:
        bindings = [binding_of(binding) for binding in asked.get(port) or ()]
        actual = [binding_of(binding) for binding in given.get(port) or ()]
        if not bindings and actual:
            # Published by `--publish-all`: any address. Docker lists 0.0.0.0 and :: for that.
            bindings = [{"HostIp": "", "HostPort": ""}]
        if any(not is_fixed(binding["HostPort"]) for binding in bindings):
            bindings = [_resolved(binding, actual) for binding in bindings]
        if bindings:
            result[port] = bindings
    return result


def _published_elsewhere(
    bindings: dict[str, list[dict[str, str]]], publish: Mapping[str, str]
) -> dict[str, list[dict[str, str]]]:
    """With other ports of the host where they are given; the addresses stay. What was not published is from now on."""
    anywhere = [{"HostIp": "", "HostPort": ""}]
    changed = {
        port: _distinct({**binding, "HostPort": number} for binding in bindings.get(port, anywhere))
        for port, number in publish.items()
    }
    return bindings | changed


def _distinct(bindings: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return [dict(items) for items in dict.fromkeys(tuple(sorted(binding.items())) for binding in bindings)]


def _resolved(binding: dict[str, str], actual: list[dict[str, str]]) -> dict[str, str]:
    if is_fixed(binding["HostPort"]):
        return binding
    for candidate in actual:
        if not binding["HostIp"] or candidate["HostIp"] == binding["HostIp"]:
            return {"HostIp": binding["HostIp"], "HostPort": candidate["HostPort"]}
    return binding


def binding_of(binding: Mapping[str, Any]) -> dict[str, str]:
    """A port binding with both of its fields."""
    return {"HostIp": binding.get("HostIp") or "", "HostPort": binding.get("HostPort") or ""}


def is_fixed(port: str) -> bool:
    """Whether a ``HostPort`` names one port, not none and not a range."""
    return port.isascii() and port.isdigit() and len(port) <= PORT_DIGITS_MAX and int(port) > 0
