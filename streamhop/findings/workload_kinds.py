"""Kinds of findings about what the container's processes do, from /proc.

What CRIU can dump was read in the sources of CRIU 4.2: ``criu/files.c`` (dump_one_file), ``criu/sockets.c``
(dump_socket), ``criu/proc_parse.c`` (handle_vma), ``criu/namespaces.c`` (generate_ns_id), ``criu/filesystems.c``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .finding import Severity
from .kind import CRIU, CRIU_ISSUE, CRIU_LIMITS, Kind

WORKLOAD_KINDS: Final[Mapping[str, Kind]] = {
    "workload.io-uring": Kind(
        "requests under way are in the kernel's rings, which CRIU can neither read nor make again", f"{CRIU_ISSUE}2131"
    ),
    "workload.descriptor": Kind("CRIU cannot make such a descriptor again", CRIU_LIMITS),
    "workload.device": Kind("a device's state is in its driver, and the target's device is another one", CRIU_LIMITS),
    "workload.mapped-device": Kind(
        "memory that is a device's cannot be read as memory, nor mapped at the target", CRIU_LIMITS
    ),
    "workload.mapping": Kind("CRIU cannot make such a mapping again", CRIU_LIMITS),
    "workload.socket": Kind("CRIU knows sockets of unix, IPv4, IPv6, packet and netlink, and no other", CRIU_LIMITS),
    "workload.unix-peer": Kind(
        "half of the connection belongs to somebody outside of the container, who stays here and is not dumped",
        f"{CRIU}/External_UNIX_socket",
    ),
    "workload.outside-file": Kind(
        "the file is on a mount that the container does not have: CRIU cannot find it, nor would the target have it",
        f"{CRIU_ISSUE}289",
    ),
    "workload.terminal": Kind(
        "the terminal's other end is a program of this host, which stays here", f"{CRIU_ISSUE}1480"
    ),
    "workload.ghost-file": Kind(
        "a deleted file that is still open has no name to be copied by; CRIU puts it into its image up to 1 MiB",
        f"{CRIU_ISSUE}491",
    ),
    "workload.traced": Kind(
        "a process has one tracer, and CRIU has to be it", "https://man7.org/linux/man-pages/man2/ptrace.2.html"
    ),
    "workload.session": Kind(
        "CRIU makes the same sessions again, and cannot if their leader is no process of the container",
        f"{CRIU}/When_C/R_fails",
    ),
    "workload.namespace": Kind(
        "CRIU dumps nested mount and network namespaces, and no other nested ones", f"{CRIU}/Namespaces"
    ),
    "workload.mount": Kind("CRIU knows no way to mount this at the target", f"{CRIU}/Mount_points"),
    "workload.exec": Kind(
        "CRIU dumps the first process and what descends from it; what was started beside it is ended by the move",
        "https://docs.docker.com/reference/cli/docker/container/exec/",
        Severity.WARNS,
    ),
    "workload.blocked": Kind(
        "CRIU looks at the same files while the container is frozen, and would wait as long",
        "https://man7.org/linux/man-pages/man5/nfs.5.html",
    ),
    "workload.unseen": Kind(
        "what could not be looked at is found by CRIU, if at all, when the container is frozen",
        "https://man7.org/linux/man-pages/man5/proc.5.html",
        Severity.WARNS,
    ),
}
