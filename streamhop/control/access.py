"""Who may use the control socket: root, and a group if the configuration names one.

Whoever may use it can move containers and pair hosts, which is to be root. Memory of containers is below the same
directory by default: the group may go through the directory, not list it, and finds no other open door.
"""

from __future__ import annotations

import asyncio
import grp
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamhop.config import Config, ConfigError


@dataclass(frozen=True, slots=True)
class Access:
    """The control socket and who may use it.

    :param path: the socket.
    :param group: ID of a group, or None for root alone.
    """

    path: Path
    group: int | None = None

    @classmethod
    def from_config(cls, config: Config) -> Access:
        """What the configuration says.

        :raises ConfigError: this host has no such group.
        """
        if not config.control_group:
            return cls(config.control_socket)
        try:
            return cls(config.control_socket, grp.getgrnam(config.control_group).gr_gid)
        except KeyError:
            raise ConfigError(f"control_group: this host has no group {config.control_group!r}") from None

    async def clear(self) -> None:
        """Make the socket's directory, and take away what a daemon that was killed has left there.

        :raises OSError: the directory cannot be made, or another daemon serves the socket.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        await _remove_stale(self.path)

    @contextmanager
    def private(self) -> Iterator[None]:
        """A socket that is made meanwhile is the daemon's alone."""
        mask = os.umask(0o177)
        try:
            yield
        finally:
            os.umask(mask)

    def admit(self) -> None:
        """Let the group use the socket that is there now, and go through its directory if that is shut.

        :raises OSError: owner or mode cannot be changed.
        """
        if self.group is None:
            return
        directory, found = self.path.parent, self.path.parent.stat()
        open_to_group = found.st_gid == self.group and found.st_mode & stat.S_IXGRP
        if not (open_to_group or found.st_mode & stat.S_IXOTH):
            os.chown(directory, -1, self.group)
            directory.chmod(stat.S_IMODE(found.st_mode) & ~stat.S_IRWXG | stat.S_IXGRP)
        os.chown(self.path, -1, self.group)
        self.path.chmod(0o660)


async def _remove_stale(socket_path: Path) -> None:
    try:
        _, writer = await asyncio.open_unix_connection(str(socket_path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        socket_path.unlink()
        return
    writer.close()
    await writer.wait_closed()
    raise OSError(f"another daemon already serves {socket_path}")
