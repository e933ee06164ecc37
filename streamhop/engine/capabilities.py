"""What this host has to move containers with, and what stands in the way."""

from __future__ import annotations

import asyncio
import mmap
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamhop.findings import Finding, found

from .docker import Engine
from .programs import ask_program

PROBE_S_MAX = 10.0

DOCKER_API_MIN = (1, 41)
CRIU_MIN = (3, 16)
RUNC_MIN = (1, 1)
"""Floors. CRIU: the first whose `network-lock skip` and `leave-stopped` may stand in a configuration file."""

_VERSION = re.compile(r"(\d+(?:\.\d+)+)")
_SOFT_DIRTY_BIT = 1 << 55


@dataclass(frozen=True, slots=True)
class HostCapabilities:
    """Versions are as the programs print them, without what follows the numbers; empty: not there."""

    docker: str
    containerd: str
    runc: str
    criu: str
    kernel: str
    architecture: str
    docker_api: str
    image_store: str
    """``classic`` or ``containerd``."""

    cgroup_version: str
    soft_dirty: bool
    """Whether the kernel tracks which pages a process has written to."""

    runtimes: Mapping[str, str] = field(default_factory=dict)
    """The OCI runtimes that Docker knows: name to path."""

    exact: Mapping[str, str] = field(default_factory=dict)
    """Program to version as it prints it, with what follows the numbers; see :mod:`.known_bad`."""


async def host_capabilities(engine: Engine) -> HostCapabilities:
    """Ask the engine and the programs.

    :raises EngineError: the engine does not answer. A program that is missing is no error here.
    """
    version, info, runc, criu, soft_dirty = await asyncio.gather(
        engine.version(),
        engine.info(),
        _output("runc", "--version"),
        _output("criu", "--version"),
        asyncio.to_thread(has_soft_dirty),
    )
    return capabilities_from(version, info, runc, criu, soft_dirty=soft_dirty)


def capabilities_from(
    version: Mapping[str, Any], info: Mapping[str, Any], runc: str, criu: str, *, soft_dirty: bool
) -> HostCapabilities:
    """Put together what ``docker version``, ``docker info``, ``runc --version`` and ``criu --version`` say."""
    components = {part.get("Name"): part.get("Version", "") for part in version.get("Components") or ()}
    runtimes = info.get("Runtimes") or {}
    return HostCapabilities(
        docker=version_text(str(version.get("Version", ""))),
        containerd=version_text(str(components.get("containerd", ""))),
        runc=version_text(runc),
        criu=version_text(criu),
        kernel=version_text(os.uname().release),
        architecture=os.uname().machine,
        docker_api=str(version.get("ApiVersion", "")),
        image_store=image_store(info),
        cgroup_version=str(info.get("CgroupVersion", "")),
        soft_dirty=soft_dirty,
        runtimes={name: str(runtime.get("path", "")) for name, runtime in runtimes.items()},
        exact={
            "docker": str(version.get("Version", "")),
            "containerd": str(components.get("containerd", "")),
            "runc": runc,
            "criu": criu,
            "kernel": os.uname().release,
        },
    )


def image_store(info: Mapping[str, Any]) -> str:
    """``containerd`` if Docker keeps images in containerd's content store, else ``classic``."""
    status = [row for row in info.get("DriverStatus") or () if isinstance(row, list) and len(row) == 2]
    snapshotter = ["driver-type", "io.containerd.snapshotter.v1"] in status
    return "containerd" if snapshotter else "classic"


def problems(capabilities: HostCapabilities) -> list[Finding]:
    """Programs that are missing here, or older than anything this code works with; an empty list if none is.

    What is known of newer ones is in :mod:`.known_bad`.
    """
    findings = []
    if parse_version(capabilities.docker_api) < DOCKER_API_MIN:
        wanted = ".".join(map(str, DOCKER_API_MIN))
        findings.append(
            found(
                "host.docker-old",
                f"Docker {capabilities.docker} is too old (API {capabilities.docker_api}, {wanted} needed)",
                "upgrade Docker to 20.10 or later",
            )
        )
    findings += _program_problems("runc", capabilities.runc, RUNC_MIN)
    findings += _program_problems("criu", capabilities.criu, CRIU_MIN)
    return findings


def _program_problems(name: str, version: str, least: tuple[int, ...]) -> list[Finding]:
    wanted = ".".join(map(str, least))
    if not version:
        return [found(f"host.{name}-missing", f"{name} is not installed", f"install {name} {wanted} or later")]
    if parse_version(version) < least:
        return [found(f"host.{name}-old", f"{name} {version} is too old", f"install {name} {wanted} or later")]
    return []


def version_text(text: str) -> str:
    """The first dotted number in ``text``: ``28.5.2`` of ``28.5.2+dfsg4``; empty if there is none."""
    match = _VERSION.search(text)
    return match[1] if match else ""


def parse_version(text: str) -> tuple[int, ...]:
    """The first dotted number in ``text`` as numbers, to compare; ``()``, which is less than any, if there is none."""
    return tuple(int(part) for part in version_text(text).split(".") if part)


async def _output(*command: str) -> str:
    """What a program prints; empty if it is missing, fails or hangs."""
    code, output = await ask_program(*command, seconds=PROBE_S_MAX)
    return output if code == 0 else ""


def has_soft_dirty() -> bool:
    """Whether a page just written to is marked soft-dirty. Source: the kernel's admin-guide/mm/soft-dirty.rst.

    A new mapping is marked from the start where the kernel has the feature; nothing of this process is reset.
    """
    page_bytes = mmap.PAGESIZE
    with mmap.mmap(-1, page_bytes) as page:
        page[0] = 1
        try:
            maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
            pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return any(
                int.from_bytes(os.pread(pagemap, 8, start // page_bytes * 8), "little") & _SOFT_DIRTY_BIT
                for start in _anonymous_mappings(maps)
            )
        finally:
            os.close(pagemap)


def _anonymous_mappings(maps: str) -> list[int]:
    """Start addresses of shared anonymous mappings (``mmap.mmap(-1, ...)`` makes one), of a proc_pid_maps(5) text."""
    lines = (line.split() for line in maps.splitlines())
    return [int(line[0].partition("-")[0], 16) for line in lines if len(line) > 5 and line[5] == "/dev/zero"]
