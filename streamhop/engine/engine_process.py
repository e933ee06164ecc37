"""When the Docker engine was started: it does not say so itself."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

PROC = Path("/proc")

PID_FILE = Path("/var/run/docker.pid")
"""Docker's own; its option ``pidfile``."""

_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` of unix(7): process, user, group."""

_SYSTEM_MANAGER = 1


def started_at(host: str) -> float | None:
    """When the engine at ``host`` was started, in seconds since the epoch; None if that cannot be told.

    :param host: as in ``DOCKER_HOST``. Only a local engine's process can be seen.
    """
    if not host.startswith("unix://"):
        return None
    try:
        process = _listener(host.removeprefix("unix://"))
        if process <= _SYSTEM_MANAGER:
            # The socket is the system manager's, which has handed it on.
            process = int(PID_FILE.read_text(encoding="ascii"))
        return _process_started_at(process)
    except (OSError, ValueError, IndexError):
        return None


def _listener(path: str) -> int:
    """The process that made the socket at ``path`` listen; 0 if it is not to be seen from here."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process: int = _CREDENTIALS.unpack(credentials)[0]
    return process


def _process_started_at(process: int) -> float:
    """Source: proc_pid_stat(5), field 22: clock ticks since the host started."""
    text = (PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    ticks = int(text.rpartition(")")[2].split()[22 - 3])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
