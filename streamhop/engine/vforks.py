"""Processes that were frozen in the middle of a vfork: such a container cannot be dumped.

A parent that calls vfork(), or clone() with CLONE_VM and CLONE_VFORK as posix_spawn() and many shells do, sleeps until
its child runs another program or ends, and until then the two share their memory. ptrace cannot interrupt that sleep,
which CRIU notices after 10 s; nor does CRIU dump processes that share memory. So that is what is looked for.

/proc/PID/syscall and wchan were tried as well (decision 13): they name a call that the parent is still on its way out
of, and differ between architectures and kernels. kcmp(2) belongs to CONFIG_CHECKPOINT_RESTORE, without which there is
no CRIU.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from .processes import ProcessRef, parent

_KCMP_VM = 1

_KCMP_NUMBERS = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "ppc64le": 354, "s390x": 343}
"""The C library has no function for it; from the kernel's tables of system calls."""


def sharing_memory(processes: Iterable[ProcessRef]) -> list[tuple[ProcessRef, ProcessRef]]:
    """Each of ``processes`` whose parent, one of them too, has the very same memory: (parent, child).

    Frozen processes stay what is said of them. Processes that are gone are left out, and on an architecture whose
    numbers are not known here nothing is found.
    """
    number = _KCMP_NUMBERS.get(os.uname().machine)
    if number is None:
        return []
    by_pid = {process.host_pid: process for process in processes}
    family = ((by_pid.get(parent(pid) or 0), child) for pid, child in by_pid.items())
    return [(above, child) for above, child in family if above is not None and _share_memory(number, above, child)]


def _share_memory(number: int, one: ProcessRef, other: ProcessRef) -> bool:
    arguments = (one.host_pid, other.host_pid, _KCMP_VM, 0, 0)
    return bool(ctypes.CDLL(None).syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) == 0)
