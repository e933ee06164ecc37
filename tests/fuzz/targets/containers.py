"""The manifest of a move, and the container that it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from fuzz.target import Target
from fuzz.targets.images import CLASSIC, CONTAINERD
from streamhop.content.container_config import AdmissionPolicy, CreationRequest, admit, mounts_of, network_refusals
from streamhop.content.container_config.request import NO_RESTART
from streamhop.engine.capabilities import parse_version
from streamhop.engine.cpu_features import missing
from streamhop.engine.versions import version_of
from streamhop.findings import FINDINGS_MAX, Finding, Severity, findings_from_wire, findings_to_wire
from streamhop.handover.manifest import Manifest
from streamhop.handover.target_checks import published_ports
from streamhop_protocol.wirepack import pack, unpack

IMAGE = "sha256:" + "a1" * 32
POLICIES = (
    AdmissionPolicy(),
    AdmissionPolicy(
        privileged=True,
        priority_limits=True,
        port_min=1024,
        annotation_prefixes=("com.example.",),
        volumes=False,
        binds=("/srv/data",),
    ),
)


def container(**host: object) -> dict[str, object]:
    """A request as it travels, with other fields in its ``HostConfig``."""
    host_config = {
        "RestartPolicy": NO_RESTART,
        "NetworkMode": "bridge",
        "Runtime": "streamhop",
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
        "Tmpfs": {"/run": "size=1m"},
        **host,
    }
    body = {"Image": IMAGE, "Hostname": "web", "Env": ["A=b"], "Labels": {"a": "b"}, "HostConfig": host_config}
    return {"name": "web", "body": body, "restart_policy": {"Name": "always", "MaximumRetryCount": 0}}


def manifest(**more: object) -> dict[str, object]:
    """A manifest as it travels, with other fields."""
    return {
        "container": "web",
        "architecture": "x86_64",
        "page_size": 4096,
        "memory_bytes": 1 << 20,
        "trees": ["rootfs", "mount:/dev/shm"],
        "descriptors": ["/dev/null", "pipe:[1]", "pipe:[2]"],
        "versions": {"criu": "4.1.1", "docker": "28.0"},
        "image": CLASSIC.to_wire(),
        "image_name": "web:1",
        "request": container(),
        "cpu": ["fpu", "avx512f"],
        **more,
    }


def _judge(request: CreationRequest) -> None:
    """All that the target does with a request before it asks Docker."""
    for policy in POLICIES:
        for refusal in admit(request, policy):
            assert refusal.reason.isprintable(), "a terminal would obey this"
    assert all(isinstance(network, str) for network in request.networks)
    for _address, port, protocol in published_ports(request.body):
        assert 0 < port < 65536
        assert protocol in ("tcp", "udp")
    json.dumps(request.body_with(image=IMAGE, runtime="streamhop")).encode()


def run_manifest(data: bytes) -> None:
    """A manifest as OFFER carries it."""
    found = Manifest.from_wire(unpack(data))
    parse_version(found.versions.get("criu", ""))
    version_of(found.versions.get("kernel", ""))
    missing(found.cpu, ("fpu",), "x86_64")
    for network in found.networks:
        for refusal in network_refusals(network):
            assert refusal.reason.isprintable(), "a terminal would obey this"
        json.dumps(network.body({"streamhop.move": "m"})).encode()
    granted = {mount.destination for mount in mounts_of(found.request.body)} | {"/dev/shm"}
    assert {tree.removeprefix("mount:") for tree in found.trees} <= granted | {"rootfs"}, "a tree of no mount"
    _judge(found.request)
    assert Manifest.from_wire(unpack(pack(found.to_wire()))) == found


def run_container(data: bytes) -> None:
    """A request for a container alone."""
    request = CreationRequest.from_wire(unpack(data))
    _judge(request)
    assert CreationRequest.from_wire(request.to_wire()) == request


def _manifest_seeds() -> Iterator[bytes]:
    yield pack(manifest())
    yield pack(manifest(image=replace(CONTAINERD).to_wire(), trees=[]))
    mounts = [{"Type": "volume", "Target": "/x", "VolumeOptions": {"NoCopy": True}}]
    rich = container(Binds=["data:/data:ro", "/srv/data/a:/files"], Mounts=mounts, NetworkMode="shop")
    pool = {"Subnet": "172.28.0.0/16", "IPRange": "172.28.5.0/24", "Gateway": "172.28.5.254"}
    yield pack(
        manifest(
            request=rich,
            trees=["rootfs", "mount:/data", "mount:/files", "mount:/x"],
            volumes={"data": {"com.docker.compose.project": "shop"}},
            networks=[{"Name": "shop", "Driver": "bridge", "Internal": True, "Config": [pool], "Options": {"a": "b"}}],
        )
    )


def _container_seeds() -> Iterator[bytes]:
    yield pack(container())
    yield pack(
        container(
            Privileged=True,
            CapAdd=["SYS_ADMIN"],
            Binds=["/:/host"],
            Devices=[{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}],
            Mounts=[{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1, "Options": [["exec"]]}}],
            LogConfig={"Type": "syslog", "Config": {"a": "b"}},
            Sysctls={"kernel.msgmax": "1", "vm.swappiness": "1"},
            Ulimits=[{"Name": "nice", "Hard": 1, "Soft": 1}],
        )
    )


def run_findings(data: bytes) -> None:
    """What a target tells of a container, in ACCEPT and REFUSE."""
    found = findings_from_wire(unpack(data))
    assert len(found) <= FINDINGS_MAX
    assert sorted(findings_from_wire(findings_to_wire(found)), key=repr) == sorted(found, key=repr)


def _findings_seeds() -> Iterator[bytes]:
    warns = Finding("kernel.older", "an older kernel", severity=Severity.WARNS)
    yield pack(findings_to_wire([Finding("target.port", "port 80 is taken", "free it", "why", "where"), warns]))
    yield pack([])


TARGETS = {
    "findings": Target(run_findings, _findings_seeds),
    "manifest": Target(run_manifest, _manifest_seeds),
    "container": Target(run_container, _container_seeds),
}
