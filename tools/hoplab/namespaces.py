"""Linux namespaces and mounts through libc: Python has setns and unshare only from 3.12 on, mount never.

Namespaces belong to threads. :func:`inside` therefore works in a thread of its own, which ends afterwards; the
rest of the program stays where it is. A child started there is born in those namespaces.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 0x20, 0x1000, 0x4000, 0x40000, 0x100000
MNT_DETACH = 0x2

_KINDS = {"net": CLONE_NEWNET, "uts": CLONE_NEWUTS, "ipc": CLONE_NEWIPC, "pid": CLONE_NEWPID, "mnt": CLONE_NEWNS}

_ESCAPE = re.compile(rb"\\([0-7]{3})")
"""How proc_pid_mountinfo(5) writes spaces and the like."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, subject: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)


def setns(descriptor: int, kind: int) -> None:
    """setns(2) for the calling thread.

    :raises OSError:
    """
    _check(_libc.setns(descriptor, kind), "setns")


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread.

    :raises OSError:
    """
    _check(_libc.unshare(flags), "unshare")


def mount(source: str | Path, target: str | Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2).

    :raises OSError:
    """
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() or None)
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None), str(target))


def unmount(target: str | Path, flags: int = MNT_DETACH) -> None:
    """umount2(2); lazily unless told otherwise.

    :raises OSError:
    """
    _check(_libc.umount2(os.fsencode(target), flags), str(target))


def mount_points() -> list[Path]:
    """Where something is mounted in this mount namespace, oldest first; as often as something is."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [Path(os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), line.split()[4]))) for line in lines]


def unmount_below(directory: Path) -> None:
    """Unmount what is mounted at ``directory`` or below it; lazily where it is in use.

    :raises OSError:
    """
    top = directory.resolve()
    while below := [point for point in mount_points() if point.is_relative_to(top)]:
        try:
            unmount(below[-1], 0)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            unmount(below[-1])


def pivot_root(new_root: str | Path, old_root: str | Path) -> None:
    """pivot_root(2).

    :raises OSError:
    """
    _check(_libc.pivot_root(os.fsencode(new_root), os.fsencode(old_root)), str(new_root))


def in_thread(function: Callable[[], T]) -> T:
    """Run ``function`` in a thread of its own and return what it returns or raise what it raises."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=work, name="hoplab-namespaces")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def inside_network(path: Path, function: Callable[[], T]) -> T:
    """Run ``function`` with the calling thread in the network namespace mounted at ``path``."""

    def work() -> T:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(descriptor, CLONE_NEWNET)
        finally:
            os.close(descriptor)
        return function()

    return in_thread(work)


def inside(pid: int, function: Callable[[], T], kinds: Iterable[str] = tuple(_KINDS)) -> T:
    """Run ``function`` in the namespaces of process ``pid``; the mount namespace brings its root with it.

    ``function`` must not import anything: the interpreter's files are not there.
    """

    def work() -> T:
        opened = [(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), _KINDS[kind]) for kind in kinds]
        try:
            unshare(CLONE_FS)
            for descriptor, kind in opened:
                setns(descriptor, kind)
        finally:
            for descriptor, _ in opened:
                os.close(descriptor)
        return function()

    return in_thread(work)


def create_network(path: Path) -> None:
    """Make a network namespace and keep it by mounting it at ``path``.

    :raises OSError:
    """
    _share(path.parent)
    path.touch(exist_ok=False)

    def work() -> None:
        unshare(CLONE_NEWNET)
        mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", path, flags=MS_BIND)

    try:
        in_thread(work)
    except OSError:
        path.unlink()
        raise


def _share(directory: Path) -> None:
    """Make the directory of namespaces as the first ``ip netns add`` on a machine makes it, unless that was done.

    It mounts the directory over itself: what was mounted below it before could not be unmounted any more.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        mount("", directory, flags=MS_SHARED | MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount(directory, directory, flags=MS_BIND | MS_REC)
        mount("", directory, flags=MS_SHARED | MS_REC)


def delete_network(path: Path) -> None:
    """Let go of the network namespace mounted at ``path``; no error if there is none."""
    with suppress(OSError):
        unmount(path)
    path.unlink(missing_ok=True)


def network_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a namespace file: equal for equal namespaces; ``None`` if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
