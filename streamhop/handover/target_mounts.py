"""At the target: the volumes and directories of a container that arrives; if its move fails they go with it.

The journal knows of each before it is made. A volume says by its label for which move it was made: what has another
label, or none, was there before or is somebody else's, and stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from streamhop.content.container_config import BIND, VOLUME, Mount, mounts_of
from streamhop.content.trees import remove_below, remove_entry
from streamhop.engine.docker import Conflict, Engine, NotFound
from streamhop.engine.host_paths import Place, look_at, make_directory, opened_directory, parent_of
from streamhop.engine.restores import Bundle
from streamhop.findings import Finding, found, shown

from .concurrency import in_worker
from .errors import MoveError, RefusedError
from .host import Host, MoveJournal
from .journal import Record
from .manifest import ROOTFS_TREE, Manifest, tree_of
from .surroundings import MOVE_LABEL

log = logging.getLogger("streamhop.handover")

VOLUMES_MADE = "volumes_made"
"""Detail of a target's record: names of volumes that are made for the move."""

BINDS_FILLED = "binds_filled"
"""Detail of a target's record: directories of this host that the move fills, and whether it makes them."""


# -- preflight ---------------------------------------------------------------------------------------------------------


async def check_mounts(engine: Engine, manifest: Manifest) -> list[Finding]:
    """What of a container's volumes and binds does not fit this host.

    :raises EngineError: Docker does not answer.
    """
    findings = []
    for name in _volumes(manifest):
        with contextlib.suppress(NotFound):
            await engine.inspect_volume(name)
            findings.append(
                found(
                    "target.volume",
                    f"the target has a volume named {shown(name)} already",
                    f"if nobody needs it, remove it there: docker volume rm {shown(name)}",
                )
            )
    for mount in _binds(manifest):
        findings += await in_worker(_bind_findings, mount.source, filled=tree_of(mount.destination) in manifest.trees)
    return findings


def _bind_findings(path: str, *, filled: bool) -> list[Finding]:
    place = look_at(path)
    name = shown(path)
    if place is Place.NO_PARENT:
        reason, fix = f"the way to {name} is missing at the target, or leads through a link", "make it there: mkdir -p"
    elif place is Place.OTHER or (filled and place is Place.FILE):
        reason, fix = f"{name} at the target is neither missing nor a directory", "--bind-map to another place"
    elif filled and place is Place.DIRECTORY:
        reason, fix = f"{name} at the target is not empty", "empty it, or --bind-map to another place"
    elif not filled and place is Place.MISSING:
        reason, fix = f"{name} is missing at the target", "put it there, or --bind copy"
    else:
        return []
    return [found("target.bind", reason, fix)]


def _volumes(manifest: Manifest) -> list[str]:
    """Names of the volumes that have one of their own."""
    return sorted({mount.source for mount in mounts_of(manifest.request.body) if mount.kind == VOLUME} - {""})


def _binds(manifest: Manifest) -> Iterator[Mount]:
    return (mount for mount in mounts_of(manifest.request.body) if mount.kind == BIND)


# -- making ------------------------------------------------------------------------------------------------------------


async def make_mounts(host: Host, journal: MoveJournal, move: bytes, manifest: Manifest) -> None:
    """Make volumes and directories, before the container that has them.

    :raises EngineError: Docker would not.
    :raises OSError: a directory cannot be made.
    :raises RefusedError: something has appeared meanwhile where it would be.
    :raises sqlite3.Error: the journal could not be written.
    """
    volumes = _volumes(manifest)
    if volumes:
        await journal.note(**{VOLUMES_MADE: volumes})
    for name in volumes:
        labels = {**manifest.volumes.get(name, {}), MOVE_LABEL: move.hex()}
        made = await host.engine.create_volume(name, labels)
        if (made.get("Labels") or {}).get(MOVE_LABEL) != move.hex():
            raise RefusedError(f"the target has a volume named {name} already", "remove it there")
    filled: dict[str, bool] = {}
    for path in [mount.source for mount in _binds(manifest) if tree_of(mount.destination) in manifest.trees]:
        if (place := await in_worker(look_at, path)) not in (Place.MISSING, Place.EMPTY):
            raise RefusedError(f"{path} at the target is not empty any more", "empty it")
        filled[path] = place is Place.MISSING
        await journal.note(**{BINDS_FILLED: filled})
        await in_worker(make_directory, path)


def places_of(manifest: Manifest, bundle: Bundle) -> dict[str, Path]:
    """Where the files of each tree are on this host, once Docker has mounted the container's root.

    :raises MoveError: Docker has made no such mount.
    """
    places = {}
    for tree in manifest.trees:
        if tree == ROOTFS_TREE:
            places[tree] = bundle.rootfs
            continue
        destination = tree.removeprefix(tree_of(""))
        if destination not in bundle.mounts:
            raise MoveError(f"Docker has mounted nothing at {shown(destination)}", "look at the target's dockerd log")
        places[tree] = bundle.mounts[destination]
    return places


# -- removing ----------------------------------------------------------------------------------------------------------


async def remove_mounts(host: Host, record: Record) -> None:
    """Remove what was made for a move that has failed, once its container is gone. Safe to repeat.

    :raises EngineError: Docker would not.
    :raises OSError: files cannot be removed.
    """
    for name in record.details.get(VOLUMES_MADE) or ():
        await _remove_volume(host.engine, str(name), record.move.hex())
    filled = record.details.get(BINDS_FILLED)
    for path, made in filled.items() if isinstance(filled, Mapping) else ():
        # What is a link by now is nothing that was made here.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            await in_worker(_empty, path, remove=bool(made))


async def _remove_volume(engine: Engine, name: str, move: str) -> None:
    with contextlib.suppress(NotFound):
        volume = await engine.inspect_volume(name)
        if (volume.get("Labels") or {}).get(MOVE_LABEL) != move:
            return
        try:
            await engine.remove_volume(name)
        except Conflict as error:
            log.warning("the volume %s of a move that failed stays: %s", name, error)


def _empty(path: str, *, remove: bool) -> None:
    if remove:
        with parent_of(path) as (parent, name):
            remove_entry(parent, os.fsencode(name))
    else:
        with opened_directory(path) as directory:
            remove_below(directory)
