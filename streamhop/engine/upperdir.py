"""Where a container's writable layer is: the upper directory of the overlay that is its root.

``GraphDriver.Data.UpperDir`` of ``docker inspect`` exists on the classic image store alone; the mount table has it on
both. Format: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import re
from pathlib import Path

_ESCAPE = re.compile(r"\\([0-7]{3})")


class UpperdirError(OSError):
    """The container's root file system is not an overlay with a writable layer."""


def upperdir_of(pid: int) -> Path:
    """The upper directory of the root file system of process ``pid``, the init of a running container.

    :raises UpperdirError: the root is no overlay, or a read-only one.
    :raises OSError: the process is gone.
    """
    return upperdir_in(Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))


def upperdir_in(mountinfo: str) -> Path:
    """The upper directory of the file system mounted on ``/``, from the text of a mountinfo file.

    Of several mounts on ``/`` the last one is what the process sees.

    :raises UpperdirError: as :func:`upperdir_of`.
    """
    found: list[str] | None = None
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        places, details = left.split(" "), right.split(" ")
        if separator and len(places) >= 6 and len(details) >= 3 and places[4] == "/":
            found = details
    if found is None:
        raise UpperdirError("the container's mount table has no root")
    if found[0] != "overlay":
        raise UpperdirError(f"the container's root file system is {found[0]}, not overlay: use the overlay2 driver")
    for option in _unescaped_options(found[2]):
        name, _, value = option.partition("=")
        if name == "upperdir" and value:
            return Path(value)
    raise UpperdirError("the container's root file system has no writable layer")


def _unescaped_options(options: str) -> list[str]:
    r"""Split mount options, then undo the escapes: of mountinfo (``\040``), and overlay's own for commas in paths."""
    parts = re.split(r"(?<!\\),", _ESCAPE.sub(_escaped_character, options))
    return [part.replace("\\,", ",") for part in parts]


def _escaped_character(match: re.Match[str]) -> str:
    return bytes([int(match[1], 8) & 0xFF]).decode("utf-8", errors="surrogateescape")
