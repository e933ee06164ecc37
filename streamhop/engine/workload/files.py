"""Descriptors and mappings: which of them CRIU can make again.

Source: CRIU 4.2, ``criu/files.c`` (dump_one_file, dump_chrdev), ``criu/sockets.c`` (dump_socket), ``criu/sk-inet.c``
(can_dump_ipproto), ``criu/proc_parse.c`` (handle_vma), ``criu/files-reg.c`` (dump_ghost_remap).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator

from streamhop.findings import shown

from .sightings import Sighting
from .views import Descriptor, File, Process, Workload

GHOST_BYTES_MAX = 1 << 20
"""Of a deleted file that is open: CRIU's ``--ghost-limit``, which streamhop leaves as it is."""

_DUMPED_ANONYMOUS = frozenset({"eventfd", "eventpoll", "inotify", "fanotify", "signalfd", "timerfd", "pidfd"})
_NO_FILE_OF_A_MOUNT = ("/memfd:", "/dev/zero", "/SYSV", "/anon_hugepage", "/[aio]", "/secretmem", "/dmabuf:")
"""How the kernel names files of its own, which are on no mount of anybody's."""

_NAMESPACES = ("mnt", "net", "ipc", "uts", "pid", "user", "cgroup", "time", "pid_for_children", "time_for_children")
_DUMPED_LABELS = frozenset({"pipe", "socket", "pidfd", *_NAMESPACES})
_DUMPED_PROTOCOLS = ("TCP", "UDP", "RAW", "PING", "UNIX", "NETLINK", "PACKET")
"""What the names of protocols begin with of which CRIU dumps sockets: UDP-Lite, TCPv6 and so on are among them."""

_MEMORY_DEVICES = {os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)}
"""null, zero, full, random, urandom: the same everywhere."""

_OWN_TERMINALS = {os.makedev(5, minor) for minor in (0, 1, 2)}
_PSEUDO_TERMINAL_MAJORS = range(128, 144)
_ZERO = os.makedev(1, 5)
_DELETED = " (deleted)"

_FIX_IO_URING = (
    "switch it off in the application (node: UV_USE_IO_URING=0; nginx, mariadb, postgres: their settings), or run the "
    "container with Docker's default seccomp profile, which does not allow it"
)
_FIX_DEVICE = "devices cannot be moved: run it without, or stop it here and start it there"
_FIX_SECRET = "let the application use ordinary memory"  # noqa: S105 - no password
_FIX_OTHER = "let the application close it, if it can do without while it is moved"


def file_sightings(workload: Workload, outside: Collection[int]) -> Iterator[Sighting]:
    """What descriptors and mappings of all processes are in the way.

    :param outside: of :func:`sockets_to_outside`.
    """
    mounts = _Mounts(workload)
    for process in workload.processes:
        for descriptor in process.descriptors:
            yield from _of_descriptor(process, descriptor, mounts)
            if descriptor.file.inode in outside and _is_unix(descriptor):
                yield _of_unix_peer(workload, process, descriptor)
        for file in process.mappings:
            yield from _of_mapping(process, file)


class _Mounts:
    """All mounts of a container: a process in a mount namespace of its own may hold files of its parent's."""

    def __init__(self, workload: Workload) -> None:
        everything = [mount for process in workload.processes for mount in process.mounts]
        self.ids = {mount.id for mount in everything}
        self.kinds = {mount.device: mount.kind for mount in everything}


def sockets_to_outside(workload: Workload) -> frozenset[int]:
    """Inodes of unix sockets whose other end no process of the container has.

    A socket that is accepted belongs to the network namespace of who connects, wherever the one who accepts is: only
    who holds it tells. What was connected or accepted while descriptors were read may be among them: look again.
    """
    sockets = workload.unix_sockets
    if not sockets or workload.unseen:
        return frozenset()
    everybody = [*workload.processes, *workload.beside]
    held = {
        descriptor.file.inode for process in everybody for descriptor in process.descriptors if _is_unix(descriptor)
    }
    connected = (sockets[inode] for inode in held if inode in sockets)
    return frozenset(socket.inode for socket in connected if socket.peer and socket.peer not in held)


def _is_unix(descriptor: Descriptor) -> bool:
    return (descriptor.protocol or "").startswith("UNIX")


def _of_descriptor(process: Process, descriptor: Descriptor, mounts: _Mounts) -> Iterator[Sighting]:
    file, where = descriptor.file, f"descriptor {descriptor.number}"

    def seen(kind: str, what: str, fix: str) -> Sighting:
        return Sighting(kind, process, what, fix, where)

    label, mode = file.label, file.mode
    if label.startswith("anon_inode:"):
        yield from _anonymous(process, label, where, "workload.descriptor")
    elif mode is None:
        return
    elif stat.S_ISCHR(mode):
        yield from _of_character_device(process, file, where, mounts)
    elif stat.S_ISBLK(mode):
        yield seen("workload.device", f"the block device {_device(file)} is open", _FIX_DEVICE)
    elif stat.S_ISSOCK(mode):
        if descriptor.protocol and not descriptor.protocol.startswith(_DUMPED_PROTOCOLS):
            yield seen("workload.socket", *_of_protocol(descriptor.protocol))
    elif label.startswith(_NO_FILE_OF_A_MOUNT):
        yield from _kernels_own(process, label, where, "workload.descriptor")
    elif label.startswith("/"):
        yield from _of_named_file(process, descriptor, mounts)
    elif stat.S_ISREG(mode) and label.partition(":")[0] not in _DUMPED_LABELS:
        yield seen("workload.descriptor", f"{shown(label)} is open", _FIX_OTHER)


def _anonymous(process: Process, label: str, where: str, kind: str) -> Iterator[Sighting]:
    name = label.removeprefix("anon_inode:").strip("[]")
    if name == "io_uring":
        yield Sighting("workload.io-uring", process, "an io_uring", _FIX_IO_URING, where)
    elif kind == "workload.mapping" or name not in _DUMPED_ANONYMOUS:
        yield Sighting(kind, process, _WHAT.get(name, shown(name)), _FIX_OTHER, where)


_WHAT = {
    "perf_event": "a performance counter (perf_event_open)",
    "userfaultfd": "page faults handled by the application (userfaultfd)",
    "kvm-vm": "a virtual machine (KVM)",
    "kvm-vcpu": "a virtual processor (KVM)",
    "bpf-map": "a BPF map, of which CRIU dumps some kinds, in some builds",
    "bpf-prog": "a BPF program",
    "bpf_link": "a BPF link",
    "bpf_iter": "a BPF iterator",
    "seccomp notify": "system calls of others, decided on by the application (seccomp notify)",
    "landlock-ruleset": "a Landlock ruleset",
}
"""Anonymous inodes by the kernel's names, in words; others are called by their names."""


def _of_character_device(process: Process, file: File, where: str, mounts: _Mounts) -> Iterator[Sighting]:
    if file.special in _MEMORY_DEVICES:
        return
    if file.special in _OWN_TERMINALS or os.major(file.special) in _PSEUDO_TERMINAL_MAJORS:
        pseudo = os.major(file.special) in _PSEUDO_TERMINAL_MAJORS
        if pseudo and mounts.kinds and file.device not in mounts.kinds:
            yield Sighting(
                "workload.terminal",
                process,
                f"the terminal {shown(file.label)} of this host",
                "end what was started from a terminal of this host (nsenter, docker attach); start the container "
                "without a terminal",
                where,
            )
        return
    yield Sighting("workload.device", process, f"the device {_device(file)} is open", _FIX_DEVICE, where)


def _of_protocol(protocol: str) -> tuple[str, str]:
    if protocol.startswith("MPTCP"):
        return (
            "a socket of multipath TCP",
            "let the application use plain TCP; programs in Go do with GODEBUG=multipathtcp=0",
        )
    return f"a socket of the protocol {shown(protocol)}", _FIX_OTHER


def _of_named_file(process: Process, descriptor: Descriptor, mounts: _Mounts) -> Iterator[Sighting]:
    file, where = descriptor.file, f"descriptor {descriptor.number}"
    assert file.mode is not None
    if mounts.kinds.get(file.device) == "mqueue" and stat.S_ISREG(file.mode):
        what = f"the POSIX message queue {shown(file.label)}"
        yield Sighting("workload.descriptor", process, what, _FIX_OTHER, where)
    elif _is_outside(descriptor, mounts):
        yield Sighting(
            "workload.outside-file",
            process,
            f"{shown(file.label)} of this host is open",
            "start the container anew without handing it open files of the host",
            where,
        )
    else:
        yield from _ghost(process, file, where)


def _is_outside(descriptor: Descriptor, mounts: _Mounts) -> bool:
    mode = descriptor.file.mode
    if descriptor.mount is None or not mounts.ids or mode is None:
        return False
    return (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and descriptor.mount not in mounts.ids


def _ghost(process: Process, file: File, where: str) -> Iterator[Sighting]:
    deleted = file.links == 0 and file.label.endswith(_DELETED)
    if deleted and file.mode is not None and stat.S_ISREG(file.mode) and file.allocated_bytes > GHOST_BYTES_MAX:
        yield Sighting(
            "workload.ghost-file",
            process,
            f"{shown(file.label.removesuffix(_DELETED))} was deleted, is still open and has "
            f"{file.allocated_bytes / (1 << 20):.0f} MiB",
            "let the application close it, such as by rotating its logs",
            where,
        )


def _kernels_own(process: Process, label: str, where: str, kind: str) -> Iterator[Sighting]:
    if label.startswith("/secretmem"):
        yield Sighting(kind, process, "secret memory (memfd_secret)", _FIX_SECRET, where)
    elif label.startswith("/dmabuf:"):
        yield Sighting("workload.mapped-device", process, "a buffer of a device (dma-buf)", _FIX_DEVICE, where)


def _of_mapping(process: Process, file: File) -> Iterator[Sighting]:
    label = file.label
    if label.startswith("anon_inode:"):
        yield from _anonymous(process, label, "mapped", "workload.mapping")
    elif label == "[uprobes]":
        fix = "end the tracing (perf, bpftrace) of its functions, and start the container anew"
        yield Sighting("workload.mapping", process, "probes of a tracing tool (uprobes)", fix)
    elif label.startswith(_NO_FILE_OF_A_MOUNT):
        yield from _kernels_own(process, label, "mapped", "workload.mapping")
    elif file.mode is not None and (stat.S_ISCHR(file.mode) or stat.S_ISBLK(file.mode)):
        if file.special != _ZERO:
            yield Sighting("workload.mapped-device", process, f"memory of the device {_device(file)}", _FIX_DEVICE)
    else:
        yield from _ghost(process, file, "mapped")


def _of_unix_peer(workload: Workload, process: Process, descriptor: Descriptor) -> Sighting:
    sockets = workload.unix_sockets or {}
    own = sockets.get(descriptor.file.inode)
    peer = sockets.get(own.peer) if own is not None else None
    name = next((socket.name for socket in (own, peer) if socket is not None and socket.name), "")
    return Sighting(
        "workload.unix-peer",
        process,
        f"a unix socket{f' ({shown(name)})' if name else ''} that is connected to a program outside",
        "do not mount sockets of the host into the container (docker.sock, /dev/log, /run), or let the application "
        "close the connection",
        f"descriptor {descriptor.number}",
    )


def _device(file: File) -> str:
    return f"{shown(file.label)} ({os.major(file.special)}:{os.minor(file.special)})"
