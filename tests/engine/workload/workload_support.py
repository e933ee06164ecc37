"""Processes made by hand, for the tests of what is found in them."""

from __future__ import annotations

import os
import stat
from typing import Any

from streamhop.engine.workload.files import sockets_to_outside
from streamhop.engine.workload.inspection import findings_of
from streamhop.engine.workload.proc_text import MountLine
from streamhop.engine.workload.views import Descriptor, File, Process, Workload
from streamhop.findings import Finding

ROOT = MountLine(100, 0x31, "/", "/", "overlay")
DEVPTS = MountLine(101, 0x32, "/", "/dev/pts", "devpts")
MQUEUE = MountLine(102, 0x33, "/", "/dev/mqueue", "mqueue")
MOUNTS = (ROOT, DEVPTS, MQUEUE)
NAMESPACES = {"pid": 1, "user": 2, "uts": 3, "ipc": 4, "time": 5, "mnt": 6, "net": 7}


def regular(label: str, **more: Any) -> File:
    return File(label, stat.S_IFREG | 0o644, device=ROOT.device, **more)


def anonymous(name: str) -> File:
    return File(f"anon_inode:{name}", 0o600)


def character(label: str, major: int, minor: int, device: int = ROOT.device) -> File:
    return File(label, stat.S_IFCHR | 0o666, device=device, special=os.makedev(major, minor))


def socket_of(protocol: str, inode: int = 9) -> Descriptor:
    return Descriptor(3, File(f"socket:[{inode}]", stat.S_IFSOCK | 0o777, inode=inode), protocol=protocol)


def process(*descriptors: Descriptor | File, **more: Any) -> Process:
    fds = [d if isinstance(d, Descriptor) else Descriptor(number, d) for number, d in enumerate(descriptors, start=3)]
    fields: dict[str, Any] = {
        "pid": 1,
        "host_pid": 4001,
        "name": "app",
        "tracer": 0,
        "session": 1,
        "namespaces": NAMESPACES,
        "descriptors": tuple(fds),
        "mounts": MOUNTS,
    }
    return Process(**fields | more)


def found_in(*processes: Process, **more: Any) -> list[Finding]:
    workload = Workload(processes, **more)
    return list(findings_of(workload, sockets_to_outside(workload)))


def ids(*processes: Process, **more: Any) -> list[str]:
    return [finding.id for finding in found_in(*processes, **more)]
