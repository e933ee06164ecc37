"""A running container as it can be seen from its host, so that two looks at it can be compared."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from hoplab import Host

_PROCESSES = r"""
import os, sys

def fields(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()

namespace = os.readlink(f"/proc/{sys.argv[1]}/ns/pid")
for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
    try:
        if os.readlink(f"/proc/{pid}/ns/pid") != namespace:
            continue
        found, words = fields(pid), open(f"/proc/{pid}/cmdline").read().split("\0")
        files = sorted(os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        continue
    # Parent, process group, session and start; see proc_pid_stat(5).
    print(pid, *found[1:4], found[19], words, files)
"""

# What the kernel makes up (/proc and the like) is not the container's.
_FILES = r"""
for top in / /dev/shm; do
    find "$top" -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o -printf '%p %y %m %U %G %n %l %T@ %s\n'
    find "$top" -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o -type f -print0 | xargs -0 -r sha256sum
done
"""


_TIME_OF_TMP = re.compile(r"^(/tmp d .*) \S+ \d+$", re.MULTILINE)


@dataclass(frozen=True)
class Likeness:
    """What there is to see."""

    inspect: dict[str, Any]
    """``docker inspect``, all of it: an aborted move changes not even a PID or the time of the start."""

    processes: tuple[str, ...]
    """Each process with its numbers, its start in clock ticks, its command line and its open files."""

    files: frozenset[str] = field(repr=False)
    """Names and metadata, and names and digests, of all in the root file system and in /dev/shm.

    All but the time of /tmp itself: CRIU makes a directory there while it dumps, and removes it.
    """


def likeness(host: Host, container: str) -> Likeness:
    """Look at a container that runs on ``host``; nothing should change its files meanwhile."""
    inspect: dict[str, Any] = json.loads(host.docker("inspect", container))[0]
    found = host.exec(["python3", "-c", _PROCESSES, str(inspect["State"]["Pid"])]).stdout
    files = host.docker("exec", container, "sh", "-c", _FILES)
    return Likeness(inspect, tuple(found.splitlines()), frozenset(_TIME_OF_TMP.sub(r"\1", files).splitlines()))
