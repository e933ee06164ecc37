"""What the processes see and hold: mounts, open files, cgroups, and which images there are at all.

Source of the fields: CRIU's images/mnt.proto, fdinfo.proto, regfile.proto, cgroup.proto, ghost-file.proto; what a
restore makes of them: criu/mount.c, criu/files-reg.c, criu/cgroup.c.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from streamhop_protocol.errors import MalformedError

from .admitted import Admitted
from .processes import ROOT_CGROUPS
from .records import INVENTORY, MAGIC, Message, first_record, only_record, records

_IMAGES = re.compile(
    r"(?:cgroup|fifo-data|filelocks|files|inventory|memfd|pipes-data|pstree|remap-fpath|seccomp|sk-queues|tty-data"
    r"|tty-info|(?:core|fdinfo|fs|ids|ipcns-(?:msg|sem|shm|var)|mm|mountpoints|pagemap(?:-shmem)?|pidns|timens|utsns)"
    r"-[0-9]+|(?:ghost-file|tcp-stream)-[0-9a-f]+|tmpfs-(?:dev-)?[0-9]+\.tar\.gz|pages-[0-9]+)\.img",
    re.ASCII,
)
"""What CRIU writes about a container whose network the runtime makes. Not among them are images that a restore would
act upon outside of the container or with the host's own tools: AppArmor profiles, binfmt_misc, network rules, user
namespaces, BPF maps, autofs; and those of old versions, which say again what newer ones say elsewhere."""

_BESIDE = frozenset({"descriptors.json", "parent"})
_DESCRIPTORS_BYTES_MAX = 64 * 1024

_PROC, _SYSFS, _TMPFS, _DEVPTS, _CGROUP, _MQUEUE, _CGROUP2 = 1, 2, 5, 6, 12, 14, 23
_KINDS = {
    "proc": {_PROC},
    "sysfs": {_SYSFS},
    "tmpfs": {_TMPFS},
    "devpts": {_DEVPTS},
    "mqueue": {_MQUEUE},
    "cgroup": {_CGROUP, _CGROUP2, _TMPFS},
    "cgroup2": {_CGROUP2},
}
"""CRIU's numbers of file systems, by their names in a runtime configuration."""

_COVER = "/dev/null"
"""What the runtime calls the outside mount over a masked file."""

_READ_ONLY = 1

_FILE_KINDS = {
    1: 3, 2: 18, 3: 17, 4: 4, 5: 16, 6: 8, 7: 9, 8: 12, 9: 10, 10: 6, 11: 19, 13: 7, 17: 11, 18: 20, 20: 22,
}  # fmt: skip
"""Kinds of open files that may come, and where in a file_entry each is described: files, pipes, sockets, and what a
process makes by itself. Not: what was given from outside (EXT), namespaces, TUN devices, BPF maps, fanotify."""

_REGULAR, _FIFO, _INET, _PACKET = 1, 3, 4, 10
_SOCK_RAW = 3

_TERMINAL = re.compile(r"/dev/pts/[0-9]+", re.ASCII)

_CGROUP_PATH = re.compile(r"(?:/(?!\.\.?/)[A-Za-z0-9_.@:-]+)*/(?:docker-)?[0-9a-f]{64}(?:\.scope)?", re.ASCII)
_CGROUP_PROPERTY = re.compile(r"[a-z][a-z0-9_]*(?:\.[A-Za-z0-9_]+)*", re.ASCII)


def place_refusals(directory: Path, admitted: Admitted) -> Iterator[str]:
    """Everything about mounts, files and cgroups that the configuration does not grant.

    :raises ProtocolError: the images are not what CRIU writes.
    :raises OSError: one cannot be read.
    """
    names = sorted(path.name for path in directory.iterdir())
    for name in names:
        if name not in _BESIDE and not _IMAGES.fullmatch(name):
            yield f"an image {name}"
    _check_descriptors(directory)
    mounts = [name for name in names if name.startswith("mountpoints-")]
    if len(mounts) != 1:
        raise MalformedError(f"{len(mounts)} images of mounts instead of one")
    yield from _mounts(list(records(directory / mounts[0], MAGIC["mountpoints"])), admitted)
    for entry in records(directory / "files.img", MAGIC["files"]):
        yield from _file(entry, admitted)
    for name in names:
        if name.startswith("ghost-file-"):
            mode = first_record(directory / name, MAGIC["ghost-file"]).number(3)
            if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                yield "a deleted file that is a device"
    yield from _cgroups(directory)


def _check_descriptors(directory: Path) -> None:
    path = directory / "descriptors.json"
    if not path.exists():
        return
    if path.stat().st_size > _DESCRIPTORS_BYTES_MAX:
        raise MalformedError("descriptors.json is too long")
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise MalformedError("descriptors.json is not JSON") from error
    if not isinstance(found, list) or len(found) > 3 or not all(isinstance(entry, str) for entry in found):
        raise MalformedError("descriptors.json does not name three files")


# -- mounts ------------------------------------------------------------------------------------------------------------


def _mounts(entries: list[Message], admitted: Admitted) -> Iterator[str]:
    places = [entry.text(7) for entry in entries]
    for entry, place in zip(entries, places, strict=True):
        if not _is_plain(place):
            yield f"a mount at {place!r}"
        elif not _is_granted(entry, place, admitted):
            yield f"the mount of kind {entry.number(1)} at {place!r}"
    if places.count("/") != 1:
        raise MalformedError("there is not exactly one root file system")
    for path in sorted(admitted.masked | admitted.read_only):
        if path not in places and admitted.is_here(path):
            yield f"{path} without its cover"


def _is_granted(entry: Message, place: str, admitted: Admitted) -> bool:
    key = entry.text(6) if entry.number(13, 0) else entry.text(18)
    flags = entry.number(5)
    if entry.number(12, 0):
        return False
    if place in admitted.masked:
        return key == _COVER or (not key and entry.number(1) == _TMPFS and bool(flags & _READ_ONLY))
    if place in admitted.read_only:
        own = entry.number(1) in (_PROC, _SYSFS) and place.endswith(entry.text(6)) and entry.text(6) != "/"
        return not key and own and bool(flags & _READ_ONLY)
    if place == "/":
        return not key and flags & admitted.root_flags == admitted.root_flags
    if place == "/dev/console":
        return admitted.terminal and not key and entry.number(1) == _DEVPTS
    below = place
    while below != "/" and below not in admitted.mounts:
        below = below.rpartition("/")[0] or "/"
    mount = admitted.mounts.get(below)
    if mount is None or (below != place and mount.kind != "cgroup"):
        return False
    wanted = mount.flags
    if mount.kind == "cgroup" and entry.number(1) == _TMPFS:
        # Around the controllers of cgroup v1; nothing is in it that could be written to.
        wanted &= ~_READ_ONLY
    if flags & wanted != wanted:
        return False
    if key:
        return key == place and (mount.bind or mount.kind == "cgroup")
    return not mount.bind and entry.number(1) in _KINDS.get(mount.kind, ()) and entry.text(6) == "/"


def _is_plain(path: str) -> bool:
    return path.startswith("/") and not {".", ".."} & set(path.split("/")) and "//" not in path


# -- open files --------------------------------------------------------------------------------------------------------


def _file(entry: Message, admitted: Admitted) -> Iterator[str]:
    kind = entry.number(1)
    field = _FILE_KINDS.get(kind)
    described = entry.message(field) if field else None
    if described is None:
        yield f"an open file of kind {kind}"
    elif kind == _REGULAR:
        yield from _regular(described, admitted)
    elif (kind == _PACKET or (kind == _INET and described.number(4) == _SOCK_RAW)) and not admitted.has("NET_RAW"):
        yield "a raw socket"


def _regular(file: Message, admitted: Admitted) -> Iterator[str]:
    path, mode = file.text(6), file.number(10, 0)
    if not _is_plain(path):
        yield f"the file {path!r}"
    elif file.number(9, 0):
        yield f"the file {path!r} from outside of the container"
    elif stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and path not in admitted.devices and not _TERMINAL.fullmatch(path)):
        yield f"the device {path!r}"


# -- cgroups -----------------------------------------------------------------------------------------------------------


def _cgroups(directory: Path) -> Iterator[str]:
    """All processes must be in one cgroup, the container's, whose path CRIU replaces by the one made here."""
    image = only_record(directory / "cgroup.img", MAGIC["cgroup"])
    sets = {entry.number(1): entry.messages(2) for entry in image.messages(1)}
    controllers = image.messages(2)
    paths = {member.text(2) for members in sets.values() for member in members}
    path = next(iter(paths), "")
    if len(paths) != 1 or not _CGROUP_PATH.fullmatch(path):
        yield f"the cgroups {', '.join(sorted(paths))!r}"
        return
    for members in sets.values():
        for member in members:
            if member.number(3, 0) not in (0, len(path.encode())):
                yield "a cgroup namespace with another root than the container's cgroup"
    named = [name for controller in controllers for name in controller.texts(1)]
    if {member.text(1) for members in sets.values() for member in members} - set(named):
        yield "a cgroup of a controller that is not described"
    for controller in controllers:
        for group in controller.messages(2):
            if group.text(1) != path[1:] or 2 in group:
                yield f"the cgroup {group.text(1)!r}"
            for entry in group.messages(3):
                if not _CGROUP_PROPERTY.fullmatch(entry.text(1)):
                    yield f"the cgroup setting {entry.text(1)!r}"
    yield from _members(directory, set(sets))


def _members(directory: Path, sets: set[int]) -> Iterator[str]:
    own = only_record(directory / "inventory.img", INVENTORY).number(ROOT_CGROUPS, 0)
    for path in sorted(directory.glob("core-*.img")):
        thread = only_record(path, MAGIC["core"]).message(5)
        if thread is not None and (thread.number(16, 0) == own or thread.number(16, 0) not in sets):
            yield "a process outside of the container's cgroup"
