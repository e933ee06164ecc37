"""Reads /proc about a container's processes. They run on meanwhile: whatever vanishes is left out."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from streamhop.engine.nftgate import netlink_socket
from streamhop.engine.processes import PROC, ProcessRef, container_pids, descendants

from .proc_text import (
    MountLine,
    UnixSocket,
    mount_id_in,
    mount_lines,
    named_mappings,
    number_in,
    status_fields,
    unix_answer,
    unix_question,
)
from .views import Descriptor, File, Process, Workload

TEXT_BYTES_MAX = 32 * 1024 * 1024
"""Of one file of /proc; the maps of 65,530 mappings, the kernel's own bound, are a third of that."""

DESCRIPTORS_MAX = 200_000
THREADS_MAX = 50_000
UNIX_SOCKETS_MAX = 200_000
"""Of one container, looked at; what is more is told as not looked at."""

NAMESPACES = ("pid", "user", "uts", "ipc", "time", "mnt", "net")

_NETLINK_SOCK_DIAG = 4
_DIAG_BYTES_MAX = 1 << 20
_PROTOCOL_ATTRIBUTE = "system.sockprotoname"
"""What lsof(8) reads: the name of a socket's protocol, without a second descriptor of it."""

_VANISHED = (FileNotFoundError, ProcessLookupError, NotADirectoryError)

T = TypeVar("T")


def read_workload(init_pid: int, known_mounts: Collection[str]) -> Workload:
    """Look at the container whose first process is ``init_pid``.

    :param known_mounts: see :attr:`.Workload.known_mounts`.
    """
    reader = _Reader()
    dumped = set(descendants(init_pid))
    refs = container_pids(init_pid)
    processes = [process for ref in refs if (process := reader.process(ref)) is not None]
    # After the descriptors: a socket that is connected is then in the hands of whoever has accepted it.
    sockets = reader.unix_sockets(init_pid)
    return Workload(
        [process for process in processes if process.host_pid in dumped],
        [process for process in processes if process.host_pid not in dumped],
        sockets,
        frozenset(known_mounts),
        tuple(reader.unseen),
    )


class _Reader:
    """Counts what it reads, and notes what it may not."""

    def __init__(self) -> None:
        self.unseen: dict[str, None] = {}
        self._descriptors = 0
        self._threads = 0
        self._mounts: dict[int, list[MountLine]] = {}

    def process(self, ref: ProcessRef) -> Process | None:
        """One process; None if it is gone."""
        place = PROC / str(ref.host_pid)
        fields = status_fields(self._text(place / "status"))
        if "State" not in fields or fields["State"].startswith(("Z", "X")):
            return None
        namespaces = {kind: inode for kind in NAMESPACES if (inode := self._namespace(place / "ns" / kind)) is not None}
        return Process(
            pid=ref.ns_pid,
            host_pid=ref.host_pid,
            name=fields.get("Name", "?"),
            tracer=number_in(fields.get("TracerPid")) or self._tracer_of_threads(place),
            session=number_in(fields.get("NSsid")) if "NSsid" in fields else -1,
            namespaces=namespaces,
            descriptors=tuple(self._descriptors_of(place)),
            mappings=tuple(self._mappings_of(place)),
            mounts=self._mounts_of(place, namespaces.get("mnt", 0)),
        )

    def _tracer_of_threads(self, place: Path) -> int:
        for thread in self._entries(place / "task"):
            self._threads += 1
            if self._threads > THREADS_MAX:
                self.unseen[f"threads beyond the first {THREADS_MAX}"] = None
                return 0
            fields = status_fields(self._text(place / "task" / thread / "status"))
            if tracer := number_in(fields.get("TracerPid")):
                return tracer
        return 0

    def _descriptors_of(self, place: Path) -> Iterator[Descriptor]:
        for name in self._entries(place / "fd"):
            self._descriptors += 1
            if self._descriptors > DESCRIPTORS_MAX:
                self.unseen[f"descriptors beyond the first {DESCRIPTORS_MAX}"] = None
                return
            path = place / "fd" / name
            label = self._or_nothing(functools.partial(os.readlink, path), "descriptors")
            if label is None or not name.isdigit():
                continue
            file = self._file(path, label)
            protocol = mount = None
            if label.startswith("socket:"):
                protocol = _protocol(path)
            elif label.startswith("/"):
                mount = mount_id_in(self._text(place / "fdinfo" / name))
            yield Descriptor(int(name), file, mount, protocol)

    def _mappings_of(self, place: Path) -> Iterator[File]:
        for mapping in named_mappings(self._text(place / "maps")):
            if mapping.path.startswith("[") or not mapping.inode:
                yield File(mapping.path, None)
            else:
                yield self._file(place / "map_files" / mapping.place, mapping.path)

    def _mounts_of(self, place: Path, namespace: int) -> list[MountLine]:
        if namespace not in self._mounts:
            self._mounts[namespace] = mount_lines(self._text(place / "mountinfo"))
        return self._mounts[namespace]

    def _file(self, path: Path, label: str) -> File:
        found = self._or_nothing(lambda: os.stat(path), "files of processes")  # noqa: PTH116 - a link of /proc
        if found is None:
            return File(label, None)
        return File(
            label, found.st_mode, found.st_dev, found.st_ino, found.st_rdev, found.st_nlink, found.st_blocks * 512
        )

    def _namespace(self, path: Path) -> int | None:
        found = self._or_nothing(lambda: path.stat(), "namespaces")
        return None if found is None else found.st_ino

    def _entries(self, directory: Path) -> list[str]:
        return self._or_nothing(lambda: os.listdir(directory), f"{directory.name} of a process") or []  # noqa: PTH208

    def _text(self, path: Path) -> str:
        """A file's text; empty if it is gone or may not be read."""

        def read() -> str:
            with path.open("rb") as file:
                return file.read(TEXT_BYTES_MAX).decode("utf-8", "surrogateescape")

        return self._or_nothing(read, f"{path.name} of a process") or ""

    def _or_nothing(self, read: Callable[[], T], what: str) -> T | None:
        try:
            return read()
        except _VANISHED:
            return None
        except OSError as error:
            self.unseen[f"{what}: {error.strerror}"] = None
            return None

    def unix_sockets(self, pid: int) -> dict[int, UnixSocket] | None:
        """Unix sockets of the network namespace of a process, by inode; None if the kernel does not say."""
        try:
            # Entering a namespace is a matter of the whole thread: it is one that ends afterwards.
            with ThreadPoolExecutor(1) as thread:
                sockets = thread.submit(_ask_for_unix_sockets, f"/proc/{pid}/ns/net").result()
        except _VANISHED:
            return {}
        except OSError as error:
            self.unseen[f"unix sockets: {error.strerror or error}"] = None
            return None
        return {socket.inode: socket for socket in sockets}


def _ask_for_unix_sockets(namespace: str) -> list[UnixSocket]:
    """:raises OSError: the kernel does not say."""
    found: list[UnixSocket] = []
    with netlink_socket(namespace, _NETLINK_SOCK_DIAG) as sock:
        sock.sendto(unix_question(), (0, 0))
        while True:
            sockets, ended = unix_answer(sock.recv(_DIAG_BYTES_MAX))
            found += sockets
            if ended:
                raise OSError(ended, os.strerror(ended))
            if ended == 0:
                return found
            if len(found) > UNIX_SOCKETS_MAX:
                raise OSError(f"more than {UNIX_SOCKETS_MAX} of them")


def _protocol(path: Path) -> str | None:
    try:
        return os.getxattr(path, _PROTOCOL_ATTRIBUTE).rstrip(b"\0").decode("ascii", "replace")
    except OSError:
        return None


def is_device(mode: int | None) -> bool:
    """Whether ``st_mode`` is that of a character or block device."""
    return mode is not None and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode))
