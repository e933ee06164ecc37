"""At the target, before anything is taken: does a peer's container fit here?"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from streamhop.content.container_config import CreationRequest, is_fixed
from streamhop.engine.capabilities import HostCapabilities, host_capabilities, parse_version
from streamhop.engine.cpu_features import missing, more_state, own_features
from streamhop.engine.docker import NotFound
from streamhop.engine.host_memory import available_memory_bytes, free_swap_bytes
from streamhop.engine.setup import registered_run_dir
from streamhop.findings import Finding, found, shown

from .host import Host
from .host_checks import host_findings
from .manifest import Manifest
from .target_mounts import check_mounts
from .target_networks import check_networks
from .target_policy import TargetPolicy

_FEATURES_TOLD_MAX = 8


async def check_as_target(host: Host, manifest: Manifest, policy: TargetPolicy) -> list[Finding]:
    """Whether this host can take the container; an empty list if it can.

    :param policy: towards the peer that offers it.
    :raises EngineError: Docker does not answer.
    """
    capabilities = await host_capabilities(host.engine)
    objections = await host_findings(capabilities, "target")
    objections += _check_processor(manifest)
    objections += _check_kernel(manifest, capabilities)
    criu = manifest.versions.get("criu", "")
    if parse_version(criu)[:2] > parse_version(capabilities.criu)[:2]:
        objections.append(
            found(
                "target.criu-older",
                f"the source has CRIU {shown(criu)}, this host has {capabilities.criu}",
                "install the same CRIU or a later one at the target",
            )
        )
    if host.config.runtime_name not in capabilities.runtimes:
        objections.append(
            found(
                "target.runtime-missing",
                f"Docker does not know the runtime {host.config.runtime_name!r}",
                "run `streamhop setup` at the target",
            )
        )
    else:
        launcher = Path(capabilities.runtimes[host.config.runtime_name])
        run_dir = await asyncio.to_thread(registered_run_dir, launcher)
        if run_dir != host.config.run_dir:
            # The runtime would not find the pending restore, and would start the container afresh.
            where = (
                f"looks into {run_dir}, not {host.config.run_dir}" if run_dir else "is missing, or none of streamhop's"
            )
            objections.append(
                found(
                    "target.runtime-misplaced",
                    f"the target's runtime {host.config.runtime_name!r} ({launcher}) {where}",
                    "run `streamhop setup` there with the daemon's configuration",
                )
            )
    objections += _check_room(host, manifest, policy)
    objections += await _check_name(host, manifest.request)
    objections += await check_networks(host.engine, manifest, may_make=policy.makes_networks)
    objections += await check_mounts(host.engine, manifest)
    objections += await asyncio.to_thread(_check_ports, host, manifest.request)
    return objections


def _check_processor(manifest: Manifest) -> Iterator[Finding]:
    """What memory and programs need of a processor that this host's has not."""
    machine = os.uname().machine
    if manifest.architecture != machine:
        theirs = shown(manifest.architecture)
        yield found("target.architecture", f"it is an image of {theirs} memory, this host is {machine}")
        return
    page_size = os.sysconf("SC_PAGE_SIZE")
    if manifest.page_size != page_size:
        yield found("target.page-size", f"its pages have {manifest.page_size} bytes, this host's have {page_size}")
    own = own_features()
    if lacking := missing(manifest.cpu, own, machine):
        yield found(
            "target.cpu",
            f"the target's processor lacks {_some(lacking)}, which the source's has",
            "move it to a host with the same kind of processor or a newer one; virtual machines: give both the same "
            "CPU model",
        )
    if more := more_state(manifest.cpu, own, machine):
        yield found(
            "target.cpu-state",
            f"the target's processor has more registers to save than the source's ({', '.join(more)})",
            "if the container misbehaves there, start it anew; virtual machines: give both the same CPU model",
        )


def _some(names: list[str]) -> str:
    told = ", ".join(names[:_FEATURES_TOLD_MAX])
    more = len(names) - _FEATURES_TOLD_MAX
    return f"{told} and {more} more" if more > 0 else told


def _check_kernel(manifest: Manifest, capabilities: HostCapabilities) -> Iterator[Finding]:
    theirs, own = parse_version(manifest.versions.get("kernel", ""))[:2], parse_version(capabilities.kernel)[:2]
    if theirs and own and own < theirs:
        kernel = shown(manifest.versions["kernel"])
        yield found(
            "kernel.older",
            f"the target's kernel, {capabilities.kernel}, is older than the source's, {kernel}",
            "if the container misbehaves there, start it anew, or use a later kernel",
        )


def _check_room(host: Host, manifest: Manifest, policy: TargetPolicy) -> Iterator[Finding]:
    """Memory is counted twice: what changes before the freeze is stored beside what it replaces, at worst."""
    layers_bytes = sum(layer.size for layer in manifest.image.layers)
    for kind, what, asked, limit, key in (
        ("policy.memory-size", "memory", manifest.memory_bytes, policy.memory_bytes_max, "memory_bytes_max"),
        ("policy.layers-size", "image layers", layers_bytes, policy.layers_bytes_max, "layers_bytes_max"),
    ):
        if asked > limit:
            yield found(
                kind,
                f"it has {asked >> 20} MiB of {what}, the target takes at most {limit >> 20} MiB",
                f"raise {key} in the target's configuration",
            )
    needed = manifest.memory_bytes + layers_bytes
    free = shutil.disk_usage(host.config.state_dir).free
    if free < needed:
        yield found(
            "target.disk",
            f"the target needs up to {needed >> 20} MiB in {host.config.state_dir}, {free >> 20} MiB are free",
            "make room there",
        )
    available = available_memory_bytes()
    if available and available + free_swap_bytes() < manifest.memory_bytes:
        yield found(
            "target.memory",
            f"it has {manifest.memory_bytes >> 20} MiB of memory, the target has {available >> 20} MiB to spare",
            "end something there, or choose another target",
        )


async def _check_name(host: Host, request: CreationRequest) -> list[Finding]:
    try:
        await host.engine.inspect_container(request.name)
    except NotFound:
        return []
    return [
        found(
            "target.name",
            f"the target has a container named {request.name!r} already",
            "remove it there, or move under another name: PEER:NEWNAME",
        )
    ]


def _check_ports(host: Host, request: CreationRequest) -> list[Finding]:
    """Try to bind what the container publishes. A port may still be taken later; that ends the move then."""
    return [
        found(
            "target.port",
            f"port {port}/{protocol} is taken at the target: {error}",
            "free it, or --publish another",
        )
        for address, port, protocol in published_ports(request.body)
        if not host.forwards.holds(port, protocol) and (error := _bind_error(address, port, protocol))
    ]


def published_ports(body: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Yield (host address or "", host port, ``tcp`` or ``udp``) of each port that has a fixed number on the host."""
    for port, bindings in (body.get("HostConfig", {}).get("PortBindings") or {}).items():
        _, _, protocol = port.partition("/")
        for binding in bindings or ():
            number = binding.get("HostPort") or ""
            if is_fixed(number) and int(number) < 65536 and protocol in ("tcp", "udp", ""):
                yield binding.get("HostIp") or "", int(number), protocol or "tcp"


def _bind_error(address: str, port: int, protocol: str) -> str | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as trial:
        if protocol == "tcp":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            return error.strerror
    return None
