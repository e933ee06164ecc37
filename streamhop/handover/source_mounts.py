"""At the source: the volumes and binds of a container, what is in the way of moving them, and where their files are."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamhop.content.container_config import is_below
from streamhop.engine.docker import Engine
from streamhop.engine.workload.proc_text import mount_lines
from streamhop.findings import Finding, found, shown

from .manifest import tree_of
from .surroundings import COPY, EXPECT, MOVE, MOVE_LABEL, Surroundings


@dataclass(slots=True)
class SourceMounts:
    """What was found."""

    findings: list[Finding] = field(default_factory=list)
    trees: dict[str, Path] = field(default_factory=dict)
    """Where the files are that are to be sent, by the names of the trees."""

    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of the volumes that have names of their own."""

    removable: dict[str, str] = field(default_factory=dict)
    """When each volume was made that is to be removed here after the move, in Docker's words."""


async def find_mounts(
    engine: Engine, details: Mapping[str, Any], named: frozenset[str], wishes: Surroundings
) -> SourceMounts:
    """Look at every volume and bind of a running container.

    :param details: what ``docker inspect`` prints about it.
    :param named: volumes that have names of their own; Docker has made up those of the others.
    :raises EngineError: Docker does not answer.
    """
    result = SourceMounts()
    mounts = [mount for mount in details.get("Mounts") or () if mount.get("Type") in ("bind", "volume")]
    if not mounts:
        return result
    others = [other for other in await engine.list_containers(all=True) if other["Id"] != details["Id"]]
    visible = await asyncio.to_thread(_mount_points, details["State"]["Pid"])
    for mount in mounts:
        if mount["Destination"] not in visible:
            result.findings.append(
                found(
                    "container.mount-link",
                    f"the {mount['Type']} at {shown(mount['Destination'])} is mounted elsewhere in the container",
                    "name the place that the link leads to",
                )
            )
        elif mount["Type"] == "volume":
            await _volume(engine, mount, others, named, wishes, result)
        else:
            await asyncio.to_thread(_bind, mount, others, wishes, result)
    return result


def _mount_points(pid: int) -> frozenset[str]:
    text = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return frozenset(line.place for line in mount_lines(text))


async def _volume(
    engine: Engine,
    mount: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
    named: frozenset[str],
    wishes: Surroundings,
    result: SourceMounts,
) -> None:
    name, place = str(mount["Name"]), shown(mount["Destination"])
    volume = await engine.inspect_volume(name)
    if volume.get("Driver") != "local" or volume.get("Options"):
        what = f"the driver {shown(volume.get('Driver'))}" if volume.get("Driver") != "local" else "options of its own"
        result.findings.append(
            found(
                "container.volume-driver",
                f"the volume {shown(name)} at {place} has {what}",
                "only volumes of the driver local without options can be moved",
            )
        )
        return
    result.findings += _shared_volume(name, place, others, wishes)
    if Path(mount["Source"]) not in result.trees.values():  # else it is mounted twice, and sent once
        result.trees[tree_of(mount["Destination"])] = Path(mount["Source"])
    if name in named:
        labels = dict(volume.get("Labels") or {})
        labels.pop(MOVE_LABEL, None)
        result.labels[name] = labels
    if wishes.volumes == MOVE:
        result.removable[name] = str(volume.get("CreatedAt", ""))


def _shared_volume(
    name: str, place: str, others: Sequence[Mapping[str, Any]], wishes: Surroundings
) -> Iterator[Finding]:
    for other in others:
        shared = [mount for mount in other.get("Mounts") or () if mount.get("Name") == name]
        if not shared:
            continue
        writes = other.get("State") == "running" and any(mount.get("RW", True) for mount in shared)
        if writes or wishes.volumes != COPY:
            reason = f"the volume {shown(name)} at {place} is {_user(other)}'s, too"
            yield found(
                "container.volume-shared",
                f"{reason}, which writes to it" if writes else reason,
                "stop that one first, then say --volumes copy" if writes else "--volumes copy: it stays here, too",
            )


def _bind(
    mount: Mapping[str, Any], others: Sequence[Mapping[str, Any]], wishes: Surroundings, result: SourceMounts
) -> None:
    source, place = str(mount["Source"]), shown(mount["Destination"])
    if wishes.bind == EXPECT:
        return
    if wishes.bind != COPY:
        result.findings.append(
            found(
                "container.bind",
                f"{shown(source)} of this host is mounted at {place}",
                "--bind copy sends what is in it, --bind expect if the target has it; --bind-map if elsewhere",
            )
        )
        return
    if not stat.S_ISDIR(Path(source).stat().st_mode):
        result.findings.append(
            found(
                "container.bind-file",
                f"{shown(source)}, mounted at {place}, is no directory",
                "copy it to the target yourself, and say --bind expect",
            )
        )
        return
    result.findings += _shared_bind(source, place, others)
    sent = [str(path) for path in result.trees.values()]
    if any(is_below(source, path) or is_below(path, source) for path in sent):
        reason = f"{shown(source)}, mounted at {place}, is mounted elsewhere in it too, or part of it, or what it is in"
        result.findings.append(found("container.mount", reason, "mount it once"))
        return
    result.trees[tree_of(mount["Destination"])] = Path(source)


def _shared_bind(source: str, place: str, others: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for other in others:
        if other.get("State") != "running":
            continue
        for mount in other.get("Mounts") or ():
            theirs = str(mount.get("Source", ""))
            overlaps = is_below(theirs, source) or is_below(source, theirs)
            if mount.get("Type") == "bind" and mount.get("RW", True) and overlaps:
                yield found(
                    "container.volume-shared",
                    f"{shown(source)}, mounted at {place}, is {_user(other)}'s, too, which writes to it",
                    "stop that one first",
                )


def _user(other: Mapping[str, Any]) -> str:
    names = other.get("Names") or [other["Id"][:12]]
    return shown(str(names[0]).removeprefix("/"))
