"""Kinds of findings about the two hosts: programs, kernels, processors, room, names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .finding import Severity
from .kind import CRIU, CRIU_ISSUE, Kind

_SETUP = "README.md, Use it"
_CONFIG = "https://criu.org/Linux_kernel"

HOST_KINDS: Final[Mapping[str, Kind]] = {
    "host.docker-old": Kind("its API lacks what a move asks for", "https://docs.docker.com/reference/api/engine/"),
    "host.runc-missing": Kind("runc dumps and restores containers", "https://github.com/opencontainers/runc"),
    "host.runc-old": Kind("it lacks options that a move needs", "https://github.com/opencontainers/runc"),
    "host.criu-missing": Kind("CRIU dumps and restores processes", CRIU),
    "host.criu-old": Kind("it lacks options that a move needs, or cannot work on this kernel", CRIU),
    "host.dump-room": Kind(
        "what has changed when the container is frozen waits there while the link is slower than the dump, beside "
        "CRIU's images of all but memory; with no room left the move ends, and the container goes on where it was",
        "docs/decisions/0015",
        Severity.WARNS,
    ),
    "host.cpu-quota": Kind("--auto-converge slows a container down by its cgroup", "docs/decisions/0010"),
    "kernel.checkpoint-restore": Kind(
        "CRIU tells which descriptors are shared by comparing them in the kernel (kcmp), which this kernel was built "
        "without",
        _CONFIG,
    ),
    "kernel.children": Kind(
        "the processes of a container are found by /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN)", _CONFIG
    ),
    "kernel.map-files": Kind("CRIU finds mapped files by /proc/PID/map_files", _CONFIG),
    "kernel.nftables": Kind(
        "while a container is not there its packets are held back by a table of nftables; else the kernel answers "
        "for it and breaks its connections",
        "docs/architecture.md, Restore",
    ),
    "kernel.sock-diag": Kind(
        "CRIU reads sockets by sock_diag(7): without a kind of them in it a container that has such cannot be dumped",
        _CONFIG,
        Severity.WARNS,
    ),
    "kernel.criu-check": Kind(
        "CRIU has tried what it needs of the kernel, and something failed that this container may need",
        f"{CRIU}/Check_the_kernel",
        Severity.WARNS,
    ),
    "kernel.older": Kind(
        "programs ask the kernel what it can do when they start; what one has found at the source it goes on using",
        _CONFIG,
        Severity.WARNS,
    ),
    "target.architecture": Kind("memory holds machine code and addresses, which only its own kind of processor runs"),
    "target.page-size": Kind("memory is laid out by pages; CRIU restores it only at the same size", CRIU),
    "target.cpu": Kind(
        "programs choose their fastest code when they start; restored where an instruction is missing they die of "
        "SIGILL, perhaps hours later",
        f"{CRIU_ISSUE}2104",
    ),
    "target.cpu-state": Kind(
        "a C library that measured the registers to save when the program started may save too little on a processor "
        "that has more of them",
        f"{CRIU}/CPU_cap",
        Severity.WARNS,
    ),
    "target.criu-older": Kind("an older CRIU may not understand a newer one's images", CRIU),
    "target.runtime-missing": Kind("the container is restored inside of this runtime", _SETUP),
    "target.runtime-misplaced": Kind(
        "the runtime would not find the restore that waits for it, and would start the container afresh", _SETUP
    ),
    "target.disk": Kind("what arrives is stored there until the container runs"),
    "target.memory": Kind("the kernel would end processes there to make room, the container's or others'"),
    "target.name": Kind("Docker knows a container by its name", "https://docs.docker.com/engine/containers/run/"),
    "target.network": Kind(
        "the container expects its networks, and must not end up in another one",
        "https://docs.docker.com/engine/network/",
    ),
    "target.network-host": Kind("the host's own network is none to put a peer's container into"),
    "target.network-overlap": Kind(
        "two networks with the same addresses on one host: packets would go to the wrong one",
        "https://docs.docker.com/engine/network/drivers/bridge/",
    ),
    "target.network-address": Kind(
        "the container expects the address that it was given", "https://docs.docker.com/engine/network/"
    ),
    "target.connections": Kind(
        "a connection lives on only where the container has the same addresses on one segment with its neighbours",
        "README.md, Use it: --tcp",
    ),
    "target.volume": Kind(
        "a volume of that name holds something else, which must be neither mixed nor lost",
        "https://docs.docker.com/engine/storage/volumes/",
    ),
    "target.bind": Kind(
        "what is there already belongs to this host, and must be neither mixed nor lost",
        "https://docs.docker.com/engine/storage/bind-mounts/",
    ),
    "target.port": Kind(
        "a published port can have one owner", "https://docs.docker.com/engine/network/port-publishing/"
    ),
    "peer.refused": Kind("the peer decides what comes to it"),
    "check.more": Kind("only the first are told"),
}
