"""Volumes and binds of a container, from the three places in which Docker's API takes them.

``HostConfig.Binds`` is what ``docker run --volume`` becomes, ``HostConfig.Mounts`` what ``--mount`` does, and
``Volumes`` holds destinations that get a volume without a name, those of the image included.

Source: moby, volume/mounts/linux_parser.go; Docker Engine API 1.51, ContainerCreate.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamhop.findings import shown
from streamhop_protocol.errors import LimitError, MalformedError

MOUNTS_MAX = 64
"""Volumes and binds of one container."""

PATH_CHARACTERS_MAX = 4095

VOLUME, BIND = "volume", "bind"

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}")
_MOUNT_FIELDS = ("Type", "Source", "Target", "ReadOnly", "Consistency", "TmpfsOptions")


@dataclass(frozen=True, slots=True)
class Mount:
    """One volume or bind."""

    kind: str
    """:data:`VOLUME` or :data:`BIND`."""

    source: str
    """The volume's name, empty if it has none of its own; a bind's path on the host."""

    destination: str
    """Where it is in the container, as it was written, without a slash at its end."""

    options: frozenset[str] = frozenset()
    """Such as ``ro``."""

    @property
    def read_only(self) -> bool:
        """Whether the container may only read it."""
        return "ro" in self.options


def mounts_of(body: Mapping[str, Any]) -> list[Mount]:
    """Every volume and bind that a body of ``POST /containers/create`` asks for; a tmpfs is neither.

    :raises MalformedError: one is not what Docker would take.
    :raises LimitError: there are too many.
    """
    host = body.get("HostConfig", {})
    found = [parse_bind(text) for text in host.get("Binds", ())]
    found += [_of_mount(mount) for mount in host.get("Mounts", ()) if mount.get("Type") in (VOLUME, BIND)]
    taken = {mount.destination for mount in found}
    # What is named elsewhere takes the place of a volume without a name.
    found += [Mount(VOLUME, "", path) for path in map(_destination, body.get("Volumes", ())) if path not in taken]
    if len(found) > MOUNTS_MAX:
        raise LimitError(f"the container has more than {MOUNTS_MAX} volumes and binds")
    if len({mount.destination for mount in found}) != len(found):
        raise MalformedError("two volumes or binds have the same destination")
    return found


def parse_bind(text: str) -> Mount:
    """``NAME:/destination``, ``/source:/destination``, either with ``:options``; or ``/destination`` alone.

    :raises MalformedError: it is none of these.
    """
    source, colon, rest = text.partition(":")
    if not colon:
        return Mount(VOLUME, "", _destination(text))
    destination, _, options = rest.partition(":")
    if ":" in options:
        raise MalformedError(f"{shown(text)!r} is no volume and no bind")
    return _mount(source, destination, frozenset(options.split(",")) - {"", "rw"})


def _of_mount(mount: Mapping[str, Any]) -> Mount:
    options = {"ro"} if mount.get("ReadOnly") else set()
    if mount.get("VolumeOptions", {}).get("NoCopy"):
        options.add("nocopy")
    source = mount.get("Source", "")
    if mount["Type"] == BIND and not source.startswith("/"):
        raise MalformedError(f"a bind of {shown(source)!r}, which is no path")
    if not source:
        return Mount(VOLUME, "", _destination(mount.get("Target", "")), frozenset(options))
    if mount["Type"] == VOLUME and source.startswith("/"):
        raise MalformedError(f"a volume named {shown(source)!r}")
    return _mount(source, mount.get("Target", ""), frozenset(options))


def _mount(source: str, destination: str, options: frozenset[str]) -> Mount:
    if source.startswith("/"):
        return Mount(BIND, _path(source), _destination(destination), options)
    if not _VOLUME_NAME.fullmatch(source):
        raise MalformedError(f"{shown(source)!r} is no name of a volume")
    return Mount(VOLUME, source, _destination(destination), options)


def _path(text: str) -> str:
    if not text.startswith("/") or len(text) > PATH_CHARACTERS_MAX:
        raise MalformedError(f"{shown(text)!r} is no path of a volume or bind")
    return text


def _destination(text: str) -> str:
    return _path(text).rstrip("/") or "/"


def is_plain(path: str) -> bool:
    """Whether a path is absolute, and written in the shortest way."""
    return path.startswith("/") and not path.startswith("//") and posixpath.normpath(path) == path


# -- at the source -----------------------------------------------------------------------------------------------------


def sent_mounts(mounts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``HostConfig.Mounts`` as it travels: what other options there are only says how to make what is made already."""
    return [dict(_sent_fields(mount)) for mount in mounts]


def _sent_fields(mount: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((field, mount[field]) for field in _MOUNT_FIELDS if mount.get(field))
    if (mount.get("VolumeOptions") or {}).get("NoCopy"):
        yield "VolumeOptions", {"NoCopy": True}


def with_other_sources(body: dict[str, Any], mapping: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """``body`` with the binds' paths on the host replaced: what is at or below the first path of a pair goes below the
    second. The longest first path that fits counts.

    :param mapping: absolute paths, written plainly.
    """
    host = dict(body["HostConfig"])
    if binds := host.get("Binds"):
        host["Binds"] = [_mapped_bind(text, mapping) for text in binds]
    if mounts := host.get("Mounts"):
        host["Mounts"] = [
            {**mount, "Source": mapped(mount["Source"], mapping)} if mount.get("Type") == BIND else mount
            for mount in mounts
        ]
    return {**body, "HostConfig": host}


def _mapped_bind(text: str, mapping: Sequence[tuple[str, str]]) -> str:
    source, colon, rest = text.partition(":")
    return f"{mapped(source, mapping)}:{rest}" if colon and source.startswith("/") else text


def mapped(path: str, mapping: Sequence[tuple[str, str]]) -> str:
    """Where a path of this host is at the target; see :func:`with_other_sources`."""
    fitting = [pair for pair in mapping if is_below(path, pair[0])]
    if not fitting:
        return path
    before, after = max(fitting, key=lambda pair: len(pair[0]))
    return posixpath.normpath(after + "/" + path.removeprefix(before).lstrip("/"))


def is_below(path: str, directory: str) -> bool:
    """Whether a plain path is ``directory`` or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")
