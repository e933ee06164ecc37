"""What this host lets its peers ask for, from the configuration::

    [policy]                            # for every peer
    capabilities = ["NET_ADMIN"]        # besides Docker's default ones
    binds = ["/srv/data"]               # directories of this host that containers may have mounted
    networks = "create"                 # make their networks that are missing; "existing": do not
    port_min = 1024

    [policy.edge-b]                     # for this one, over the general one
    accept = false

The defaults grant what an ordinary ``docker run`` needs, and nothing that reaches beyond a container.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from streamhop.config import Config, ConfigError
from streamhop.content.container_config import AdmissionPolicy, may_be_bound


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """What one peer may do to this host."""

    accept: bool
    """Whether it may send containers at all."""

    memory_bytes_max: int
    layers_bytes_max: int
    admission: AdmissionPolicy
    makes_networks: bool = False
    """Whether networks of a container are made here that are missing."""


_SIZES = ("memory_bytes_max", "layers_bytes_max")
_ADDED = frozenset(
    {
        "capabilities",
        "security_options",
        "log_drivers",
        "annotation_prefixes",
        "binds",
        "cgroup_namespaces",
        "ipc_modes",
        "cgroup_parents",
    }
)
"""Lists: what they name is granted besides the default."""

_BOUNDS = {"port_min": (1, 65535), "port_max": (1, 65535), "oom_score_adj_min": (-1000, 1000)}
_SWITCHES = frozenset({"privileged", "priority_limits", "volumes"})
_NETWORKS = {"create": True, "existing": False}
_KEYS = {"accept", "networks", *_SIZES, *_ADDED, *_BOUNDS, *_SWITCHES}


def policy_of(config: Config, peer: str) -> TargetPolicy:
    """The policy towards the peer that this host calls ``peer``.

    :raises ConfigError: the configuration's policy makes no sense.
    """
    general = {key: value for key, value in config.policy.items() if not isinstance(value, dict)}
    special = config.policy.get(peer)
    policy = TargetPolicy(True, config.memory_bytes_max, config.layers_bytes_max, AdmissionPolicy())
    policy = _with(policy, general, "[policy]")
    return _with(policy, special, f"[policy.{peer}]") if isinstance(special, dict) else policy


def check_policies(config: Config) -> None:
    """Raise what :func:`policy_of` would raise later.

    :raises ConfigError:
    """
    for peer in ("", *(name for name, value in config.policy.items() if isinstance(value, dict))):
        policy_of(config, peer)


def policies_for_nobody(config: Config, known: Collection[str]) -> list[str]:
    """Peers that have a policy of their own and are none of ``known``: perhaps a name was written wrong."""
    return [name for name, value in config.policy.items() if isinstance(value, dict) and name not in known]


def _with(policy: TargetPolicy, asked: Mapping[str, Any], where: str) -> TargetPolicy:
    for key, value in asked.items():
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(_KEYS))}")
        checked = _checked(key, value, where)
        if key == "networks":
            policy = replace(policy, makes_networks=checked)
            continue
        if key in {field.name for field in fields(TargetPolicy)}:
            policy = replace(policy, **{key: checked})
        elif key in _ADDED:
            granted = getattr(policy.admission, key)
            more = type(granted)((*granted, *checked))
            policy = replace(policy, admission=replace(policy.admission, **{key: more}))
        else:
            policy = replace(policy, admission=replace(policy.admission, **{key: checked}))
    return policy


def _checked(key: str, value: Any, where: str) -> Any:
    if key == "accept" or key in _SWITCHES:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{where}: {key} must be true or false")
    if key == "networks":
        if isinstance(value, str) and value in _NETWORKS:
            return _NETWORKS[value]
        raise ConfigError(f"{where}: networks must be one of {', '.join(_NETWORKS)}")
    if key in _ADDED:
        if key == "binds" and isinstance(value, list):
            _check_binds(value, where)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            # As `docker run --cap-add` takes them, in any case and with or without CAP_.
            return [item.upper().removeprefix("CAP_") for item in value] if key == "capabilities" else value
        raise ConfigError(f"{where}: {key} must be a list of strings")
    low, high = _BOUNDS.get(key, (1, 1 << 62))
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise ConfigError(f"{where}: {key} must be a whole number from {low} to {high}")


def _check_binds(value: list[Any], where: str) -> None:
    for path in value:
        if isinstance(path, str) and not may_be_bound(path):
            raise ConfigError(f"{where}: binds: {path!r} is no plain path, or one that no peer may ever have")
