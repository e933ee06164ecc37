"""What is checked before anything is touched: whether the container can move, and whether it fits the target.

Each objection says what is in the way and what to do about it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamhop.content.container_config import CreationRequest, Refusal, creation_request, shown, unsupported
from streamhop.content.image_layers import describe
from streamhop.engine.capabilities import HostCapabilities, host_capabilities, parse_version, problems
from streamhop.engine.docker import Engine, EngineError, NotFound, runc_root
from streamhop.engine.processes import container_pids, resident_bytes
from streamhop.engine.runc_state import RuncStateError, descriptors
from streamhop.engine.setup import registered_run_dir
from streamhop.engine.upperdir import upperdir_of

from .errors import (
    EndedError,
    InDoubtError,
    MoveError,
    NotRunningError,
    PausedError,
    PreflightError,
    StillFrozenError,
)
from .failures import plain
from .host import Host
from .journal import Record
from .manifest import ROOTFS_TREE, SHM_TREE, Manifest
from .states import OWES_CPU, State
from .target_policy import TargetPolicy

PROCESSES_MAX = 4096

_SHM = "/dev/shm"  # noqa: S108 - a mount point inside the container


@dataclass(frozen=True, slots=True)
class SourceContainer:
    """The container to move, as the preflight found it."""

    id: str
    name: str
    init_pid: int
    runtime: str
    restart_policy: Mapping[str, Any]
    trees: Mapping[str, Path]
    """Where each tree of the container is on this host."""

    manifest: Manifest


async def find_container(host: Host, container: str) -> dict[str, Any]:
    """The container that a user means, if no earlier move has a say in it.

    :param container: name or ID as the user wrote it.
    :returns: what ``docker inspect`` prints about it.
    :raises NotRunningError: there is none.
    :raises MoveError: an earlier move of it is not settled; the error says where the container runs.
    :raises EngineError: Docker does not answer.
    """
    try:
        found = await host.engine.inspect_container(container)
    except NotFound:
        raise NotRunningError(f"there is no container {container!r}", "`streamhop ps` lists what runs here") from None
    for record in await asyncio.to_thread(host.journal.unsettled):
        if record.details.get("container") == found["Id"]:
            _refuse_unsettled(record)
    return found


def _refuse_unsettled(record: Record) -> None:
    if record.state is State.RELEASED:
        raise InDoubtError(
            "an earlier move of it is in doubt: GO was sent and the peer has not confirmed it", record.move
        )
    if record.state is State.FREEZING or record.details.get("owes_thaw"):
        raise StillFrozenError("an earlier move of it was aborted, and it is not thawed yet")
    if record.state in (State.PRECOPY, State.RECEIVING, State.PREPARED, State.OWNED):
        raise PreflightError("it is being moved already", "wait for that move, or cancel it")
    if record.details.get("owes_settling_in"):
        raise PreflightError("it has just come from another host, and is not settled in yet", "try again in a moment")
    if record.details.get(OWES_CPU):
        raise PreflightError("an earlier move of it has its CPU quota yet to give back", "try again in a moment")


async def check_as_source(host: Host, found: dict[str, Any], new_name: str | None) -> SourceContainer:
    """Look closer at a container and at this host.

    :param found: from :func:`find_container`.
    :param new_name: name at the target, if it is to be another.
    :raises PreflightError: it cannot move.
    :raises EngineError: Docker does not answer.
    """
    engine = host.engine
    capabilities = await host_capabilities(engine)
    objections = unsupported(found)
    objections += [Refusal(problem.reason, problem.fix) for problem in problems(capabilities)]
    if objections:
        runs = found["State"]["Running"] and not found["State"]["Paused"]
        raise (PreflightError if runs else NotRunningError).of_several(objections)
    init_pid = found["State"]["Pid"]
    processes = await asyncio.to_thread(container_pids, init_pid)
    if len(processes) > PROCESSES_MAX:
        raise PreflightError(f"the container has {len(processes)} processes, at most {PROCESSES_MAX} can move")
    name = found["Name"].removeprefix("/")
    trees = {ROOTFS_TREE: await asyncio.to_thread(upperdir_of, init_pid)}
    if found["HostConfig"].get("IpcMode") == "shareable":
        # Docker mounts this one from outside; a private one belongs to the container, and is part of CRIU's images.
        trees[SHM_TREE] = Path(f"/proc/{init_pid}/root{_SHM}")
    runtime = found["HostConfig"]["Runtime"]
    try:
        stdio = await asyncio.to_thread(descriptors, runc_root(runtime), found["Id"])
    except RuncStateError as error:
        raise PreflightError(str(error), "is its runtime runc?") from error
    memory_bytes = await asyncio.to_thread(resident_bytes, processes)
    _check_room_for_dump(host, memory_bytes)
    return SourceContainer(
        id=found["Id"],
        name=name,
        init_pid=init_pid,
        runtime=runtime,
        restart_policy=found["HostConfig"].get("RestartPolicy") or {},
        trees=trees,
        manifest=Manifest(
            container=name,
            architecture=os.uname().machine,
            page_size=os.sysconf("SC_PAGE_SIZE"),
            memory_bytes=memory_bytes,
            trees=tuple(trees),
            descriptors=tuple(stdio),
            versions=_versions(capabilities),
            image=await describe(engine, found["Image"]),
            image_name=found["Config"]["Image"][:256],
            request=creation_request(found, new_name=new_name, runtime=host.config.runtime_name),
        ),
    )


async def check_cpu_quota(host: Host, container: SourceContainer) -> None:
    """Whether the container can be slowed down while it is moved.

    :raises PreflightError: its CPU quota cannot be lowered here.
    """
    try:
        await asyncio.to_thread(host.cpu.find, container.id, container.init_pid)
    except OSError as error:
        raise PreflightError(
            f"its CPU quota cannot be lowered: {plain(error)}", "move it without --auto-converge"
        ) from error


async def check_still_runs(engine: Engine, container: str, init_pid: int) -> None:
    """Look again, between rounds: nothing else tells that somebody has paused or stopped the container.

    :raises PausedError: it is paused; it is left so.
    :raises EndedError: it has ended, or is gone.
    :raises MoveError: it is another run of it: what was read of it until now is of no use.
    :raises EngineError: Docker does not answer.
    """
    try:
        state = (await engine.inspect_container(container))["State"]
    except NotFound:
        raise EndedError("it was removed here while it was being moved") from None
    if not state["Running"]:
        raise EndedError("it ended here while it was being moved", "docker ps -a shows how")
    if state["Paused"]:
        raise paused_by_others()
    if state["Pid"] != init_pid:
        raise MoveError("it was restarted here while it was being moved", "try again")


def paused_by_others() -> PausedError:
    """What a move ends with when somebody pauses the container meanwhile."""
    return PausedError("somebody paused it while it was being moved", "docker unpause it, then try again")


def _check_room_for_dump(host: Host, memory_bytes: int) -> None:
    free = shutil.disk_usage(host.config.run_dir).free
    if free < memory_bytes * 1.1:
        raise PreflightError(
            f"the final dump needs about {memory_bytes >> 20} MiB in {host.config.run_dir}, {free >> 20} MiB are free",
            "make that tmpfs larger, or set run_dir to a larger one",
        )


def _versions(capabilities: HostCapabilities) -> dict[str, str]:
    return {
        "docker": capabilities.docker,
        "runc": capabilities.runc,
        "criu": capabilities.criu,
        "kernel": capabilities.kernel,
    }


async def check_as_target(host: Host, manifest: Manifest, policy: TargetPolicy) -> list[Refusal]:
    """Whether this host can take the container; an empty list if it can.

    :param policy: towards the peer that offers it.
    :raises EngineError: Docker does not answer.
    """
    capabilities = await host_capabilities(host.engine)
    objections = [Refusal(f"at the target, {problem.reason}", problem.fix) for problem in problems(capabilities)]
    machine = os.uname().machine
    if manifest.architecture != machine:
        theirs = shown(manifest.architecture)
        objections.append(Refusal(f"it is an image of {theirs} memory, this host is {machine}", ""))
    page_size = os.sysconf("SC_PAGE_SIZE")
    if manifest.page_size != page_size:
        objections.append(Refusal(f"its pages have {manifest.page_size} bytes, this host's have {page_size}", ""))
    criu = manifest.versions.get("criu", "")
    if parse_version(criu)[:2] > parse_version(capabilities.criu)[:2]:
        objections.append(
            Refusal(
                f"the source has CRIU {shown(criu)}, this host has {capabilities.criu}",
                "install the same CRIU or a later one at the target",
            )
        )
    if host.config.runtime_name not in capabilities.runtimes:
        objections.append(
            Refusal(
                f"Docker does not know the runtime {host.config.runtime_name!r}", "run `streamhop setup` at the target"
            )
        )
    else:
        launcher = Path(capabilities.runtimes[host.config.runtime_name])
        run_dir = await asyncio.to_thread(registered_run_dir, launcher)
        if run_dir != host.config.run_dir:
            # The runtime would not find the pending restore, and would start the container afresh.
            found = (
                f"looks into {run_dir}, not {host.config.run_dir}" if run_dir else "is missing, or none of streamhop's"
            )
            objections.append(
                Refusal(
                    f"the target's runtime {host.config.runtime_name!r} ({launcher}) {found}",
                    "run `streamhop setup` there with the daemon's configuration",
                )
            )
    objections += _check_room(host, manifest, policy)
    objections += await _check_name_and_networks(host, manifest.request)
    objections += await asyncio.to_thread(_check_ports, host, manifest.request)
    return objections


def _check_room(host: Host, manifest: Manifest, policy: TargetPolicy) -> Iterator[Refusal]:
    """Memory is counted twice: what changes before the freeze is stored beside what it replaces, at worst."""
    layers_bytes = sum(layer.size for layer in manifest.image.layers)
    for what, asked, limit, key in (
        ("memory", manifest.memory_bytes, policy.memory_bytes_max, "memory_bytes_max"),
        ("image layers", layers_bytes, policy.layers_bytes_max, "layers_bytes_max"),
    ):
        if asked > limit:
            yield Refusal(
                f"it has {asked >> 20} MiB of {what}, the target takes at most {limit >> 20} MiB",
                f"raise {key} in the target's configuration",
            )
    needed = manifest.memory_bytes + layers_bytes
    free = shutil.disk_usage(host.config.state_dir).free
    if free < needed:
        yield Refusal(
            f"the target needs up to {needed >> 20} MiB in {host.config.state_dir}, {free >> 20} MiB are free",
            "make room there",
        )


async def _check_name_and_networks(host: Host, request: CreationRequest) -> list[Refusal]:
    objections: list[Refusal] = []
    try:
        await host.engine.inspect_container(request.name)
    except NotFound:
        pass
    else:
        objections.append(
            Refusal(
                f"the target has a container named {request.name!r} already",
                "remove it there, or move under another name: PEER:NEWNAME",
            )
        )
    found = [await _network_objection(host, network) for network in request.networks]
    return objections + [objection for objection in found if objection is not None]


async def _network_objection(host: Host, network: str) -> Refusal | None:
    missing = Refusal(f"the target has no network {network!r}", f"create it there: docker network create {network}")
    try:
        found = await host.engine.inspect_network(network)
    except NotFound:
        return missing
    except EngineError as error:
        return Refusal(f"the target's network {network!r} cannot be used: {error}", "")
    if found["Driver"] == "host":
        return Refusal(f"the target's network {network!r} is the host's own", "rename one of them")
    # Docker takes the beginning of an ID for a name, too.
    return None if found["Name"] == network else missing


def _check_ports(host: Host, request: CreationRequest) -> list[Refusal]:
    """Try to bind what the container publishes. A port may still be taken later; that ends the move then."""
    return [
        Refusal(f"port {port}/{protocol} is taken at the target: {error}", "free it there")
        for address, port, protocol in published_ports(request.body)
        if not host.forwards.holds(port, protocol) and (error := _bind_error(address, port, protocol))
    ]


def published_ports(body: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Yield (host address or "", host port, ``tcp`` or ``udp``) of each port that has a fixed number on the host."""
    for port, bindings in (body.get("HostConfig", {}).get("PortBindings") or {}).items():
        _, _, protocol = port.partition("/")
        for binding in bindings or ():
            number = binding.get("HostPort") or ""
            if number.isascii() and number.isdigit() and 0 < int(number) < 65536 and protocol in ("tcp", "udp", ""):
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
