"""At the source, before anything is touched: what is in the way of a container's move?"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamhop.content.container_config import (
    PREDEFINED,
    VOLUME,
    NetworkDescription,
    creation_request,
    describe_network,
    mounts_of,
    unsupported,
)
from streamhop.content.image_layers import describe
from streamhop.engine.capabilities import HostCapabilities, host_capabilities
from streamhop.engine.cpu_features import own_features
from streamhop.engine.docker import Engine, runc_root
from streamhop.engine.processes import ProcessRef, container_pids, resident_bytes
from streamhop.engine.runc_state import RuncStateError, descriptors
from streamhop.engine.upperdir import UpperdirError, upperdir_of
from streamhop.engine.workload import inspect_workload
from streamhop.findings import Finding, found, refusing, warning

from .errors import NotRunningError, PreflightError
from .host import Host
from .host_checks import host_findings
from .left_behind import within
from .manifest import ROOTFS_TREE, SHM_TREE, Manifest
from .preflight import SourceContainer
from .source_mounts import find_mounts
from .surroundings import DEFAULT, MOVE_LABEL, Surroundings

PROCESSES_MAX = 4096

WORKLOAD_S_MAX = 30.0
"""How long the look at the processes may take; that many thousand descriptors take a few seconds."""

_SHM = "/dev/shm"  # noqa: S108 - a mount point inside the container
_DUMP_BYTES_MIN = 64 << 20
_DUMP_SHARE = 0.25
"""Room for the last dump, as a part of the memory: what has changed waits there while the link is slower than CRIU,
beside CRIU's other images. How much that will be nobody knows before."""

_DOCKERS_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Which Docker makes on the host and mounts into every container; it makes them at the target, too."""


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """All that the source knows about a container's move."""

    findings: Sequence[Finding]
    container: SourceContainer | None
    """None if something is so much in the way that nobody could be asked about it."""


async def check_as_source(
    host: Host, details: dict[str, Any], new_name: str | None, wishes: Surroundings = DEFAULT
) -> SourceContainer:
    """Look closer at a container and at this host.

    :param details: from :func:`.preflight.find_container`.
    :param new_name: name at the target, if it is to be another.
    :param wishes: what is to be done with its volumes, binds and ports.
    :raises PreflightError: it cannot move.
    :raises EngineError: Docker does not answer.
    """
    check = await inspect_as_source(host, details, new_name, wishes)
    if refusals := refusing(check.findings):
        raise (PreflightError if _runs(details) else NotRunningError).of_several(refusals)
    assert check.container is not None
    return check.container


def _runs(details: Mapping[str, Any]) -> bool:
    return bool(details["State"]["Running"]) and not details["State"]["Paused"]


async def inspect_as_source(
    host: Host, details: dict[str, Any], new_name: str | None, wishes: Surroundings = DEFAULT
) -> SourceCheck:
    """The same, of which nothing is raised that is in the container's way.

    :raises EngineError: Docker does not answer.
    """
    capabilities = await host_capabilities(host.engine)
    findings = unsupported(details)
    findings += await host_findings(capabilities, "source")
    if not _runs(details):
        return SourceCheck(findings, None)
    findings += await _workload(details)
    looked_at = await asyncio.to_thread(_look_at, host, details)
    findings += looked_at.findings
    if any(finding.id in _NOTHING_TO_OFFER for finding in findings):
        return SourceCheck(findings, None)
    request = creation_request(
        details,
        new_name=new_name,
        runtime=host.config.runtime_name,
        bind_map=wishes.bind_map,
        publish=wishes.publish,
    )
    named = frozenset(mount.source for mount in mounts_of(request.body) if mount.kind == VOLUME)
    mounts = await find_mounts(host.engine, details, named, wishes)
    findings += mounts.findings
    trees = {**looked_at.trees, **mounts.trees}
    name = details["Name"].removeprefix("/")
    container = SourceContainer(
        id=details["Id"],
        name=name,
        init_pid=details["State"]["Pid"],
        runtime=details["HostConfig"]["Runtime"],
        restart_policy=details["HostConfig"].get("RestartPolicy") or {},
        trees=trees,
        manifest=Manifest(
            container=name,
            architecture=os.uname().machine,
            page_size=os.sysconf("SC_PAGE_SIZE"),
            memory_bytes=looked_at.memory_bytes,
            trees=tuple(trees),
            descriptors=tuple(looked_at.descriptors),
            versions=_versions(capabilities),
            image=await describe(host.engine, details["Image"]),
            image_name=details["Config"]["Image"][:256],
            request=request,
            cpu=own_features(),
            volumes=mounts.labels,
            networks=await _networks(host.engine, request.networks),
        ),
        warnings=warning(findings),
        volumes=mounts.removable,
    )
    return SourceCheck(findings, container)


async def _networks(engine: Engine, names: Sequence[str]) -> tuple[NetworkDescription, ...]:
    """How the container's networks are made, but for those that Docker makes on every host."""
    own = [await engine.inspect_network(name) for name in names if name not in PREDEFINED]
    return tuple(describe_network(network, without_labels=frozenset({MOVE_LABEL})) for network in own)


_NOTHING_TO_OFFER = frozenset(
    {
        "container.platform",
        "container.storage-driver",
        "container.no-upperdir",
        "container.runtime",
        "container.unknown-setting",
    }
)
"""With one of these there is no manifest that the target could be asked about."""


def _versions(capabilities: HostCapabilities) -> dict[str, str]:
    return {
        "docker": capabilities.docker,
        "containerd": capabilities.containerd,
        "runc": capabilities.runc,
        "criu": capabilities.criu,
        "kernel": capabilities.kernel,
    }


@dataclass(frozen=True, slots=True)
class _LookedAt:
    """What the files of this host say of a running container."""

    findings: list[Finding]
    trees: Mapping[str, Path]
    descriptors: Sequence[str]
    memory_bytes: int


async def _workload(details: Mapping[str, Any]) -> list[Finding]:
    """What the processes do. The kernel may wait for a server or a program before it tells of their files."""
    try:
        return await within(WORKLOAD_S_MAX, _look_at_processes, details)
    except TimeoutError:
        return [
            found(
                "workload.blocked",
                f"the container's files and processes could not be looked at within {WORKLOAD_S_MAX:.0f} s",
                "does a file that it has open belong to a network file system or to FUSE, and is its server gone?",
            )
        ]


def _look_at_processes(details: Mapping[str, Any]) -> list[Finding]:
    init_pid = details["State"]["Pid"]
    number = len(container_pids(init_pid))
    if number > PROCESSES_MAX:
        reason = f"the container has {number} processes, at most {PROCESSES_MAX} can move"
        return [found("container.too-many-processes", reason)]
    mounted = [str(mount.get("Destination", "")) for mount in details.get("Mounts") or ()]
    return inspect_workload(init_pid, [*_DOCKERS_FILES, *mounted])


def _look_at(host: Host, details: Mapping[str, Any]) -> _LookedAt:
    init_pid = details["State"]["Pid"]
    findings: list[Finding] = []
    trees: dict[str, Path] = {}
    try:
        trees[ROOTFS_TREE] = upperdir_of(init_pid)
    except UpperdirError as error:
        findings.append(found("container.no-upperdir", str(error), "only overlay2 and overlayfs are supported"))
    if details["HostConfig"].get("IpcMode") == "shareable":
        # Docker mounts this one from outside; a private one belongs to the container, and is part of CRIU's images.
        trees[SHM_TREE] = Path(f"/proc/{init_pid}/root{_SHM}")
    stdio: list[str] = []
    try:
        stdio = descriptors(runc_root(details["HostConfig"]["Runtime"]), details["Id"])
    except RuncStateError as error:
        findings.append(found("container.runtime", str(error), "is its runtime runc?"))
    memory_bytes, room = _room_for_dump(host, container_pids(init_pid))
    return _LookedAt([*findings, *room], trees, stdio, memory_bytes)


def _room_for_dump(host: Host, processes: Sequence[ProcessRef]) -> tuple[int, list[Finding]]:
    """How much memory the container has, and a warning if a dump of it may not find room."""
    memory_bytes = resident_bytes(processes)
    wanted = max(_DUMP_BYTES_MIN, round(memory_bytes * _DUMP_SHARE))
    free = shutil.disk_usage(host.config.run_dir).free
    if free >= wanted:
        return memory_bytes, []
    reason = f"the final dump may need {wanted >> 20} MiB or more in {host.config.run_dir}, {free >> 20} MiB are free"
    return memory_bytes, [found("host.dump-room", reason, "make that tmpfs larger, or set run_dir to a larger one")]
