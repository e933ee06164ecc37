"""Comparing a container before and after a move: every change that matters is found, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from container_config_support import ID, INSPECT, changed, inspected

from streamhop.content.container_config import differences

NEW_ID = "b" * 64


def test_a_container_is_like_itself() -> None:
    assert differences(INSPECT, copy.deepcopy(INSPECT)) == []


def moved() -> dict[str, Any]:
    """The container as another Docker shows it after a move that kept everything."""
    result = copy.deepcopy(INSPECT)
    result.update(
        Id=NEW_ID,
        Created="2027-01-01T00:00:00Z",
        ResolvConfPath="/elsewhere",
        LogPath="/elsewhere",
        Driver="overlayfs",
        RestartCount=1,
    )
    result["State"] |= {"Pid": 7, "StartedAt": "2027-01-01T00:00:01Z"}
    result["Config"]["Image"] = result["Image"]
    host = result["HostConfig"]
    host.update(Runtime="streamhop", Links=[], Binds=[], OomKillDisable=False, ContainerIDFile="/run/x")
    host["PortBindings"]["9/udp"] = [{"HostIp": "", "HostPort": "32768"}]
    settings = result["NetworkSettings"]
    settings.update(SandboxID="f" * 64, SandboxKey="/elsewhere")
    settings["Ports"]["9/udp"].reverse()
    for endpoint in settings["Networks"].values():
        endpoint.update(NetworkID="5" * 64, EndpointID="4" * 64)
        endpoint["DNSNames"] = [NEW_ID[:12] if name == ID[:12] else name for name in endpoint["DNSNames"]]
    settings["Networks"]["back"].update(MacAddress="66:1f:00:00:00:99", IPAddress="172.31.0.9")
    settings["Networks"]["edge"]["Aliases"] = ["www"]
    del result["GraphDriver"]
    return result


def test_what_docker_makes_up_is_not_compared() -> None:
    assert differences(INSPECT, moved()) == []


def test_a_network_named_by_id_is_the_same_network() -> None:
    by_id = inspected(NetworkMode=INSPECT["NetworkSettings"]["Networks"]["edge"]["NetworkID"])
    assert differences(by_id, moved()) == []


CHANGES: list[tuple[str, Any]] = [
    ("Name", "/web2"),
    ("Image", "sha256:" + "0" * 64),
    ("Path", "/bin/sh"),
    ("Args", ["--port", "8081"]),
    ("Platform", "windows"),
    ("State/Status", "paused"),
    ("Config/Hostname", ID[:12]),
    ("Config/Domainname", ""),
    ("Config/User", "0"),
    ("Config/AttachStdout", False),
    ("Config/ExposedPorts", {"8080/tcp": {}}),
    ("Config/Tty", True),
    ("Config/OpenStdin", True),
    ("Config/Env", ["PATH=/usr/bin:/bin"]),
    ("Config/Env", ["MODE=a=b", "PATH=/usr/bin:/bin"]),
    ("Config/Cmd", None),
    ("Config/Entrypoint", None),
    ("Config/Healthcheck", None),
    ("Config/Healthcheck/Retries", 4),
    ("Config/Volumes", {"/data": {}}),
    ("Config/WorkingDir", "/"),
    ("Config/Labels", {"team": "edge"}),
    ("Config/Labels/flag", "x"),
    ("Config/StopSignal", "SIGTERM"),
    ("Config/StopTimeout", None),
    ("Config/StopTimeout", 10),
    ("Config/SomethingNew", "x"),
    ("HostConfig/Binds", ["/:/host"]),
    ("HostConfig/LogConfig/Config", {}),
    ("HostConfig/LogConfig/Type", "local"),
    ("HostConfig/NetworkMode", "back"),
    ("HostConfig/PortBindings", {}),
    ("HostConfig/PortBindings/8080~tcp", [{"HostIp": "", "HostPort": "18080"}]),
    ("HostConfig/RestartPolicy", {"Name": "no", "MaximumRetryCount": 0}),
    ("HostConfig/RestartPolicy/MaximumRetryCount", 0),
    ("HostConfig/AutoRemove", True),
    ("HostConfig/CapAdd", ["CAP_NET_RAW", "CAP_SYS_ADMIN"]),
    ("HostConfig/CapDrop", None),
    ("HostConfig/CgroupnsMode", "host"),
    ("HostConfig/Dns", []),
    ("HostConfig/ExtraHosts", None),
    ("HostConfig/GroupAdd", None),
    ("HostConfig/IpcMode", "shareable"),
    ("HostConfig/OomScoreAdj", 0),
    ("HostConfig/PidMode", "host"),
    ("HostConfig/Privileged", True),
    ("HostConfig/PublishAllPorts", True),
    ("HostConfig/ReadonlyRootfs", False),
    ("HostConfig/SecurityOpt", None),
    ("HostConfig/Tmpfs/~run", "rw"),
    ("HostConfig/ShmSize", 1),
    ("HostConfig/Sysctls", None),
    ("HostConfig/CpuShares", 0),
    ("HostConfig/Memory", 0),
    ("HostConfig/MemorySwap", -1),
    ("HostConfig/MemorySwappiness", None),
    ("HostConfig/MemorySwappiness", 60),
    ("HostConfig/NanoCpus", 1),
    ("HostConfig/CpusetCpus", ""),
    ("HostConfig/Devices", [{"PathOnHost": "/dev/sda"}]),
    ("HostConfig/PidsLimit", None),
    ("HostConfig/Ulimits", []),
    ("HostConfig/Init", True),
    ("HostConfig/Mounts", None),
    ("HostConfig/MaskedPaths", []),
    ("HostConfig/ReadonlyPaths", []),
    ("HostConfig/SomethingNew", 1),
    ("NetworkSettings/Ports/8080~tcp", None),
    ("NetworkSettings/Ports/8080~tcp", [{"HostIp": "0.0.0.0", "HostPort": "18080"}]),
    ("NetworkSettings/Ports/9~udp", [{"HostIp": "::", "HostPort": "32769"}]),
    ("NetworkSettings/Networks", {}),
    ("NetworkSettings/Networks/third", {"NetworkID": "2" * 64}),
    ("NetworkSettings/Networks/edge/IPAMConfig", None),
    ("NetworkSettings/Networks/edge/IPAMConfig/IPv4Address", "172.30.0.8"),
    ("NetworkSettings/Networks/edge/Aliases", ["api"]),
    ("NetworkSettings/Networks/edge/MacAddress", "02:42:ac:1e:00:08"),
    ("NetworkSettings/Networks/edge/DNSNames", ["web"]),
    ("Mounts", []),
]


@pytest.mark.parametrize(
    ("place", "value"), CHANGES, ids=lambda value: value if isinstance(value, str) else repr(value)[:30]
)
def test_a_change_is_found_and_named(place: str, value: object) -> None:
    # A slash inside a key is written as a tilde.
    *way, last = (key.replace("~", "/") for key in place.split("/"))
    after = moved()
    part = after
    for key in way:
        part = part[key]
    part[last] = value
    found = differences(INSPECT, after)
    assert found
    named = ".".join([*way, last]) if len(way) < 2 else ".".join(way[:2])
    assert any(line.startswith(named) for line in found)


def test_a_mount_in_another_place_is_found() -> None:
    assert differences(INSPECT, changed(INSPECT, "Mounts", [{"Type": "tmpfs", "Destination": "/other"}]))


def test_each_change_has_a_line() -> None:
    found = differences(INSPECT, inspected(Memory=1, ShmSize=2))
    assert [line.split(":")[0] for line in found] == ["HostConfig.Memory", "HostConfig.ShmSize"]
    assert found[0] == "HostConfig.Memory: 268435456 -> 1"
