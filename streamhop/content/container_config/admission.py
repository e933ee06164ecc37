"""At the target: what may a container that comes from a peer ask for?

The restore vulnerabilities of recent years have one cause, a target that believed what the archive said about
privileges. Here the manifest only asks; this host's policy decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamhop.findings import Finding, found, shown

from .creation import is_fixed
from .mount_admission import mount_refusals
from .mounts import BIND, VOLUME
from .request import CreationRequest

DEFAULT_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
"""What Docker gives a container that asks for nothing (moby, oci/caps/defaults.go)."""

MASKED_PATHS = frozenset(
    f"/proc/{name}"
    for name in ("acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats")
) | {"/sys/firmware"}
READONLY_PATHS = frozenset(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))
"""What every Docker since 20.10 hides or protects (moby, oci/defaults.go); later ones add to it."""

LOG_OPTIONS = frozenset(
    {"compress", "env", "env-regex", "labels", "labels-regex", "max-buffer-size", "max-file", "max-size", "mode", "tag"}
)

PORT_MAX = 65535

_SYSCTL = re.compile(r"[a-zA-Z0-9_-]+(?:\.[a-zA-Z0-9_-]+)+")
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shm_rmid_forced", "shmall", "shmmax", "shmmni")
)
_NETWORK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}")
_TMPFS_OPTION = re.compile(
    r"(?:rw|ro|exec|noexec|nosuid|nodev|sync|async|noatime|relatime|(?:size|mode|uid|gid|nr_inodes|nr_blocks)=\w+%?)"
)
_NARROW = "change it at the source: no policy allows it yet"


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """What this host grants to containers of its peers. The default is what an ordinary ``docker run`` needs."""

    capabilities: frozenset[str] = DEFAULT_CAPABILITIES
    """Capabilities that may be added, without ``CAP_``."""

    privileged: bool = False
    runtimes: frozenset[str] = frozenset({"streamhop"})
    security_options: frozenset[str] = frozenset(
        {"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true", "seccomp=builtin"}
    )
    log_drivers: frozenset[str] = frozenset({"json-file", "local", "none", "journald"})
    annotation_prefixes: tuple[str, ...] = ()
    """None by default: runtimes take orders from annotations, ``org.criu.config`` and ``org.systemd.property.*``."""

    cgroup_namespaces: frozenset[str] = frozenset({"", "private", "host"})
    """``host`` too: on cgroup v1 it is Docker's default, and what it shows can be read but not written."""

    ipc_modes: frozenset[str] = frozenset({"", "none", "private", "shareable"})
    cgroup_parents: frozenset[str] = frozenset({""})
    port_min: int = 1
    port_max: int = PORT_MAX
    """Ports of this host that may be published."""

    volumes: bool = True
    """Whether volumes may be made here; they hold what the peer sends."""

    binds: tuple[str, ...] = ()
    """Directories of this host at or below which a container may have binds."""

    oom_score_adj_min: int = 0
    priority_limits: bool = False
    """Whether the ulimits ``nice``, ``rtprio`` and ``rttime`` and real-time CPU shares may be set."""


def admit(request: CreationRequest, policy: AdmissionPolicy | None = None) -> list[Finding]:
    """Everything in ``request`` that ``policy`` does not grant; an empty list if it may be created."""
    policy = policy or AdmissionPolicy()
    host = request.body["HostConfig"]
    return [
        *_privileges(host, policy),
        *_security_options(host, policy),
        *_namespaces(host, policy),
        *_networks(request),
        *_devices(host),
        *_tmpfs_mounts(host),
        *mount_refusals(request.body, volumes=policy.volumes, binds=policy.binds),
        *_storage(host),
        *_tmpfs(host),
        *_kernel(host, policy),
        *_resources(host, policy),
        *_surroundings(host, policy),
    ]


def _refusal(kind: str, what: str, key: str = "") -> Finding:
    """:param kind: of finding, without ``policy.``.
    :param key: of the policy, that would allow it.
    """
    fix = f"change it at the source, or allow it in [policy] at the target: {key}" if key else _NARROW
    return found(f"policy.{kind}", f"the target's policy does not allow {what}", fix)


def _privileges(host: Mapping[str, Any], policy: AdmissionPolicy) -> Iterator[Finding]:
    if host.get("Privileged") and not policy.privileged:
        yield _refusal("privileged", "privileged containers", "privileged = true")
    for capability in host.get("CapAdd", ()):
        if capability.upper().removeprefix("CAP_") not in policy.capabilities:
            yield _refusal("capability", f"the capability {shown(capability)}", "capabilities")
    for field, core in (("MaskedPaths", MASKED_PATHS), ("ReadonlyPaths", READONLY_PATHS)):
        # A container that may do everything has nothing masked.
        if field in host and not policy.privileged and not core <= set(host[field]):
            yield _refusal("system-paths", f"system paths to be open ({field})", "privileged = true")
    if host.get("Init"):
        yield found(
            "policy.init",
            "a container whose first process is Docker's own (--init) cannot be restored",
            "run it without",
        )
    if host.get("Runtime", "") not in policy.runtimes:
        yield _refusal("runtime", f"the runtime {shown(host.get('Runtime', ''))!r}")


def _security_options(host: Mapping[str, Any], policy: AdmissionPolicy) -> Iterator[Finding]:
    for option in host.get("SecurityOpt", ()):
        if option not in policy.security_options:
            yield _refusal("security-option", f"the security option {shown(option)}", "security_options")


def _namespaces(host: Mapping[str, Any], policy: AdmissionPolicy) -> Iterator[Finding]:
    for field, what, allowed in (
        ("PidMode", "PID", frozenset({""})),
        ("UTSMode", "UTS", frozenset({""})),
        ("UsernsMode", "user", frozenset({""})),
        ("IpcMode", "IPC", policy.ipc_modes),
        ("CgroupnsMode", "cgroup", policy.cgroup_namespaces),
    ):
        if (mode := host.get(field, "")) not in allowed:
            yield _refusal("namespace", f"the {what} namespace {shown(mode)!r}")
    if host.get("Cgroup"):
        yield _refusal("namespace", "another container's cgroup")


def _networks(request: CreationRequest) -> Iterator[Finding]:
    mode = request.body["HostConfig"].get("NetworkMode", "default")
    if mode == "host" or not _NETWORK_NAME.fullmatch(mode):
        yield _refusal("network", f"the network mode {shown(mode)!r}")
    elif "host" in request.networks:
        # The mode may be another: a container can be in several networks.
        yield _refusal("network", "the host's network among others")


def _devices(host: Mapping[str, Any]) -> Iterator[Finding]:
    for device in host.get("Devices", ()):
        yield _refusal("device", f"the device {shown(device.get('PathOnHost', ''))}")
    if host.get("DeviceRequests"):
        yield _refusal("device", "device requests (GPUs, CDI)")
    if host.get("DeviceCgroupRules"):
        yield _refusal("device", "device cgroup rules")
    for field, value in host.items():
        if value and field.startswith("Blkio") and field != "BlkioWeight":
            yield _refusal("device", f"limits for devices of the host ({field})")


def _tmpfs_mounts(host: Mapping[str, Any]) -> Iterator[Finding]:
    for mount in host.get("Mounts", ()):
        kind, place = mount.get("Type", ""), shown(mount.get("Target", ""))
        if kind in (VOLUME, BIND):
            continue
        if kind != "tmpfs" or mount.get("Source"):
            yield _refusal("mount", f"the mount of type {shown(kind)} at {place}")
        elif not _is_plain_path(mount.get("Target", "")):
            yield _refusal("tmpfs", f"a tmpfs at {place!r}")
        elif any(option not in (["exec"], ["noexec"]) for option in mount.get("TmpfsOptions", {}).get("Options", ())):
            yield _refusal("tmpfs", f"the tmpfs options at {place}")


def _storage(host: Mapping[str, Any]) -> Iterator[Finding]:
    if host.get("VolumesFrom"):
        yield _refusal("mount", "another container's volumes")
    for option in host.get("StorageOpt", ()):
        if option != "size":
            yield _refusal("storage-option", f"the storage option {shown(option)!r}")


def _tmpfs(host: Mapping[str, Any]) -> Iterator[Finding]:
    for path, options in host.get("Tmpfs", {}).items():
        if not _is_plain_path(path):
            yield _refusal("tmpfs", f"a tmpfs at {shown(path)!r}")
        for option in options.split(",") if options else ():
            if not _TMPFS_OPTION.fullmatch(option):
                yield _refusal("tmpfs", f"the tmpfs option {shown(option)!r}")


def _is_plain_path(path: str) -> bool:
    return path.startswith("/") and ".." not in path.split("/")


def _kernel(host: Mapping[str, Any], policy: AdmissionPolicy) -> Iterator[Finding]:
    for name in host.get("Sysctls", ()):
        namespaced = name.startswith(("net.", "fs.mqueue.")) or name in _IPC_SYSCTLS
        if not namespaced or not _SYSCTL.fullmatch(name):
            yield _refusal("sysctl", f"the sysctl {shown(name)!r}, which is not the container's own")
    for name in host.get("Annotations", ()):
        if not name.startswith(policy.annotation_prefixes):
            yield _refusal("annotation", f"the annotation {shown(name)!r}", "annotation_prefixes")
    if host.get("CgroupParent", "") not in policy.cgroup_parents:
        yield _refusal("cgroup-parent", f"the cgroup parent {shown(host.get('CgroupParent', ''))!r}", "cgroup_parents")


def _resources(host: Mapping[str, Any], policy: AdmissionPolicy) -> Iterator[Finding]:
    if host.get("OomScoreAdj", 0) < policy.oom_score_adj_min:
        yield _refusal("oom", f"an OOM score adjustment of {host['OomScoreAdj']}", "oom_score_adj_min")
    if host.get("OomKillDisable"):
        yield _refusal("oom", "a container that the OOM killer passes over")
    if not policy.priority_limits:
        if host.get("CpuRealtimePeriod") or host.get("CpuRealtimeRuntime"):
            yield _refusal("real-time", "real-time CPU shares", "priority_limits = true")
        for limit in host.get("Ulimits", ()):
            if limit.get("Name", "").lower() in ("nice", "rtprio", "rttime"):
                yield _refusal("ulimit", f"the ulimit {shown(limit['Name'])}", "priority_limits = true")


def _surroundings(host: Mapping[str, Any], policy: AdmissionPolicy) -> Iterator[Finding]:
    log = host.get("LogConfig", {})
    if (driver := log.get("Type", "json-file")) not in policy.log_drivers:
        yield _refusal("log", f"the log driver {shown(driver)!r}", "log_drivers")
    for option in log.get("Config", ()):
        if option not in LOG_OPTIONS:
            yield _refusal("log", f"the log option {shown(option)!r}")
    if host.get("Links"):
        yield _refusal("links", "links to other containers")
    if host.get("AutoRemove"):
        yield _refusal("auto-remove", "containers that Docker removes when they end (--rm)")
    if host.get("Isolation", "") not in ("", "default"):
        yield _refusal("isolation", f"the isolation {shown(host['Isolation'])!r}")
    if host.get("PublishAllPorts") and (policy.port_min > 1 or policy.port_max < PORT_MAX):
        # Ports that the image exposes would get any port of this host that is free.
        yield _refusal("port", "ports that Docker chooses (--publish-all)", "port_min, port_max")
    for port, bindings in host.get("PortBindings", {}).items():
        for binding in bindings:
            number = binding.get("HostPort", "")
            if not is_fixed(number) or not policy.port_min <= int(number) <= policy.port_max:
                yield _refusal("port", f"port {shown(number)!r} of this host for {shown(port)}", "port_min, port_max")
