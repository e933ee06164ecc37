"""Which instructions a processor has, as /proc/cpuinfo tells, and what a program would miss on another one.

CRIU compares the two processors only if it is told to write its own image of them (``--cpu-cap=image``), which runc
does not do. What is compared here is what CRIU compares then (``criu/arch/x86/cpu.c``, x86_ins_capability_mask), and
the instructions that processors have got since.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

CPUINFO = Path("/proc/cpuinfo")
CPUINFO_BYTES_MAX = 64 * 1024
"""The first processor of the list is within that; of very many the others are not looked at."""

FEATURES_MAX = 1024
FEATURE_CHARACTERS_MAX = 32

FEATURE: Final = re.compile(r"[a-z0-9_]{1,32}")

_IN_CRIUS_MASK = """
    fpu tsc cx8 sep cmov clflush mmx fxsr sse sse2 syscall mmxext rdtscp 3dnowext 3dnow pni pclmulqdq ssse3 cx16 sse4_1
    sse4_2 movbe popcnt aes xsave avx f16c rdrand abm sse4a misalignsse 3dnowprefetch xop fma4 tbm fsgsbase bmi1 avx2
    bmi2 avx512f avx512dq rdseed adx clflushopt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl xsaveopt xsavec
    xgetbv1 avx512vbmi avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg avx512_vpopcntdq rdpid clzero
    avx512_4vnniw avx512_4fmaps rtm hle
"""
_AND_SINCE = """
    fma lm lahf_lm clwb avx512ifma avx512_vp2intersect avx512_bf16 avx512_fp16 avx_vnni avx_ifma amx_tile amx_int8
    amx_bf16 amx_fp16 cldemote movdiri movdir64b serialize waitpkg sha512 sm3 sm4 cmpccxadd pku ospke
"""
_X86_PROGRAMS_USE: Final = frozenset((_IN_CRIUS_MASK + _AND_SINCE).split())
"""By the kernel's names (arch/x86/include/asm/cpufeatures.h).

Left out, of CRIU's mask: erms and rep_good, without which the same code is slower; nopl; mwait, mpx and tme, which
programs do not use."""

_X86_STATE: Final = {"avx": "avx", "avx512f": "avx512", "ospke": "pku", "amx_tile": "amx", "user_shstk": "shadow stack"}
"""Features whose registers the kernel saves for each thread."""


def own_features() -> tuple[str, ...]:
    """What this host's processor has; empty if that cannot be read."""
    try:
        with CPUINFO.open("rb") as file:
            return features_in(file.read(CPUINFO_BYTES_MAX).decode("ascii", "replace"))
    except OSError:
        return ()


def features_in(cpuinfo: str) -> tuple[str, ...]:
    """The features of the first processor of a /proc/cpuinfo text: ``flags`` on x86, ``Features`` on ARM."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip().lower() in ("flags", "features"):
            found = [word for word in value.lower().split() if FEATURE.fullmatch(word)]
            return tuple(dict.fromkeys(found))[:FEATURES_MAX]
    return ()


def missing(source: tuple[str, ...], target: tuple[str, ...], machine: str) -> list[str]:
    """What programs may use at the source and would not find at the target, in the source's order.

    Nothing is missing where one of the two is not known.

    :param machine: as ``uname -m`` prints it. Of x86 only what programs use counts, elsewhere all.
    """
    if not source or not target:
        return []
    there = set(target)
    relevant = _X86_PROGRAMS_USE if machine in ("x86_64", "i686") else None
    return [name for name in source if name not in there and (relevant is None or name in relevant)]


def more_state(source: tuple[str, ...], target: tuple[str, ...], machine: str) -> list[str]:
    """Registers that the target's processor has and the source's has not, by their usual names."""
    if not source or not target or machine not in ("x86_64", "i686"):
        return []
    here = set(source)
    return [name for flag, name in _X86_STATE.items() if flag in target and flag not in here]
