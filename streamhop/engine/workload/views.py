"""A container's processes as they are looked at: what was read, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .proc_text import MountLine, UnixSocket


@dataclass(frozen=True, slots=True)
class File:
    """What a descriptor or a mapping refers to."""

    label: str
    """The link's text, such as ``/var/log/x``, ``pipe:[1234]`` or ``anon_inode:[eventfd]``."""

    mode: int | None
    """``st_mode``; None if it could not be looked at. Anonymous inodes have no type in it."""

    device: int = 0
    """``st_dev``: of the file system."""

    inode: int = 0
    special: int = 0
    """``st_rdev``: of a device."""

    links: int = 1
    allocated_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One open descriptor."""

    number: int
    file: File
    mount: int | None = None
    """ID of the mount that the file was opened on; None if that is not known."""

    protocol: str | None = None
    """Of a socket, as the kernel names it: ``TCP``, ``UNIX-STREAM``; None if it was not asked for, or not told."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process. Of one that vanished meanwhile there is none."""

    pid: int
    """In the container."""

    host_pid: int
    name: str
    tracer: int
    """Number of the process that traces it or one of its threads, 0 if nobody does."""

    session: int
    """Number of its session in the container; 0: its leader is outside of it."""

    namespaces: Mapping[str, int]
    """Kind, as in /proc/PID/ns, to inode number."""

    descriptors: Sequence[Descriptor] = ()
    mappings: Sequence[File] = ()
    """Of each file that it maps one."""

    mounts: Sequence[MountLine] = ()
    """Of its mount namespace."""


@dataclass(frozen=True, slots=True)
class Workload:
    """All that was read of one container."""

    processes: Sequence[Process]
    """Those that a dump takes along; the first one in front, unless it is gone."""

    beside: Sequence[Process] = ()
    """Processes in the container that no dump takes along."""

    unix_sockets: Mapping[int, UnixSocket] | None = field(default_factory=dict)
    """Unix sockets of the container's network namespace by inode; None if they could not be asked for."""

    known_mounts: frozenset[str] = frozenset()
    """Mount points that Docker itself made from files of the host: runc mounts them at the target, too."""

    unseen: Sequence[str] = ()
    """What could not be looked at, in words."""
