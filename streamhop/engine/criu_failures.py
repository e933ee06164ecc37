"""What CRIU and runc say when they fail, what it means, and what to do: a table, the more telling rows first.

The patterns are CRIU's own words, from its sources (3.16 to 4.2) and from the logs in the issues that each row names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """One row."""

    id: str
    pattern: re.Pattern[str]
    cause: str
    fix: str
    issues: tuple[str, ...]
    """Where it was reported: ``criu 2131``, ``moby 35691``."""


def _row(name: str, pattern: str, cause: str, fix: str, *issues: str) -> KnownFailure:
    return KnownFailure(name, re.compile(pattern, re.IGNORECASE), cause, fix, issues)


KNOWN_FAILURES: Final[tuple[KnownFailure, ...]] = (
    _row(
        "io-uring",
        r"io_uring",
        "a process uses io_uring, which CRIU cannot dump",
        "switch it off in the application's settings",
        "criu 2131",
        "criu 2673",
        "criu 3070",
    ),
    _row(
        "socket-options",
        r"Can't get 1:(16|34) opt",
        "this CRIU asks the kernel for socket options that it has for unix sockets alone since 6.16",
        "install CRIU 4.2 or later",
        "criu 2804",
    ),
    _row(
        "mptcp",
        r"Unsupported proto 262",
        "a socket speaks multipath TCP, which CRIU cannot dump",
        "let the application use plain TCP; programs in Go do with GODEBUG=multipathtcp=0",
        "criu 2655",
    ),
    _row(
        "socket-protocol",
        r"Unsupported proto \d+|Unknown socket collected|Unsupported socket (family|type)",
        "a socket speaks a protocol that CRIU cannot dump",
        "let the application close it",
        "criu 2655",
    ),
    _row(
        "tcp-in-flight",
        r"In-flight connection|Name resolved on unconnected socket",
        "a TCP connection was just being made or ended as the container was frozen",
        "try again",
        "criu 237",
        "runc 1954",
    ),
    _row(
        "tcp-connected",
        r"Connected TCP socket|tcp-established",
        "the container has open TCP connections, and was not dumped or restored with them",
        "report this: streamhop asks for them",
        "criu 589",
        "criu 286",
    ),
    _row(
        "external-unix-socket",
        r"External socket (is used|found)|half of stream unix connection|name-less external socket"
        r"|without peer|unreachable peer|Dangling connection",
        "a unix socket is connected to a program outside of the container",
        "do not mount sockets of the host into it (docker.sock, /dev/log, X11), or let the application close it",
        "criu 505",
        "criu 772",
        "podman 12275",
    ),
    _row(
        "file-locks",
        r"file locks are hold|Unknown file lock|Unresolved lock",
        "a file is locked in a way that CRIU does not know, or by somebody outside",
        "let the application give the lock back, or end who else has the file",
        "criu 14",
        "criu 154",
    ),
    _row(
        "ghost-file",
        r"Can't dump ghost file|ghost.*(too big|limit)",
        "a large file was deleted and is still open",
        "let the application close it, such as by rotating its logs",
        "criu 202",
        "criu 491",
    ),
    _row(
        "file-changed",
        r"has bad (size|mode|build-ID)",
        "a file at the target is not the one that the container has open",
        "try again; if it repeats, something changes the container's files at the target",
        "criu 289",
        "criu 515",
        "criu 586",
    ),
    _row(
        "unsupported-descriptor",
        r"Can't dump file \d+ of that type",
        "a descriptor is of a kind that CRIU cannot make again, such as a device",
        "let the application close it; `streamhop check` names the process",
    ),
    _row(
        "mapped-device",
        r"Can't handle non-regular mapping|handle_device_vma",
        "a process has mapped a device or something else that is no file",
        "run the container without the device; `streamhop check` names the process",
        "criu 2131",
    ),
    _row(
        "watched-file",
        r"fsnotify|inotify|fanotify|Can't dump that handle|irmap",
        "the path of a watched file cannot be found again",
        "let the application drop its watches (inotify) while it is moved; desktops and config reloaders have such",
        "criu 2854",
        "criu 77",
        "criu 147",
    ),
    _row(
        "terminal",
        r"\btty\b|ctty|dangling tty|No PTY|/dev/pts/",
        "the container's terminal cannot be moved",
        "start it without a terminal (without -t), and end what was started from one",
        "criu 76",
        "criu 596",
        "criu 1480",
    ),
    _row(
        "outside-mount",
        r"Can't lookup mount=|overmounted mounts",
        "a file is open on a mount that the container does not have",
        "start the container anew without handing it open files of the host",
        "criu 595",
    ),
    _row(
        "missing-file",
        r"Can't open file .*(No such file|on restore)|Can't .*stat.* No such file|Failed to resolve mapping",
        "a file that the container has open is not there at the target",
        "is it on a mount that was not moved? run the container without that mount",
        "criu 948",
        "criu 33",
        "criu 297",
    ),
    _row(
        "rlimit",
        r"Can't get rlimit",
        "CRIU may not read the limits of another user's processes",
        "give it the capability CAP_SYS_RESOURCE",
    ),
    _row(
        "freezer",
        r"Unable to freeze|Timeout reached\. Try to interrupt|freezer\.state",
        "processes could not be stopped in time",
        "look for processes that wait for a disk (state D), and at the host's load; then try again",
        "criu 423",
        "criu 20",
    ),
    _row(
        "seccomp-suspend",
        r"suspending seccomp failed",
        "CRIU may not suspend the container's system call filter",
        "use a kernel with CONFIG_CHECKPOINT_RESTORE, and give CRIU the capability CAP_SYS_ADMIN",
        "criu 112",
        "criu 2391",
    ),
    _row(
        "traced",
        r"Unseizable|ptrace.*(Operation not permitted|failed)|Can't (infect|seize)|is within dumped tree|\bSEIZE\b",
        "another program traces the container's processes, or CRIU may not",
        "stop strace, gdb or profilers; give CRIU the capability CAP_SYS_PTRACE",
        "criu 1034",
        "criu 552",
    ),
    _row(
        "cpu-state",
        r"xsave (size|frame|max)|xfeatures|xsave_struct|Can't set FPU registers",
        "the processors save other registers, or more than this CRIU has room for",
        "install a later CRIU; choose a target with the same kind of processor",
        "criu 2835",
        "criu 3120",
    ),
    _row(
        "cpu",
        r"cpu.*(isn't|not) (compatible|supported)|CPU .* mismatch|FPU feature required|do not match run time",
        "the target's processor lacks what the source's has",
        "choose a target with the same kind of processor or a newer one",
        "criu 2104",
        "criu 3120",
        "podman 17496",
    ),
    _row(
        "nested-namespace",
        r"Can't dump nested|namespace.*(not supported|unsupported)",
        "a process has a namespace of its own within the container",
        "run what makes sandboxes or containers of its own without them",
    ),
    _row(
        "session",
        r"session leader of .* outside|No task found with sid|Can't restore sid|Don't have tty to inherit session",
        "a session is led by a process that is not in the container",
        "end what was started in the container from outside (nsenter)",
        "criu 1655",
        "criu 586",
    ),
    _row(
        "security-module",
        r"\blsm\b|apparmor|selinux|write lsm profile",
        "the hosts' security modules (AppArmor, SELinux) do not go together",
        "use the same security module at both ends, with the container's profile loaded at the target",
        "criu 323",
        "criu 1267",
        "podman 12437",
    ),
    _row(
        "seccomp",
        r"seccomp",
        "the container's system call filter cannot be dumped or installed",
        "use the same kernel at both ends, with CONFIG_SECCOMP_FILTER and CONFIG_CHECKPOINT_RESTORE",
        "criu 112",
    ),
    _row(
        "pid-taken",
        r"Can't fork for \d+: File exists|do not match expected|pid mismatch|Pid .* (busy|in use)"
        r"|intersects with (pid|sid|pgid)",
        "a process number that the container needs is taken",
        "try again",
        "criu 2692",
        "criu 2383",
        "criu 282",
    ),
    _row(
        "address",
        r"Can't (bind|connect) inet socket|Cannot assign requested address|Address already in use",
        "a socket is bound to an address that is taken or not there at the target",
        "give the container the same address there, or let the application listen on all (0.0.0.0)",
        "criu 312",
        "criu 457",
        "criu 735",
    ),
    _row(
        "route",
        r"Network is unreachable|No route to host",
        "an open connection needs a route that the target lacks",
        "attach the container to the same network there",
        "criu 211",
    ),
    _row(
        "network-lock",
        r"ip6?tables(-restore)?:|nftables|network[- ]lock|Unable to lock network",
        "CRIU could not hold the container's network back",
        "install nftables or iptables where CRIU finds them",
        "criu 402",
    ),
    _row(
        "mount",
        r"proper root mount|unsupported id|unreachable sharing|autodetected external mount|No mapping for .*mountpoint"
        r"|Can't (mount|open|find) .*mount|A few mount points|\bmnt:",
        "a mount of the container cannot be made again",
        "run it without that mount",
        "criu 1511",
        "criu 153",
        "podman 12574",
    ),
    _row(
        "cgroup",
        r"\bcg:|cgroup|controller .* not found",
        "the container's control group cannot be dumped or made at the target",
        "use the same cgroup version at both ends",
    ),
    _row(
        "images",
        r"[Mm]agic doesn't match|Img trimmed|images version|Too old image|image corruption",
        "CRIU does not understand the images",
        "install the same CRIU at both ends",
    ),
    _row(
        "vdso",
        r"\bvdso\b|vvar",
        "this CRIU does not know the kernel's vDSO",
        "install a later CRIU",
    ),
    _row(
        "no-space",
        r"No space left|ENOSPC",
        "the file system that holds the images is full",
        "make room there",
    ),
    _row(
        "no-memory",
        r"Cannot allocate memory|ENOMEM|0xfffffffffffffff4|Out of memory",
        "the host has too little free memory",
        "free some, or choose another target",
        "criu 1784",
    ),
    _row(
        "criu-missing",
        r"criu[\\\"]*: executable file not found|exec.*criu.*no such file",
        "runc does not find CRIU",
        "install CRIU where root's PATH has it",
    ),
    _row(
        "container-gone",
        r"container does not exist|container .* is not (running|paused)",
        "runc does not know the container, or finds it in another state",
        "look at docker ps -a; was it ended meanwhile?",
    ),
    _row(
        "untold",
        r"criu failed: type NOTIFY errno 0",
        "CRIU failed, and its log was not there to be read",
        "look into dump.log and restore.log on that host",
        "criu 1127",
        "criu 2043",
        "criu 2530",
    ),
)
"""The first row that matches the first telling error line wins."""
