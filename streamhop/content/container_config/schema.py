"""The fields of ``POST /containers/create`` that may travel, and what each may hold.

The list is closed at every level. A field that is not listed could be one that grants something; and Docker's decoder
takes a key in any case for the field, so that ``hostconfig`` beside ``HostConfig`` would go past every later check.

Source: Docker Engine API 1.51, ContainerCreate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamhop.findings import shown
from streamhop_protocol.errors import LimitError, MalformedError

TEXT_BYTES_MAX = 128 * 1024
"""One string: Linux takes no longer environment variable (MAX_ARG_STRLEN)."""

BODY_BYTES_MAX = 1024 * 1024
"""All strings of a request together."""

ITEMS_MAX = 16384
"""Values of a request, at all levels together."""

INT_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list whose entries are all of one kind."""

    entry: Any


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map with any keys, whose values are all of one kind."""

    value: Any


EMPTY: Final[Mapping[str, Any]] = {}
TEXTS = ListOf(str)
TEXT_MAP = MapOf(str)
KEYS = MapOf(EMPTY)
"""A set, as Go's encoder writes it: a map to empty maps."""

RESTART_POLICY = {"Name": str, "MaximumRetryCount": int}

_THROTTLES = ListOf({"Path": str, "Rate": int})
_TMPFS_OPTIONS = {"SizeBytes": int, "Mode": int, "Options": ListOf(TEXTS)}

MOUNT = {
    "Type": str,
    "Source": str,
    "Target": str,
    "ReadOnly": bool,
    "Consistency": str,
    "TmpfsOptions": _TMPFS_OPTIONS,
    "VolumeOptions": {"NoCopy": bool},
}

HOST_CONFIG: Final[Mapping[str, Any]] = {
    "Annotations": TEXT_MAP,
    "AutoRemove": bool,
    "Binds": TEXTS,
    "BlkioDeviceReadBps": _THROTTLES,
    "BlkioDeviceReadIOps": _THROTTLES,
    "BlkioDeviceWriteBps": _THROTTLES,
    "BlkioDeviceWriteIOps": _THROTTLES,
    "BlkioWeight": int,
    "BlkioWeightDevice": ListOf({"Path": str, "Weight": int}),
    "CapAdd": TEXTS,
    "CapDrop": TEXTS,
    "Cgroup": str,
    "CgroupParent": str,
    "CgroupnsMode": str,
    "ConsoleSize": ListOf(int),
    "CpuPeriod": int,
    "CpuQuota": int,
    "CpuRealtimePeriod": int,
    "CpuRealtimeRuntime": int,
    "CpuShares": int,
    "CpusetCpus": str,
    "CpusetMems": str,
    "DeviceCgroupRules": TEXTS,
    "DeviceRequests": ListOf(
        {"Driver": str, "Count": int, "DeviceIDs": TEXTS, "Capabilities": ListOf(TEXTS), "Options": TEXT_MAP}
    ),
    "Devices": ListOf({"PathOnHost": str, "PathInContainer": str, "CgroupPermissions": str}),
    "Dns": TEXTS,
    "DnsOptions": TEXTS,
    "DnsSearch": TEXTS,
    "ExtraHosts": TEXTS,
    "GroupAdd": TEXTS,
    "Init": bool,
    "IpcMode": str,
    "Isolation": str,
    "KernelMemoryTCP": int,
    "Links": TEXTS,
    "LogConfig": {"Type": str, "Config": TEXT_MAP},
    "MaskedPaths": TEXTS,
    "Memory": int,
    "MemoryReservation": int,
    "MemorySwap": int,
    "MemorySwappiness": int,
    "Mounts": ListOf(MOUNT),
    "NanoCpus": int,
    "NetworkMode": str,
    "OomKillDisable": bool,
    "OomScoreAdj": int,
    "PidMode": str,
    "PidsLimit": int,
    "PortBindings": MapOf(ListOf({"HostIp": str, "HostPort": str})),
    "Privileged": bool,
    "PublishAllPorts": bool,
    "ReadonlyPaths": TEXTS,
    "ReadonlyRootfs": bool,
    "RestartPolicy": RESTART_POLICY,
    "Runtime": str,
    "SecurityOpt": TEXTS,
    "ShmSize": int,
    "StorageOpt": TEXT_MAP,
    "Sysctls": TEXT_MAP,
    "Tmpfs": TEXT_MAP,
    "UTSMode": str,
    "Ulimits": ListOf({"Name": str, "Hard": int, "Soft": int}),
    "UsernsMode": str,
    "VolumeDriver": str,
    "VolumesFrom": TEXTS,
}

CONFIG: Final[Mapping[str, Any]] = {
    "ArgsEscaped": bool,
    "AttachStderr": bool,
    "AttachStdin": bool,
    "AttachStdout": bool,
    "Cmd": TEXTS,
    "Domainname": str,
    "Entrypoint": TEXTS,
    "Env": TEXTS,
    "ExposedPorts": KEYS,
    "Healthcheck": {
        "Test": TEXTS,
        "Interval": int,
        "Timeout": int,
        "Retries": int,
        "StartPeriod": int,
        "StartInterval": int,
    },
    "Hostname": str,
    "Image": str,
    "Labels": TEXT_MAP,
    "NetworkDisabled": bool,
    "OpenStdin": bool,
    "Shell": TEXTS,
    "StdinOnce": bool,
    "StopSignal": str,
    "StopTimeout": int,
    "Tty": bool,
    "User": str,
    "Volumes": KEYS,
    "WorkingDir": str,
}

ENDPOINT: Final[Mapping[str, Any]] = {
    "Aliases": TEXTS,
    "DriverOpts": TEXT_MAP,
    "GwPriority": int,
    "IPAMConfig": {"IPv4Address": str, "IPv6Address": str, "LinkLocalIPs": TEXTS},
    "Links": TEXTS,
    "MacAddress": str,
}

BODY: Final[Mapping[str, Any]] = {
    **CONFIG,
    "HostConfig": HOST_CONFIG,
    "NetworkingConfig": {"EndpointsConfig": MapOf(ENDPOINT)},
}

ZERO_MEANS_SOMETHING = frozenset({"Init", "MaskedPaths", "MemorySwappiness", "ReadonlyPaths", "StopTimeout"})
"""Fields whose empty value is another choice than leaving them out."""


class Checker:
    """Checks one value against a kind and counts what it holds. Use a new one for each request."""

    def __init__(self) -> None:
        self._items = 0
        self._bytes = 0

    def check(self, value: object, kind: Any, where: str) -> Any:
        """A copy of ``value`` that holds nothing but what ``kind`` allows; entries of maps that are None are left out.

        :param where: what to call the value in messages.
        :raises MalformedError: it is of another kind, or has a field that may not travel.
        :raises LimitError: it is too large.
        """
        self._items += 1
        if self._items > ITEMS_MAX:
            raise LimitError(f"the container's configuration has more than {ITEMS_MAX} values")
        if isinstance(kind, ListOf):
            if not isinstance(value, list):
                raise MalformedError(f"{where} must be a list")
            return [self.check(entry, kind.entry, f"an entry of {where}") for entry in value]
        if isinstance(kind, MapOf):
            # Docker writes null for a set's members as well as an empty map.
            return {
                self._text(key, f"a key of {where}"): self._member(entry, kind.value, where)
                for key, entry in self._map(value, where).items()
            }
        if isinstance(kind, Mapping):
            return self._object(value, kind, where)
        if kind is str:
            return self._text(value, where)
        if kind is bool:
            if not isinstance(value, bool):
                raise MalformedError(f"{where} must be true or false")
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            raise MalformedError(f"{where} must be a whole number")
        if not -INT_MAX <= value <= INT_MAX:
            raise LimitError(f"{where} does not fit in 64 bits")
        return value

    def _member(self, value: object, kind: Any, where: str) -> Any:
        if value is None and not isinstance(kind, type):
            value = [] if isinstance(kind, ListOf) else {}
        return self.check(value, kind, f"an entry of {where}")

    def _object(self, value: object, kind: Mapping[str, Any], where: str) -> dict[str, Any]:
        result = {}
        for key, entry in self._map(value, where).items():
            if key not in kind:
                raise MalformedError(f"{where} has a field {shown(key)!r}, which may not travel")
            if entry is not None:
                result[key] = self.check(entry, kind[key], key)
        return result

    def _map(self, value: object, where: str) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise MalformedError(f"{where} must be a map")
        return value

    def _text(self, value: object, where: str) -> str:
        if not isinstance(value, str):
            raise MalformedError(f"{where} must be a string")
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise MalformedError(f"{where} is not text") from error
        self._bytes += size
        if size > TEXT_BYTES_MAX or self._bytes > BODY_BYTES_MAX:
            raise LimitError(f"{where} is too long, or the container's configuration is too large with it")
        if "\0" in value:
            raise MalformedError(f"{where} contains a NUL")
        return value


def without_empty(value: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``value`` that are in ``known`` and say something."""
    return {
        key: entry
        for key, entry in value.items()
        if key in known and entry is not None and (entry or key in ZERO_MEANS_SOMETHING)
    }
