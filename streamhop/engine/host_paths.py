"""Directories of this host that a policy lets peers use: looked at, made and emptied without following any link.

A container that has such a directory mounted can make symbolic links in it: no path below one may be trusted to stay
there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place(Enum):
    """What is at a path."""

    MISSING = "missing"
    """Nothing, in a directory that is there."""

    NO_PARENT = "no parent"
    """Nothing, and the directory it would be in is missing, too; or there is a link on the way."""

    EMPTY = "empty"
    """An empty directory."""

    DIRECTORY = "directory"
    FILE = "file"
    """A regular file."""

    OTHER = "other"
    """A link, a socket, a device, ..."""


def look_at(path: str) -> Place:
    """What is at an absolute path, written plainly; blocks.

    :raises OSError: it cannot be said.
    """
    try:
        with parent_of(path) as (parent, name):
            try:
                mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return Place.MISSING
            if stat.S_ISDIR(mode):
                with _opened(name, parent) as directory:
                    names = os.listdir(directory)  # noqa: PTH208 - of a descriptor
                    return Place.DIRECTORY if names else Place.EMPTY
            return Place.FILE if stat.S_ISREG(mode) else Place.OTHER
    except (FileNotFoundError, NotADirectoryError):
        return Place.NO_PARENT
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Place.NO_PARENT
        raise


def make_directory(path: str) -> None:
    """Make a directory in one that is there, unless it is there already; blocks.

    :raises OSError: it cannot be made, or there is a link on the way.
    """
    with parent_of(path) as (parent, name), contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)


@contextmanager
def opened_directory(path: str) -> Iterator[int]:
    """The descriptor of a directory that is reached through no link.

    :raises OSError: there is none.
    """
    with parent_of(path) as (parent, name), _opened(name, parent) as directory:
        yield directory


@contextmanager
def parent_of(path: str) -> Iterator[tuple[int, str]]:
    """The descriptor of the directory that a path is in, reached through no link, and the name there.

    :raises OSError: there is none.
    """
    *above, name = path.strip("/").split("/")
    fd = os.open("/", _FLAGS)
    try:
        for component in above:
            below = os.open(component, _FLAGS, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd, name
    finally:
        os.close(fd)


@contextmanager
def _opened(name: str, parent: int) -> Iterator[int]:
    fd = os.open(name, _FLAGS, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)
