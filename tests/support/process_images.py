"""The images of a small container as CRIU 4.2 writes them, and the configuration they fit; made to be spoilt."""

from __future__ import annotations

import copy
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from streamhop.content.memory.protobuf import varint
from streamhop.content.process_images.processes import MACHINES
from streamhop.content.process_images.records import COMMON_MAGIC, INVENTORY, MAGIC

Value: TypeAlias = "int | bytes | str | Sequence[Any] | Fields"
Fields: TypeAlias = "dict[int, Any]"
"""A message: values by field number; a list stands for a repeated field."""

CGROUP = "/docker/" + "ab" * 32
GRANTED = 0xA80425FB
"""Docker's default capabilities."""

ERRNO, ALLOW = 0x0005_0001, 0x7FFF_0000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06


def encode(fields: Fields) -> bytes:
    """A protobuf message."""
    out = b""
    for number, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += varint(number << 3) + varint(item & (1 << 64) - 1)
            else:
                data = encode(item) if isinstance(item, dict) else item.encode() if isinstance(item, str) else item
                out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    """A system call filter."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)


NARROW = program((_LOAD, 0, 0, 0), (_EQUAL, 0, 1, 1), (_RETURN, 0, 0, ALLOW), (_RETURN, 0, 0, ERRNO))
"""Lets call number 1 pass, on every kind of system call."""

WIDE = program((_RETURN, 0, 0, ALLOW))


def config() -> dict[str, Any]:
    """What Docker writes for a container that asks for nothing."""
    capabilities = [
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    ]  # fmt: skip
    names = [f"CAP_{name}" for name in capabilities]
    return {
        "process": {
            "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": names, "effective": names, "permitted": names},
            "oomScoreAdj": 0,
        },
        "root": {"path": "/merged"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]},
            {"destination": "/etc/hosts", "type": "bind", "source": "/docker/hosts", "options": ["rbind"]},
        ],
        "linux": {
            "namespaces": [{"type": name} for name in ("mount", "network", "uts", "pid", "ipc")],
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}],
            },
        },
    }


def mount(kind: int, place: str, *, flags: int = 0xF, root: str = "/", **more: Any) -> Fields:
    """An entry of mountpoints-N.img; ``key`` is its external name."""
    entry = {1: kind, 2: 1, 3: 1, 4: 1, 5: flags, 6: root, 7: place, 8: "source", 9: "", 10: 0, 11: 0, 17: 0}
    return entry | ({18: more["key"]} if "key" in more else {})


def thread(**changes: Any) -> Fields:
    """A thread_core_entry; ``creds`` are changes of its credentials by field."""
    creds: Fields = dict.fromkeys(range(1, 9), 0)
    creds |= {9: [0, 0], 10: [GRANTED, 0], 11: [GRANTED, 0], 12: [GRANTED, 0], 13: 0, 14: [0], 19: [0, 0]}
    creds |= changes.pop("creds", {})
    return {1: 0, 2: 24, 3: 0, 4: 0, 10: creds, 11: 2, 12: 0, 16: 2}


class Images:
    """A process 1 with a second thread 5, and its child 7. Change what is to be wrong, then :meth:`write`."""

    def __init__(self) -> None:
        root = {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 3, 8: 4, 9: 6, 10: 7, 11: 8, 12: 5}
        own = {1: 2, 2: 2, 3: 2, 4: 2, 5: 9, 6: 10, 7: 11, 8: 12, 9: 13, 10: 7, 11: 8, 12: 5}
        machine = MACHINES[os.uname().machine]
        task = {1: 1, 2: 0, 3: 0, 4: 0, 5: 0, 6: "app", 8: {1: [{1: 0, 2: 0} for _ in range(16)]}, 14: 0}
        other = thread()
        del other[11], other[12]
        group = {1: CGROUP[1:], 3: [{1: "pids.max", 2: "max"}]}
        self.files: dict[str, list[Fields]] = {
            "inventory": [{1: 2, 2: 1, 3: root, 4: 1, 5: 1, 6: 0}],
            "pstree": [{1: 1, 2: 0, 3: 1, 4: 1, 5: [1, 5]}, {1: 7, 2: 1, 3: 1, 4: 1, 5: [7]}],
            "core-1": [{1: machine, 3: copy.deepcopy(task), 5: thread()}],
            "core-5": [{1: machine, 5: other}],
            "core-7": [{1: machine, 3: copy.deepcopy(task), 5: thread()}],
            "ids-1": [dict(own)],
            "ids-7": [dict(own)],
            "seccomp": [{1: [{1: NARROW, 3: 1}]}],
            "mountpoints-13": [
                mount(17, "/", flags=0),
                mount(1, "/proc"),
                mount(1, "/proc/sys", root="/sys"),
                mount(5, "/proc/kcore", flags=2, root="/null", key="/dev/null"),
                mount(5, "/dev"),
                mount(2, "/sys"),
                mount(5, "/sys/firmware"),
                mount(5, "/sys/fs/cgroup", flags=2),
                mount(12, "/sys/fs/cgroup/pids", root=CGROUP, key="/sys/fs/cgroup/pids"),
                mount(0, "/etc/hosts", flags=0, root="/x/hosts", key="/etc/hosts"),
            ],
            "files": [regular(1, "/usr/bin/app", 0o100755), regular(2, "/dev/null", 0o20666)],
            "cgroup": [
                {
                    1: [{1: 2, 2: [{1: "pids", 2: CGROUP, 3: len(CGROUP)}]}],
                    2: [{1: ["pids"], 2: [group]}],
                }
            ],
        }
        self.raw: dict[str, bytes] = {
            "mm-1.img": b"mm", "mm-7.img": b"mm", "pagemap-1.img": b"p", "descriptors.json": b'["/dev/null"]',
        }  # fmt: skip

    @property
    def creds(self) -> Fields:
        """Credentials of process 1."""
        found: Fields = self.files["core-1"][0][5][10]
        return found

    @property
    def mounts(self) -> list[Fields]:
        """Entries of the one image of mounts."""
        return self.files["mountpoints-13"]

    def write(self, directory: Path) -> Path:
        """Make the files in a new directory; returns it."""
        directory.mkdir()
        for name, entries in self.files.items():
            (directory / f"{name}.img").write_bytes(head(name) + b"".join(map(record, entries)))
        for name, content in self.raw.items():
            (directory / name).write_bytes(content)
        return directory


def regular(number: int, path: str, mode: int, **more: int) -> Fields:
    """A file_entry of an open file with a name."""
    return {1: 1, 2: number, 3: {1: number, 2: 0, 3: 0, 6: path, 7: 348, 9: more.get("external", 0), 10: mode}}


def head(name: str) -> bytes:
    """Magic numbers of an image."""
    kind = name if name in MAGIC or name == "inventory" else name.rpartition("-")[0]
    magic = INVENTORY if kind == "inventory" else MAGIC[kind]
    return struct.pack("<I", magic) if kind == "inventory" else struct.pack("<II", COMMON_MAGIC, magic)


def record(entry: Mapping[int, Any]) -> bytes:
    """One record of an image."""
    data = encode(dict(entry))
    return struct.pack("<I", len(data)) + data
