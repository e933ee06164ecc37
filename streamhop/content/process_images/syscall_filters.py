"""Judges a system call filter from an image: does it let calls pass that the container's profile denies?

The filter was compiled at the peer, so it can be anything; that there is one says nothing. It is run for every call of
a list that a container could harm its host with, as far as the profile denies it, on every kind of system call that
the machine has, with arguments that are not known: where a jump depends on one, both ways are taken. What may pass then
is more than the profile grants. Calls that the profile allows for some arguments only are not judged.

Source: linux/filter.h, linux/seccomp.h, seccomp(2); numbers: asm/unistd_64.h, asm/unistd_32.h, asm-generic/unistd.h.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streamhop_protocol.errors import MalformedError

_INSTRUCTION = struct.Struct("<HBBI")
INSTRUCTIONS_MAX = 4096
"""The kernel's BPF_MAXINSNS."""

_NEW = {"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "mount_setattr": 442}

_X86_64 = _NEW | {
    "pivot_root": 155, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
    "reboot": 169, "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176, "kexec_load": 246,
    "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298,
    "open_by_handle_at": 304, "setns": 308, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
_I386 = _NEW | {
    "mount": 21, "acct": 51, "umount2": 52, "settimeofday": 79, "swapon": 87, "reboot": 88, "ioperm": 101, "iopl": 110,
    "swapoff": 115, "init_module": 128, "delete_module": 129, "pivot_root": 217, "kexec_load": 283, "add_key": 286,
    "request_key": 287, "keyctl": 288, "unshare": 310, "perf_event_open": 336, "open_by_handle_at": 342, "setns": 346,
    "finit_module": 350, "bpf": 357, "userfaultfd": 374,
}  # fmt: skip
_AARCH64 = _NEW | {
    "umount2": 39, "mount": 40, "pivot_root": 41, "acct": 89, "unshare": 97, "kexec_load": 104, "init_module": 105,
    "delete_module": 106, "reboot": 142, "settimeofday": 170, "add_key": 217, "request_key": 218, "keyctl": 219,
    "swapon": 224, "swapoff": 225, "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268, "finit_module": 273,
    "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip

_X32_BIT = 0x4000_0000

KINDS: Mapping[str, list[tuple[int, Mapping[str, int], int]]] = {
    "x86_64": [(0xC000003E, _X86_64, 0), (0xC000003E, _X86_64, _X32_BIT), (0x40000003, _I386, 0)],
    "aarch64": [(0xC00000B7, _AARCH64, 0)],
}
"""By machine: AUDIT_ARCH number, numbers of calls, what is added to them."""

_DENYING = frozenset({0x0000_0000, 0x8000_0000, 0x0003_0000, 0x0005_0000})
"""SECCOMP_RET_KILL_THREAD, KILL_PROCESS, TRAP, ERRNO."""

_ACTION = 0xFFFF_0000
_LOAD_WORD, _LOAD_NUMBER, _AND, _RETURN, _JUMP = 0x20, 0x00, 0x54, 0x06, 0x05
_JUMPS: Mapping[int, Callable[[int, int], bool]] = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}
_CLASS, _CLASS_JUMP, _CLASS_RETURN = 7, 5, 6
_CHANGES_NOTHING = frozenset({1, 2, 3})
"""Classes LDX, ST, STX leave the accumulator as it is."""

_TAX = 0x07


def allows_what_is_denied(program: bytes, profile: Mapping[str, Any], machine: str = "") -> str:
    """The name of a call that ``profile`` denies and ``program`` may let pass; empty if there is none.

    :param program: instructions as the kernel has them.
    :param profile: ``linux.seccomp`` of an OCI runtime configuration.
    :param machine: as ``uname -m`` prints it; this one by default.
    :raises MalformedError: no program that the kernel would take.
    """
    size = len(program) // _INSTRUCTION.size
    if len(program) % _INSTRUCTION.size or not 0 < size <= INSTRUCTIONS_MAX:
        raise MalformedError("a system call filter is not a program")
    return _first_passed(program, frozenset(denied(profile)), machine or os.uname().machine)


def denied(profile: Mapping[str, Any]) -> Iterator[str]:
    """Those of the calls known here that the profile denies whatever their arguments."""
    allowing = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"}
    by_default = profile.get("defaultAction") in allowing
    allowed = {name for rule in profile.get("syscalls") or () if rule["action"] in allowing for name in rule["names"]}
    barred = {
        name
        for rule in profile.get("syscalls") or ()
        if rule["action"] not in allowing and not rule.get("args")
        for name in rule["names"]
    }
    for name in _X86_64 | _AARCH64:
        if name in barred - allowed or (not by_default and name not in allowed):
            yield name


@functools.lru_cache(maxsize=16)
def _first_passed(program: bytes, names: frozenset[str], machine: str) -> str:
    instructions = list(_INSTRUCTION.iter_unpack(program))
    for architecture, numbers, added in KINDS.get(machine, []):
        for name in sorted(names & numbers.keys()):
            if _may_pass(instructions, architecture, numbers[name] + added):
                return name
    return ""


def _may_pass(instructions: list[tuple[int, int, int, int]], architecture: int, number: int) -> bool:
    """Whether the call may get through with some arguments."""
    known = {0: number, 4: architecture}
    seen: set[tuple[int, int | None]] = set()
    waiting: list[tuple[int, int | None]] = [(0, 0)]
    while waiting:
        at, value = waiting.pop()
        if (at, value) in seen:
            continue
        seen.add((at, value))
        if at >= len(instructions):
            raise MalformedError("a system call filter jumps behind its end")
        code, if_true, if_false, operand = instructions[at]
        kind = code & _CLASS
        if kind == _CLASS_RETURN:
            if code != _RETURN or operand & _ACTION not in _DENYING:
                return True
        elif code == _JUMP:
            waiting.append((at + 1 + operand, value))
        elif kind == _CLASS_JUMP:
            test = _JUMPS.get(code)
            taken = test(value, operand) if test and value is not None else None
            waiting.extend(
                (at + 1 + way, value) for way, when in ((if_true, True), (if_false, False)) if taken in (None, when)
            )
        else:
            waiting.append((at + 1, _accumulator(code, value, operand, known)))
    return False


def _accumulator(code: int, value: int | None, operand: int, known: Mapping[int, int]) -> int | None:
    """What the accumulator holds after an instruction that does not jump; None: unknown."""
    if code == _LOAD_WORD:
        return known.get(operand)
    if code == _LOAD_NUMBER:
        return operand
    if code == _AND:
        return None if value is None else value & operand
    return value if code & _CLASS in _CHANGES_NOTHING or code == _TAX else None
