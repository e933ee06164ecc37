"""At the source: what about this container cannot be moved?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamhop.findings import Finding, found, shown

from .schema import HOST_CONFIG

_NOT_SENT = frozenset({"ContainerIDFile"})
_WINDOWS = frozenset({"CpuCount", "CpuPercent", "IOMaximumBandwidth", "IOMaximumIOps"})
_REMOVED = frozenset({"KernelMemory"})
_MOUNTS = frozenset({"bind", "tmpfs", "volume"})
_PROPAGATIONS = frozenset({"", "private", "rprivate"})
_MOUNT_OPTIONS = frozenset({"CreateMountpoint", "DriverConfig", "Labels", "NoCopy", "Propagation"})
"""Of volumes and binds: those that only say how to make one, and those that are looked at elsewhere."""

_STORAGE_DRIVERS = frozenset({"overlay2", "overlayfs"})


def unsupported(inspect: Mapping[str, Any]) -> list[Finding]:
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


def _state(state: Mapping[str, Any]) -> Iterator[Finding]:
    if state.get("Restarting"):
        yield found("container.restarting", "the container is restarting", "wait until it runs")
    elif not state.get("Running"):
        yield found(
            "container.not-running",
            f"the container is not running, it is {shown(state.get('Status', 'stopped'))}",
            "start it first",
        )
    elif state.get("Paused"):
        yield found("container.paused", "the container is paused", "docker unpause it first")


def _kind(inspect: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[Finding]:
    if inspect.get("Platform") not in (None, "", "linux"):
        yield found("container.platform", f"it is a container for {shown(inspect['Platform'])}")
    if inspect.get("Driver") not in (None, *_STORAGE_DRIVERS):
        yield found(
            "container.storage-driver",
            f"its files are kept by Docker's storage driver {shown(inspect['Driver'])}",
            "only overlay2 and containerd's overlayfs are supported",
        )
    if host.get("Privileged"):
        yield found(
            "container.privileged", "the container is privileged", "run it with the capabilities that it needs instead"
        )
    if host.get("Init"):
        yield found(
            "container.init",
            "its first process is Docker's own (--init), mounted from this host, which CRIU cannot restore elsewhere",
            "run it without --init, or with an init in its image",
        )
    if host.get("AutoRemove"):
        yield found(
            "container.auto-remove",
            "Docker removes the container as soon as it ends (--rm), also when a move fails",
            "run it without --rm",
        )
    if "com.docker.swarm.task.id" in (inspect["Config"].get("Labels") or {}):
        yield found(
            "container.swarm",
            "it belongs to a swarm service, which would start another one",
            "use the swarm's own means",
        )


def _namespaces(host: Mapping[str, Any]) -> Iterator[Finding]:
    mode = host.get("NetworkMode") or ""
    if mode == "host":
        yield found("container.host-network", "it uses the host's network", "run it on a Docker network")
    elif mode.startswith("container:"):
        yield found(
            "container.shared-network", "it uses another container's network", "run it on a Docker network of its own"
        )
    for field, what, option in (
        ("PidMode", "process IDs", "--pid"),
        ("IpcMode", "IPC objects", "--ipc"),
        ("UTSMode", "host name", "--uts"),
        ("UsernsMode", "users", "--userns"),
    ):
        mode = host.get(field) or ""
        if mode == "host" or mode.startswith("container:"):
            whose = "the host's" if mode == "host" else "another container's"
            yield found("container.namespace", f"it uses {whose} {what}", f"run it without {option}")


def _mounts(inspect: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[Finding]:
    for mount in inspect.get("Mounts") or ():
        kind, place = mount.get("Type"), shown(mount.get("Destination", ""))
        name = shown(mount.get("Name") or mount.get("Source", ""))
        if _is_docker_socket(mount):
            yield found(
                "container.docker-socket",
                f"it has this host's Docker socket, {name}, at {place}",
                "what commands this host's Docker belongs to this host: run it there anew instead of moving it",
            )
        elif kind not in _MOUNTS:
            yield found("container.mount", f"it has the {shown(kind)} mount {name} at {place}", "run it without")
        elif mount.get("Propagation", "") not in _PROPAGATIONS:
            propagation = shown(mount["Propagation"])
            yield found("container.mount", f"mounts go through its {kind} at {place} ({propagation})", "run it without")
    for mount in host.get("Mounts") or ():
        more = {**(mount.get("VolumeOptions") or {}), **(mount.get("BindOptions") or {})}
        if unknown := sorted(key for key, value in more.items() if value and key not in _MOUNT_OPTIONS):
            place = shown(mount.get("Target", ""))
            yield found("container.mount", f"its mount at {place} has the option {shown(unknown[0])}", "run it without")
    if host.get("VolumesFrom"):
        yield found(
            "container.volumes-from", "it uses another container's volumes", "name the volumes it needs: --volume"
        )
    if host.get("Links"):
        yield found("container.links", "it has links to other containers", "use a network of its own instead of --link")


def _is_docker_socket(mount: Mapping[str, Any]) -> bool:
    return any(str(mount.get(field, "")).endswith("/docker.sock") for field in ("Source", "Destination"))


def _devices(host: Mapping[str, Any]) -> Iterator[Finding]:
    if devices := host.get("Devices"):
        yield found(
            "container.device",
            f"it has the device {shown(devices[0].get('PathOnHost', ''))}",
            "devices cannot be moved",
        )
    if host.get("DeviceRequests"):
        yield found("container.device", "it has requested devices (GPUs, CDI)", "devices cannot be moved")
    if host.get("DeviceCgroupRules"):
        yield found("container.device", "it has rules for devices", "devices cannot be moved")


def _unknown(host: Mapping[str, Any]) -> Iterator[Finding]:
    for field, value in host.items():
        if value and field not in HOST_CONFIG and field not in _NOT_SENT | _WINDOWS | _REMOVED:
            yield found(
                "container.unknown-setting",
                f"it has the setting {shown(field)}, which this version does not know",
                "upgrade streamhop",
            )
