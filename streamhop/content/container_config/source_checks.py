"""At the source: what about this container cannot be moved?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .refusal import Refusal, shown
from .schema import HOST_CONFIG

_NOT_SENT = frozenset({"ContainerIDFile"})
_WINDOWS = frozenset({"CpuCount", "CpuPercent", "IOMaximumBandwidth", "IOMaximumIOps"})
_REMOVED = frozenset({"KernelMemory"})
_STORAGE_DRIVERS = frozenset({"overlay2", "overlayfs"})


def unsupported(inspect: Mapping[str, Any]) -> list[Refusal]:
    """Everything about a container that keeps it from being moved; an empty list if it can be.

    :param inspect: what ``docker inspect`` prints about it.
    """
    host: Mapping[str, Any] = inspect["HostConfig"]
    return [
        *_state(inspect["State"]),
        *_kind(inspect, host),
        *_namespaces(host),
        *_mounts(inspect, host),
        *_devices(host),
        *_unknown(host),
    ]


def _state(state: Mapping[str, Any]) -> Iterator[Refusal]:
    if state.get("Restarting"):
        yield Refusal("the container is restarting", "wait until it runs")
    elif not state.get("Running"):
        yield Refusal(f"the container is not running, it is {shown(state.get('Status', 'stopped'))}", "start it first")
    elif state.get("Paused"):
        yield Refusal("the container is paused", "docker unpause it first")


def _kind(inspect: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[Refusal]:
    if inspect.get("Platform") not in (None, "", "linux"):
        yield Refusal(f"it is a container for {shown(inspect['Platform'])}")
    if inspect.get("Driver") not in (None, *_STORAGE_DRIVERS):
        yield Refusal(
            f"its files are kept by Docker's storage driver {shown(inspect['Driver'])}",
            "only overlay2 and containerd's overlayfs are supported",
        )
    if host.get("Privileged"):
        yield Refusal("the container is privileged", "run it with the capabilities that it needs instead")
    if host.get("Init"):
        yield Refusal(
            "its first process is Docker's own (--init), mounted from this host, which CRIU cannot restore elsewhere",
            "run it without --init, or with an init in its image",
        )
    if host.get("AutoRemove"):
        yield Refusal(
            "Docker removes the container as soon as it ends (--rm), also when a move fails", "run it without --rm"
        )
    if "com.docker.swarm.task.id" in (inspect["Config"].get("Labels") or {}):
        yield Refusal("it belongs to a swarm service, which would start another one", "use the swarm's own means")


def _namespaces(host: Mapping[str, Any]) -> Iterator[Refusal]:
    mode = host.get("NetworkMode") or ""
    if mode == "host":
        yield Refusal("it uses the host's network", "run it on a Docker network")
    elif mode.startswith("container:"):
        yield Refusal("it uses another container's network", "run it on a Docker network of its own")
    for field, what, option in (
        ("PidMode", "process IDs", "--pid"),
        ("IpcMode", "IPC objects", "--ipc"),
        ("UTSMode", "host name", "--uts"),
        ("UsernsMode", "users", "--userns"),
    ):
        mode = host.get(field) or ""
        if mode == "host" or mode.startswith("container:"):
            whose = "the host's" if mode == "host" else "another container's"
            yield Refusal(f"it uses {whose} {what}", f"run it without {option}")


def _mounts(inspect: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[Refusal]:
    for mount in inspect.get("Mounts") or ():
        kind, place = mount.get("Type"), shown(mount.get("Destination", ""))
        if kind == "tmpfs":
            continue
        name = shown(mount.get("Name") or mount.get("Source", ""))
        what = "the volume" if kind == "volume" else f"the {shown(kind)} mount (a volume of the host's files)"
        yield Refusal(f"it has {what} {name} at {place}", "volumes cannot be moved yet: run it without")
    if host.get("VolumesFrom"):
        yield Refusal("it uses another container's volumes", "volumes cannot be moved yet: run it without")
    if host.get("Links"):
        yield Refusal("it has links to other containers", "use a network of its own instead of --link")


def _devices(host: Mapping[str, Any]) -> Iterator[Refusal]:
    if devices := host.get("Devices"):
        yield Refusal(f"it has the device {shown(devices[0].get('PathOnHost', ''))}", "devices cannot be moved")
    if host.get("DeviceRequests"):
        yield Refusal("it has requested devices (GPUs, CDI)", "devices cannot be moved")
    if host.get("DeviceCgroupRules"):
        yield Refusal("it has rules for devices", "devices cannot be moved")


def _unknown(host: Mapping[str, Any]) -> Iterator[Refusal]:
    for field, value in host.items():
        if value and field not in HOST_CONFIG and field not in _NOT_SENT | _WINDOWS | _REMOVED:
            yield Refusal(f"it has the setting {shown(field)}, which this version does not know", "upgrade streamhop")
