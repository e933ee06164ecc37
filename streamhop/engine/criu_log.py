"""From CRIU's log to a reason and what to do about it.

runc says little more than "criu failed: type NOTIFY errno 0"; what failed is in ``dump.log`` or ``restore.log``.
"""

from __future__ import annotations

import re
from pathlib import Path

LOG_BYTES_MAX = 256 * 1024
"""How much of a log is looked at, from its end."""

REASON_CHARACTERS_MAX = 600

_ERROR = re.compile(r"^\(\d+\.\d+\)\s+(?:\d+:\s+)?Error \([^)]*\):\s*(.*)$")

_UNTELLING = re.compile(
    r"(Dumping FAILED|Restoring FAILED|Can't (?:open|read) .*: No such process|Pid \d+ .* exited|\d+ (?:killed|exited)"
    r"|rlimit: Can't setup RLIMIT_NOFILE for self)",
    re.IGNORECASE,
)
"""Error lines that only follow from another one, or that mean no harm."""

_KNOWN: tuple[tuple[str, str], ...] = (
    (r"io_uring|anon_inode:\[io_uring\]", "CRIU cannot move io_uring: switch it off in the application's settings"),
    (r"Can't get 1:16 opt", "install CRIU 4.2 or later: older ones cannot read sockets on kernel 6.16 and later"),
    (
        r"Connected TCP socket|tcp-established",
        "the container has open TCP connections: allow them, or close them first",
    ),
    (
        r"External socket is used|ext-unix-sk",
        "the container holds a unix socket of the host: do not mount it, or close it",
    ),
    (r"Some file locks are hold", "run CRIU with file locks allowed"),
    (r"File .* has bad size|bad mode", "a file differs between the hosts: it was changed at the target; try again"),
    (
        r"Can't open file .*: No such file|Can't .*stat.* No such file",
        "a file that the container has open is not at the target: is it on a mount that was not moved?",
    ),
    (
        r"ghost.*(too big|limit)|Can't dump ghost file",
        "a large file was deleted while open: let the application close it",
    ),
    (r"inotify|fanotify", "a watched file cannot be found again: let the application drop its watches"),
    (r"tty|terminal", "the container's terminal cannot be moved: start it without -t"),
    (r"Can't get rlimit", "CRIU needs the capability CAP_SYS_RESOURCE"),
    (
        r"ptrace.*(Operation not permitted|failed)|seize",
        "another program traces the container: stop strace, gdb or the like; or CRIU lacks CAP_SYS_PTRACE",
    ),
    (
        r"cpu.*(isn't|not) (compatible|supported)|CPU .* mismatch|fpu",
        "the target's CPU lacks what the source's has: choose a target of the same kind",
    ),
    (r"nested|namespace.*(not supported|unsupported)", "processes with namespaces of their own cannot be moved"),
    (r"apparmor|selinux|lsm", "the target's security module does not allow it: load the same profile there"),
    (r"seccomp", "the kernels differ in seccomp: use the same kernel at both ends"),
    (r"Pid .* (busy|in use|already exists)|Can't fork for .*File exists", "a process number is taken: try again"),
    (
        r"bind.*(Address already in use|Cannot assign requested address)",
        "an address is taken or not there at the target",
    ),
    (r"Network is unreachable|Can't connect inet socket", "an open connection needs a route that the target lacks"),
    (r"No space left|ENOSPC", "make room on the file system that holds the images"),
    (r"Cannot allocate memory|ENOMEM", "the host has too little free memory"),
    (
        r"Can't (mount|open|find) .*(mountpoint|mount)|mnt:",
        "a mount of the container cannot be moved: remove that mount",
    ),
)
"""What CRIU says, as a pattern, and what to do. The first that matches the first telling error wins."""

UNKNOWN_FIX = "look at the log for what CRIU cannot handle"


def explain(log_text: str) -> tuple[str, str]:
    """What failed and what to do.

    :param log_text: the log, or its end.
    :returns: reason (the telling error lines, the first one first) and fix; reason is empty if there is no error line.
    """
    errors = [match[1].strip() for line in log_text.splitlines() if (match := _ERROR.match(line.strip()))]
    telling = [text for text in dict.fromkeys(errors) if not _UNTELLING.search(text)] or errors[-1:]
    if not telling:
        return "", UNKNOWN_FIX
    # The first error is the cause; those after it are what came of it.
    for text in telling:
        for pattern, fix in _KNOWN:
            if re.search(pattern, text, re.IGNORECASE):
                return _joined(telling), fix
    return _joined(telling), UNKNOWN_FIX


def explain_file(path: Path) -> tuple[str, str]:
    """As :func:`explain`, of a log file that may be missing or long."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES_MAX))
            return explain(file.read(LOG_BYTES_MAX).decode("utf-8", errors="replace"))
    except OSError:
        return "", UNKNOWN_FIX


def _joined(lines: list[str]) -> str:
    return "; ".join(lines[:3])[:REASON_CHARACTERS_MAX]
