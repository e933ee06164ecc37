"""Releases of Docker, containerd, runc and CRIU that are known to be bad for moves, and since when they are not.

Pure data and comparison. An entry is here only if a release that has the fix is known: of CRIU's CVE-2026-18107 and
CVE-2026-119614, containerd's CVE-2026-95837, and Docker's CVE-2026-41568 and CVE-2026-42306 none was. crun and CRI-O
are no part of a move. Sources: the advisories and release notes that each entry names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streamhop.findings import Finding, Severity

from .versions import Version, version_of

PROGRAMS: Final[Mapping[str, str]] = {
    "docker": "Docker",
    "containerd": "containerd",
    "runc": "runc",
    "criu": "CRIU",
    "kernel": "the kernel",
}
"""What versions are told of, and how each is called."""

_BACKPORTED = "; a distribution's package may have the fix under an older number, see its changelog"


@dataclass(frozen=True, slots=True)
class Range:
    """Bad releases of one line: from ``since`` on, up to but without ``fixed``."""

    since: str
    fixed: str

    def __contains__(self, version: Version) -> bool:
        since, fixed = version_of(self.since), version_of(self.fixed)
        assert since is not None
        assert fixed is not None
        return since <= version < fixed


@dataclass(frozen=True, slots=True)
class KnownBad:
    """What is wrong with some releases of one program."""

    id: str
    program: str
    """A key of :data:`PROGRAMS`."""

    ranges: tuple[Range, ...]
    what: str
    why: str
    reference: str
    severity: Severity = Severity.WARNS
    kernel_since: str = ""
    """Only on kernels from this one on; empty: on all."""

    side: str = ""
    """``target``: it matters only where a container arrives; empty: on both sides."""


KNOWN_BAD: Final[tuple[KnownBad, ...]] = (
    KnownBad(
        "version.criu.kernel-6.16",
        "criu",
        (Range("0.0", "4.2"),),
        "cannot dump internet sockets on kernel 6.16 and later",
        "the kernel answers SO_PASSCRED for unix and netlink sockets alone since then, and CRIU before 4.2 asks all: "
        "`Can't get 1:16 opt`",
        "https://github.com/checkpoint-restore/criu/releases/tag/v4.2",
        Severity.REFUSES,
        kernel_since="6.16",
    ),
    KnownBad(
        "version.runc.cve-2026-119101",
        "runc",
        (Range("1.3.0", "1.3.7"), Range("1.4.0-rc.1", "1.4.4"), Range("1.5.0-rc.1", "1.5.3")),
        "can mount a directory of the host into a restored container (CVE-2026-119101)",
        "links that an image brings confuse the names that runc gives CRIU for mounts; a move is a dump and a restore",
        "https://github.com/opencontainers/runc/releases/tag/v1.3.7",
    ),
    KnownBad(
        "version.runc.cve-2025-31133",
        "runc",
        (Range("0.0", "1.2.8"), Range("1.3.0-rc.1", "1.3.3"), Range("1.4.0-rc.1", "1.4.0-rc.3")),
        "lets a container write to /proc of the host (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881)",
        "a container that a peer sends can leave its confines as it is created",
        "https://github.com/opencontainers/runc/releases/tag/v1.2.8",
        side="target",
    ),
    KnownBad(
        "version.runc.cve-2024-21626",
        "runc",
        (Range("0.0", "1.1.12"),),
        "leaks a descriptor of the host's files into containers (CVE-2024-21626)",
        "a container that a peer sends can leave its confines by its working directory",
        "https://github.com/opencontainers/runc/security/advisories/GHSA-xr7r-f8xq-vfvv",
        side="target",
    ),
    KnownBad(
        "version.docker.cve-2026-41567",
        "docker",
        (Range("0.0", "29.5.1"),),
        "runs a container's programs on the host when a compressed archive is copied into it (CVE-2026-41567)",
        "streamhop copies no archives into containers, but whoever does so to one that a peer has sent trusts the peer",
        "https://github.com/moby/moby/security/advisories/GHSA-x86f-5xw2-fm2r",
        side="target",
    ),
    KnownBad(
        "version.containerd.cve-2026-53492",
        "containerd",
        (Range("2.1.0", "2.1.9"), Range("2.2.0", "2.2.5"), Range("2.3.0", "2.3.2")),
        "believes what checkpoint images of Kubernetes say of devices, tags and log files (CVE-2026-53492, "
        "CVE-2026-50195, CVE-2026-53489)",
        "neither Docker nor streamhop uses this way to restore; it matters where Kubernetes shares the containerd",
        "https://github.com/containerd/containerd/security/advisories/GHSA-33vj-92qq-66hc",
        side="target",
    ),
)


def known_bad(versions: Mapping[str, str], *, side: str) -> list[Finding]:
    """What is known to be wrong with the programs of one host.

    :param versions: program, a key of :data:`PROGRAMS`, to its version as it prints it; what is missing is passed over.
    :param side: ``source`` or ``target``.
    """
    known = {program: version for program, text in versions.items() if (version := version_of(text)) is not None}
    return [
        _finding(entry, known[entry.program], side)
        for entry in KNOWN_BAD
        if entry.program in known and entry.side in ("", side) and _applies(entry, known)
    ]


def _applies(entry: KnownBad, known: Mapping[str, Version]) -> bool:
    if not any(known[entry.program] in bad for bad in entry.ranges):
        return False
    if not entry.kernel_since:
        return True
    kernel, since = known.get("kernel"), version_of(entry.kernel_since)
    return kernel is not None and since is not None and kernel >= since


def _finding(entry: KnownBad, version: Version, side: str) -> Finding:
    name = PROGRAMS[entry.program]
    # The line that is in use is mended by its own release; older lines by the first that was.
    fixed = next(bad.fixed for bad in entry.ranges if version in bad)
    return Finding(
        entry.id,
        f"{name} {version} at the {side} {entry.what}",
        f"install {name} {fixed} or later{_BACKPORTED if entry.severity is Severity.WARNS else ''}",
        entry.why,
        entry.reference,
        entry.severity,
    )
