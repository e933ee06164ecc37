"""What the target grants: an ordinary container, nothing that reaches beyond it, and more only by its own policy."""

from __future__ import annotations

from typing import Any

import pytest
from container_config_support import changed, request, wire

from streamhop.content.container_config import AdmissionPolicy, CreationRequest, admit
from streamhop.content.container_config.admission import MASKED_PATHS, READONLY_PATHS
from streamhop.findings import Finding

ESCAPE = "\x1b]0;owned\x07\x1b[2J\r\n\u202e"


def reasons(found: list[Finding]) -> str:
    """All reasons, one a line."""
    return "\n".join(refusal.reason for refusal in found)


def test_an_ordinary_container_is_admitted() -> None:
    assert admit(request()) == []
    assert admit(request(), AdmissionPolicy()) == []


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("privileged", {"Privileged": True}, "privileged"),
    ("all capabilities", {"CapAdd": ["ALL"]}, "ALL"),
    ("a capability", {"CapAdd": ["CAP_SYS_ADMIN"]}, "CAP_SYS_ADMIN"),
    ("a capability in small letters", {"CapAdd": ["net_admin"]}, "net_admin"),
    ("a capability that says nothing", {"CapAdd": [""]}, "capability"),
    ("checkpoint capability", {"CapAdd": ["NET_RAW", "CHECKPOINT_RESTORE"]}, "CHECKPOINT_RESTORE"),
    ("seccomp unconfined", {"SecurityOpt": ["seccomp=unconfined"]}, "seccomp=unconfined"),
    ("seccomp, older form", {"SecurityOpt": ["seccomp:unconfined"]}, "seccomp:unconfined"),
    ("a seccomp profile", {"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']}, "seccomp"),
    ("apparmor unconfined", {"SecurityOpt": ["apparmor=unconfined"]}, "apparmor"),
    ("labels off", {"SecurityOpt": ["label=disable"]}, "label=disable"),
    ("new privileges", {"SecurityOpt": ["no-new-privileges=false"]}, "no-new-privileges=false"),
    ("systempaths", {"SecurityOpt": ["systempaths=unconfined"]}, "systempaths"),
    ("host PID", {"PidMode": "host"}, "PID namespace"),
    ("container PID", {"PidMode": "container:db"}, "PID namespace"),
    ("host IPC", {"IpcMode": "host"}, "IPC namespace"),
    ("container IPC", {"IpcMode": "container:db"}, "IPC namespace"),
    ("host UTS", {"UTSMode": "host"}, "UTS namespace"),
    ("host user", {"UsernsMode": "host"}, "user namespace"),
    ("container cgroup", {"Cgroup": "container:db"}, "cgroup"),
    ("strange cgroup namespace", {"CgroupnsMode": "container:db"}, "cgroup namespace"),
    ("cgroup parent", {"CgroupParent": "/system.slice"}, "cgroup parent"),
    ("bind of /", {"Binds": ["/:/host"]}, "the bind of /"),
    ("bind of docker.sock", {"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]}, "docker.sock"),
    ("bind of /proc", {"Binds": ["/proc:/host/proc:rw"]}, "/proc"),
    ("bind that no policy names", {"Binds": ["/srv/data:/data"]}, "/srv/data"),
    ("volume driver", {"VolumeDriver": "nfs"}, "nfs"),
    ("volume over /proc", {"Binds": ["data:/proc"]}, "/proc"),
    ("volume over the root", {"Binds": ["data:/"]}, "a volume at '/'"),
    ("volume outside", {"Binds": ["data:/x/../y"]}, "/x/../y"),
    ("volume in a mount that spreads", {"Binds": ["data:/data:rshared"]}, "rshared"),
    ("volume to relabel", {"Binds": ["data:/data:Z"]}, "'Z'"),
    ("bind mount", {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]}, "bind"),
    ("image mount", {"Mounts": [{"Type": "image", "Source": "x", "Target": "/x"}]}, "image"),
    ("mount of no type", {"Mounts": [{"Source": "/", "Target": "/x"}]}, "mount of type"),
    ("tmpfs mount outside", {"Mounts": [{"Type": "tmpfs", "Target": "/run/../../etc"}]}, "tmpfs at"),
    ("tmpfs mount relative", {"Mounts": [{"Type": "tmpfs", "Target": "run"}]}, "tmpfs at"),
    ("Docker's init", {"Init": True}, "--init"),
    ("tmpfs with a source", {"Mounts": [{"Type": "tmpfs", "Source": "/etc", "Target": "/x"}]}, "tmpfs"),
    (
        "tmpfs mount options",
        {"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["dev"]]}}]},
        "tmpfs options",
    ),
    ("tmpfs option", {"Tmpfs": {"/run": "rw,dev"}}, "dev"),
    ("tmpfs propagation", {"Tmpfs": {"/run": "rshared"}}, "rshared"),
    ("tmpfs outside", {"Tmpfs": {"/run/../../etc": ""}}, "tmpfs at"),
    ("tmpfs relative", {"Tmpfs": {"run": ""}}, "tmpfs at"),
    ("volumes from", {"VolumesFrom": ["db"]}, "another container's volumes"),
    ("storage option", {"StorageOpt": {"dm.thinpooldev": "/dev/sda"}}, "dm.thinpooldev"),
    ("device", {"Devices": [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/x"}]}, "/dev/sda"),
    ("empty device", {"Devices": [{}]}, "the device"),
    ("GPU", {"DeviceRequests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]}, "device requests"),
    ("CDI", {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=all"]}]}, "CDI"),
    ("device rules", {"DeviceCgroupRules": ["a *:* rwm"]}, "device cgroup rules"),
    ("device limits", {"BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1}]}, "BlkioDeviceReadBps"),
    ("device weights", {"BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 1}]}, "BlkioWeightDevice"),
    ("another runtime", {"Runtime": "runc"}, "runtime"),
    ("no runtime", {"Runtime": ""}, "runtime"),
    ("runtime by path", {"Runtime": "/opt/evil"}, "/opt/evil"),
    ("runtime shim", {"Runtime": "io.containerd.evil.v1"}, "io.containerd.evil.v1"),
    ("CRIU's configuration", {"Annotations": {"org.criu.config": "/opt/criu.conf"}}, "org.criu.config"),
    ("systemd", {"Annotations": {"org.systemd.property.ExecStart": "x"}}, "org.systemd.property"),
    ("hooks", {"Annotations": {"run.oci.hooks.stdout": "/etc/passwd"}}, "run.oci.hooks"),
    ("an empty annotation", {"Annotations": {"": ""}}, "annotation"),
    ("remote logs", {"LogConfig": {"Type": "syslog", "Config": {}}}, "syslog"),
    ("log plugin", {"LogConfig": {"Type": "evil:latest"}}, "evil:latest"),
    (
        "log option",
        {"LogConfig": {"Type": "journald", "Config": {"gelf-address": "udp://10.0.0.1"}}},
        "gelf-address",
    ),
    ("nothing masked", {"MaskedPaths": []}, "MaskedPaths"),
    ("kcore open", {"MaskedPaths": sorted(MASKED_PATHS - {"/proc/kcore"})}, "MaskedPaths"),
    ("nothing read-only", {"ReadonlyPaths": []}, "ReadonlyPaths"),
    ("sysrq open", {"ReadonlyPaths": sorted(READONLY_PATHS - {"/proc/sysrq-trigger"})}, "ReadonlyPaths"),
    ("core pattern", {"Sysctls": {"kernel.core_pattern": "|/tmp/evil"}}, "kernel.core_pattern"),
    ("vm sysctl", {"Sysctls": {"vm.overcommit_memory": "1"}}, "vm.overcommit_memory"),
    ("sysctl path", {"Sysctls": {"net.ipv4/../../kernel.core_pattern": "x"}}, "sysctl"),
    ("sysctl escape", {"Sysctls": {"net." + ESCAPE: "x"}}, "sysctl"),
    ("OOM score", {"OomScoreAdj": -1000}, "OOM score"),
    ("no OOM kill", {"OomKillDisable": True}, "OOM killer"),
    ("real time", {"CpuRealtimeRuntime": 950000}, "real-time"),
    ("real-time period", {"CpuRealtimePeriod": 1000000}, "real-time"),
    ("rtprio", {"Ulimits": [{"Name": "RTPRIO", "Hard": 99, "Soft": 99}]}, "RTPRIO"),
    ("nice", {"Ulimits": [{"Name": "nice", "Hard": 40, "Soft": 40}]}, "nice"),
    ("links", {"Links": ["/db:/web/db"]}, "links"),
    ("removed at its end", {"AutoRemove": True}, "--rm"),
    ("isolation", {"Isolation": "hyperv"}, "isolation"),
    ("port 0", {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}}, "port"),
    ("no port", {"PortBindings": {"80/tcp": [{"HostPort": ""}]}}, "port"),
    ("port range", {"PortBindings": {"80/tcp": [{"HostPort": "1-65535"}]}}, "port"),
    ("port too high", {"PortBindings": {"80/tcp": [{"HostPort": "65536"}]}}, "port"),
    ("port in other digits", {"PortBindings": {"80/tcp": [{"HostPort": "\u0668\u0660"}]}}, "port"),
]


@pytest.mark.parametrize(("fields", "named"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_it_is_refused_by_default(fields: dict[str, Any], named: str) -> None:
    found = admit(request(**fields))
    assert len(found) == 1
    assert named in found[0].reason
    assert found[0].fix
    assert found[0].reason.isprintable()


def _network(mode: str, *endpoints: str) -> CreationRequest:
    value = changed(
        wire(NetworkMode=mode), "body/NetworkingConfig", {"EndpointsConfig": {key: {} for key in endpoints}}
    )
    return CreationRequest.from_wire(value)


@pytest.mark.parametrize("mode", ["host", "container:db", "ns:/proc/1/ns/net", "", "../x", ESCAPE])
def test_network_namespaces_of_others_are_refused(mode: str) -> None:
    found = admit(_network(mode))
    assert "network mode" in reasons(found)
    assert reasons(found).isprintable()


@pytest.mark.parametrize(
    ("mode", "endpoints"), [("default", ("bridge", "host")), ("edge", ("edge", "host")), ("host", ("host",))]
)
def test_the_host_s_network_is_refused_among_others_too(mode: str, endpoints: tuple[str, ...]) -> None:
    assert "host" in reasons(admit(_network(mode, *endpoints)))


@pytest.mark.parametrize("mode", ["default", "bridge", "none", "edge"])
def test_networks_of_its_own_are_granted(mode: str) -> None:
    assert admit(_network(mode)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"Binds": ["data:/data", "logs:/var/log/web:ro"]},
        {"Mounts": [{"Type": "volume", "Source": "data", "Target": "/data", "VolumeOptions": {"NoCopy": True}}]},
        {"Mounts": [{"Type": "volume", "Target": "/data"}]},
    ],
)
def test_volumes_are_granted_unless_the_policy_says_no(fields: dict[str, Any]) -> None:
    assert admit(request(**fields)) == []
    found = admit(request(**fields), AdmissionPolicy(volumes=False))
    assert found
    assert all("volumes = true" in refusal.fix for refusal in found)


def test_a_volume_of_the_image_is_one() -> None:
    value = changed(wire(), "body/Volumes", {"/data": {}})
    assert admit(CreationRequest.from_wire(value)) == []
    assert "/data" in reasons(admit(CreationRequest.from_wire(value), AdmissionPolicy(volumes=False)))


@pytest.mark.parametrize("bind", ["/srv/data:/data", "/srv/data/web:/data:ro"])
def test_a_bind_below_a_directory_of_the_policy_is_granted(bind: str) -> None:
    assert admit(request(Binds=[bind]), AdmissionPolicy(binds=("/srv/data",))) == []


@pytest.mark.parametrize(
    "source",
    ["/srv/database", "/srv", "/srv/data/../../etc", "/srv/data/./x", "/srv/data/docker.sock", "//srv/data", "/run/x"],
)
def test_a_bind_beside_it_is_not(source: str) -> None:
    """P12: neither by a name that only begins alike, nor by a path that leads out of it."""
    found = admit(request(Binds=[f"{source}:/data"]), AdmissionPolicy(binds=("/srv/data", "/run")))
    assert [refusal.id for refusal in found] == ["policy.bind"]


@pytest.mark.parametrize(
    "path", ["/", "/proc", "/sys/fs", "/dev", "/var", "/var/run/x", "/var/lib/docker/volumes/x/_data"]
)
def test_what_holds_the_host_is_granted_by_no_policy(path: str) -> None:
    """P12: docker.sock, /, /proc, /sys, /dev; and what they are in."""
    assert "it would hold this host" in reasons(admit(request(Binds=[f"{path}:/x"]), AdmissionPolicy(binds=("/",))))


def test_each_objection_is_told() -> None:
    found = admit(request(Privileged=True, PidMode="host", Binds=["/:/a", "/proc:/b"]))
    assert len(found) == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"CapAdd": [ESCAPE * 100]},
        {"SecurityOpt": [ESCAPE]},
        {"Binds": [f"/{ESCAPE}:/x"]},
        {"Annotations": {ESCAPE: ""}},
        {"LogConfig": {"Type": ESCAPE}},
        {"Runtime": ESCAPE},
        {"Devices": [{"PathOnHost": ESCAPE}]},
        {"Tmpfs": {ESCAPE: ESCAPE}},
        {"PortBindings": {ESCAPE: [{"HostPort": ESCAPE}]}},
        {"Mounts": [{"Type": ESCAPE, "Target": ESCAPE}]},
        {"CgroupParent": ESCAPE},
        {"Isolation": ESCAPE},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_a_peer_wrote_cannot_steer_a_terminal(fields: dict[str, Any]) -> None:
    found = admit(request(**fields))
    assert found
    assert all(refusal.reason.isprintable() and len(refusal.reason) < 300 for refusal in found)


DEFAULT = AdmissionPolicy()


@pytest.mark.parametrize(
    ("wider", "fields"),
    [
        ({"privileged": True}, {"Privileged": True, "MaskedPaths": [], "ReadonlyPaths": []}),
        ({"capabilities": DEFAULT.capabilities | {"SYS_ADMIN"}}, {"CapAdd": ["CAP_SYS_ADMIN"]}),
        ({"capabilities": DEFAULT.capabilities | {"SYS_ADMIN"}}, {"CapAdd": ["sys_admin"]}),
        ({"runtimes": frozenset({"runc"})}, {"Runtime": "runc"}),
        ({"security_options": frozenset({"seccomp=unconfined"})}, {"SecurityOpt": ["seccomp=unconfined"]}),
        ({"log_drivers": frozenset({"syslog"})}, {"LogConfig": {"Type": "syslog"}}),
        ({"annotation_prefixes": ("com.example.",)}, {"Annotations": {"com.example.x": "1"}}),
        ({"cgroup_namespaces": frozenset({"other"})}, {"CgroupnsMode": "other"}),
        ({"ipc_modes": frozenset({"host"})}, {"IpcMode": "host"}),
        ({"cgroup_parents": frozenset({"/guests"})}, {"CgroupParent": "/guests"}),
        ({"oom_score_adj_min": -1000}, {"OomScoreAdj": -1000}),
        ({"priority_limits": True}, {"CpuRealtimeRuntime": 1, "Ulimits": [{"Name": "nice", "Hard": 1}]}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_the_target_s_policy_widens_it(wider: dict[str, Any], fields: dict[str, Any]) -> None:
    assert admit(request(**fields))
    assert admit(request(**fields), AdmissionPolicy(**wider)) == []


@pytest.mark.parametrize(
    ("narrower", "field"),
    [
        ({"log_drivers": frozenset({"local"})}, "LogConfig"),
        ({"cgroup_parents": frozenset({"/guests"})}, "CgroupParent"),
        ({"ipc_modes": frozenset({"none"})}, "IpcMode"),
        ({"cgroup_namespaces": frozenset({"host"})}, "CgroupnsMode"),
        ({"runtimes": frozenset({"other"})}, "Runtime"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_policy_that_is_narrower_refuses_what_is_left_to_docker(narrower: dict[str, Any], field: str) -> None:
    value = wire()
    value["body"]["HostConfig"].pop(field, None)
    (refusal,) = admit(CreationRequest.from_wire(value), AdmissionPolicy(**narrower))
    assert refusal.reason.isprintable()


def test_widening_one_thing_does_not_widen_another() -> None:
    policy = AdmissionPolicy(annotation_prefixes=("com.example.",), capabilities=frozenset({"SYS_ADMIN"}))
    assert "org.criu.config" in reasons(admit(request(CapAdd=[], Annotations={"org.criu.config": "x"}), policy))
    assert "SYS_PTRACE" in reasons(admit(request(CapAdd=["SYS_PTRACE"]), policy))


@pytest.mark.parametrize(("port", "granted"), [("8999", False), ("9000", True), ("9100", True), ("9101", False)])
def test_published_ports_stay_within_the_policy(port: str, granted: bool) -> None:
    policy = AdmissionPolicy(port_min=9000, port_max=9100)
    assert (admit(request(PortBindings={"80/tcp": [{"HostPort": port}]}), policy) == []) is granted


def test_ports_that_docker_chooses_are_not_within_a_narrow_policy() -> None:
    every = request(PublishAllPorts=True, PortBindings={})
    assert admit(every) == []
    assert "publish-all" in reasons(admit(every, AdmissionPolicy(port_min=9000, port_max=9100)))
