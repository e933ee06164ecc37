"""What this host's kernel can do for a move, found by trying, not by its version. Nothing is changed by it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from streamhop.findings import Finding, found

from .criu_log import explain
from .nftgate import GateError, check_nftables
from .programs import NOT_THERE, TIMED_OUT, ask_program

CRIU_CHECK_S_MAX = 10.0

_KCMP = {"x86_64": 312, "aarch64": 272}
"""System call numbers (asm/unistd.h)."""

_KCMP_FILE = 0
_NETLINK_SOCK_DIAG = 4
_FIX_KERNEL = "use a kernel with it: those of the large distributions have it"


def kernel_findings() -> list[Finding]:
    """What this kernel lacks. Takes some ten milliseconds: call it from a worker thread."""
    return [finding for probe in (_kcmp, _proc, _nftables, _sock_diag) for finding in probe()]


def _kcmp() -> Iterator[Finding]:
    number = _KCMP.get(platform.machine())
    if number is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.getpid()
    if libc.syscall(number, own, own, _KCMP_FILE, 0, 0) < 0 and ctypes.get_errno() == errno.ENOSYS:
        yield found("kernel.checkpoint-restore", "the kernel has no kcmp (CONFIG_CHECKPOINT_RESTORE)", _FIX_KERNEL)


def _proc() -> Iterator[Finding]:
    if not Path("/proc/thread-self/children").exists():
        yield found("kernel.children", "the kernel does not list a process's children in /proc", _FIX_KERNEL)
    try:
        with os.scandir("/proc/self/map_files") as entries:
            next(entries, None)
    except OSError as error:
        yield found("kernel.map-files", f"/proc/self/map_files cannot be read: {error.strerror}", _FIX_KERNEL)


def _nftables() -> Iterator[Finding]:
    try:
        check_nftables()
    except GateError as error:
        yield found("kernel.nftables", str(error), "load the modules nf_tables and nf_tables_inet")


def _sock_diag() -> Iterator[Finding]:
    for name, question in _DIAG_QUESTIONS.items():
        if code := _refusal_of(question):
            yield found(
                "kernel.sock-diag",
                f"the kernel tells nothing of {name} sockets: {os.strerror(code)}",
                "load the modules unix_diag, inet_diag, tcp_diag and udp_diag",
            )


def _diag_question(body: bytes) -> bytes:
    """A sock_diag(7) message; its body asks for sockets in no state, so that the answer is short."""
    return struct.pack("=IHHII", 16 + len(body), 20, 0x301, 1, 0) + body


_DIAG_QUESTIONS = {
    "unix": _diag_question(struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0, 0, 0, 0, 0)),
    "TCP": _diag_question(struct.pack("=BBBBI48x", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0)),
    "UDP": _diag_question(struct.pack("=BBBBI48x", socket.AF_INET, socket.IPPROTO_UDP, 0, 0, 0)),
}


def _refusal_of(question: bytes) -> int:
    """The errno with which the kernel answers a question; 0 if it answers."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as sock:
            sock.settimeout(5)
            sock.sendto(question, (0, 0))
            reply = sock.recv(65536)
    except OSError as error:
        return error.errno or errno.EIO
    kind = struct.unpack_from("=H", reply, 4)[0] if len(reply) >= 20 else 0
    return -int(struct.unpack_from("=i", reply, 16)[0]) if kind == 2 else 0


async def criu_check() -> list[Finding]:
    """What ``criu check`` has against this kernel; nothing if there is no CRIU, which others tell."""
    code, output = await ask_program("criu", "check", seconds=CRIU_CHECK_S_MAX, with_errors=True)
    if code in (0, NOT_THERE):
        return []
    reason, _ = explain(output)
    told = reason or next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "no reason given")
    if code == TIMED_OUT:
        told = f"no answer within {CRIU_CHECK_S_MAX:.0f} s"
    return [
        found(
            "kernel.criu-check",
            f"`criu check` is not content with this host: {told}",
            "run `criu check --all` there; a newer CRIU may know the kernel",
        )
    ]
