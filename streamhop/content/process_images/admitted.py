"""What the container's configuration grants, in the terms of CRIU's images.

It is read from the bundle that this host's own Docker has written for the container, after the policy was applied:
nothing of it comes from the peer but what was admitted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
"""By their numbers; source: linux/capability.h."""

RLIMITS = (
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING",
    "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
)  # fmt: skip
"""By their numbers; source: asm-generic/resource.h."""

_MOUNT_FLAGS = {"ro": 1, "rro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}
"""Source: linux/mount.h, MS_RDONLY and so on."""

_CLEARED_FLAGS = {"rw": 1, "suid": 2, "dev": 4, "exec": 8}

_NAMESPACES = {"pid": 5, "network": 6, "ipc": 7, "uts": 8, "mount": 9, "cgroup": 11}
"""By their fields in CRIU's task_kobj_ids_entry."""

_DEVICES = frozenset(
    f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts/ptmx")
)
"""What every container has; source: OCI runtime specification, config-linux.md, "Default Devices"."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount of the configuration."""

    kind: str
    flags: int
    """Those of mount(2) that it must have."""

    bind: bool


@dataclass(frozen=True, slots=True)
class Admitted:
    """Read by :meth:`from_config`."""

    capabilities: int
    """Bit mask: no process may have any other."""

    no_new_privileges: bool
    user: int
    seccomp: Mapping[str, Any] | None
    label: str
    """AppArmor profile or SELinux label; empty: none."""

    namespaces: frozenset[int]
    """Fields of CRIU's task_kobj_ids_entry: namespaces of the container's own."""

    mounts: Mapping[str, Mount]
    root_flags: int
    masked: frozenset[str]
    read_only: frozenset[str]
    terminal: bool
    devices: frozenset[str]
    limits: Mapping[int, int]
    """Highest hard limits by their numbers."""

    oom_score_adj: int
    is_here: Callable[[str], bool]
    """Whether a path of /proc or /sys is there on this host, so that it has to be covered."""

    def has(self, capability: str) -> bool:
        """Whether the container may hold this one, named without ``CAP_``."""
        return bool(self.capabilities >> CAPABILITIES.index(capability) & 1)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], is_here: Callable[[str], bool] = os.path.exists) -> Admitted:
        """
        :param config: the bundle's ``config.json``, see the OCI runtime specification, config.md and config-linux.md.
        """
        process = config.get("process") or {}
        linux = config.get("linux") or {}
        granted = process.get("capabilities") or {}
        return cls(
            capabilities=sum(1 << CAPABILITIES.index(name) for name in _plain_names(granted.get("bounding"))),
            no_new_privileges=bool(process.get("noNewPrivileges")),
            user=int((process.get("user") or {}).get("uid", 0)),
            seccomp=linux.get("seccomp"),
            label=process.get("apparmorProfile") or process.get("selinuxLabel") or "",
            namespaces=frozenset(
                _NAMESPACES[entry["type"]] for entry in linux.get("namespaces") or () if entry["type"] in _NAMESPACES
            ),
            mounts={os.path.normpath(entry["destination"]): _mount(entry) for entry in config.get("mounts") or ()},
            root_flags=1 if (config.get("root") or {}).get("readonly") else 0,
            masked=frozenset(linux.get("maskedPaths") or ()),
            read_only=frozenset(linux.get("readonlyPaths") or ()),
            terminal=bool(process.get("terminal")),
            devices=_DEVICES | {entry["path"] for entry in linux.get("devices") or ()},
            limits={
                RLIMITS.index(entry["type"].removeprefix("RLIMIT_")): int(entry["hard"])
                for entry in process.get("rlimits") or ()
            },
            oom_score_adj=int(process.get("oomScoreAdj") or 0),
            is_here=is_here,
        )


def _plain_names(names: list[str] | None) -> set[str]:
    """Those that are known here; one that is not is granted to nobody."""
    return {name.removeprefix("CAP_") for name in names or ()} & set(CAPABILITIES)


def _mount(entry: Mapping[str, Any]) -> Mount:
    options = entry.get("options") or ()
    flags = 0
    for option in options:
        # The last one counts.
        flags |= _MOUNT_FLAGS.get(option, 0)
        flags &= ~_CLEARED_FLAGS.get(option, 0)
    bind = entry.get("type") == "bind" or "bind" in options or "rbind" in options
    return Mount(kind=entry.get("type") or "", flags=flags, bind=bind)
