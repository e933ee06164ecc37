"""A container as ``docker inspect`` shows it, with something in every field that matters."""

from __future__ import annotations

import copy
from typing import Any

from streamhop.content.container_config import CreationRequest, creation_request

ID = "4f1c9d0e7ab2" + "5" * 52
IMAGE = "sha256:" + "a1" * 32
NETWORK_ID = "0b5f3c2d1e4a" + "7" * 52

INSPECT: dict[str, Any] = {
    "Id": ID,
    "Created": "2026-03-04T05:06:07.891011121Z",
    "Path": "/usr/bin/web",
    "Args": ["--port", "8080"],
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "Pid": 4242,
        "ExitCode": 0,
        "StartedAt": "2026-03-04T05:06:08.1Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "Image": IMAGE,
    "ResolvConfPath": f"/var/lib/docker/containers/{ID}/resolv.conf",
    "LogPath": f"/var/lib/docker/containers/{ID}/{ID}-json.log",
    "Name": "/web",
    "RestartCount": 0,
    "Driver": "overlay2",
    "Platform": "linux",
    "AppArmorProfile": "",
    "HostConfig": {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
        "NetworkMode": "edge",
        "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}], "9/udp": [{"HostPort": ""}]},
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5},
        "AutoRemove": False,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "ConsoleSize": [0, 0],
        "CapAdd": ["CAP_NET_RAW"],
        "CapDrop": ["CAP_MKNOD"],
        "CgroupnsMode": "private",
        "Dns": ["10.0.0.53"],
        "DnsOptions": [],
        "DnsSearch": ["edge.example"],
        "ExtraHosts": ["db:10.0.0.9"],
        "GroupAdd": ["www-data"],
        "IpcMode": "private",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": 100,
        "PidMode": "",
        "Privileged": False,
        "PublishAllPorts": False,
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges"],
        "Tmpfs": {"/run": "rw,noexec,size=64m"},
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": 67108864,
        "Sysctls": {"net.core.somaxconn": "512"},
        "Runtime": "runc",
        "Isolation": "",
        "CpuShares": 512,
        "Memory": 268435456,
        "NanoCpus": 1500000000,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "CpusetCpus": "0-1",
        "Devices": [],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": 134217728,
        "MemorySwap": 536870912,
        "MemorySwappiness": 0,
        "OomKillDisable": None,
        "PidsLimit": 200,
        "Ulimits": [{"Name": "nofile", "Hard": 4096, "Soft": 1024}],
        "CpuCount": 0,
        "IOMaximumBandwidth": 0,
        "Mounts": [{"Type": "tmpfs", "Target": "/cache", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 448}}],
        "MaskedPaths": [
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
        ],
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
    "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "/var/lib/docker/overlay2/x/diff"}},
    "Mounts": [{"Type": "tmpfs", "Source": "", "Destination": "/cache", "Mode": "", "RW": True, "Propagation": ""}],
    "Config": {
        "Hostname": "web-edge-1",
        "Domainname": "example",
        "User": "33:33",
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "ExposedPorts": {"8080/tcp": {}, "9/udp": {}},
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": ["PATH=/usr/bin:/bin", "MODE=a=b"],
        "Cmd": ["--port", "8080"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30000000000, "Retries": 3},
        "Image": "web:1",
        "Volumes": None,
        "WorkingDir": "/srv",
        "Entrypoint": ["/usr/bin/web"],
        "OnBuild": None,
        "Labels": {"team": "edge", "flag": ""},
        "StopSignal": "SIGQUIT",
        "StopTimeout": 0,
    },
    "NetworkSettings": {
        "SandboxID": "c" * 64,
        "SandboxKey": "/var/run/docker/netns/cccccccccccc",
        "Ports": {
            "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}],
            "9/udp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"}],
        },
        "Networks": {
            "edge": {
                "IPAMConfig": {"IPv4Address": "172.30.0.7"},
                "Links": None,
                "Aliases": ["www", ID[:12]],
                "MacAddress": "02:42:ac:1e:00:07",
                "DriverOpts": None,
                "GwPriority": 0,
                "NetworkID": NETWORK_ID,
                "EndpointID": "e" * 64,
                "Gateway": "172.30.0.1",
                "IPAddress": "172.30.0.7",
                "IPPrefixLen": 24,
                "DNSNames": ["web", "www", ID[:12], "web-edge-1"],
            },
            "back": {
                "IPAMConfig": None,
                "Aliases": None,
                "MacAddress": "66:1f:00:00:00:01",
                "NetworkID": "9" * 64,
                "EndpointID": "d" * 64,
                "IPAddress": "172.31.0.2",
                "DNSNames": ["web", ID[:12], "web-edge-1"],
            },
        },
    },
}


def inspected(**host_config: Any) -> dict[str, Any]:
    """A copy of the container with other fields in its ``HostConfig``."""
    result = copy.deepcopy(INSPECT)
    result["HostConfig"].update(host_config)
    return result


def changed(value: Any, place: str, new: Any) -> Any:
    """A copy of ``value`` with ``new`` at a place such as ``HostConfig/Memory``."""
    result = copy.deepcopy(value)
    *way, last = place.split("/")
    part = result
    for key in way:
        part = part[key]
    part[last] = new
    return result


def wire(**host_config: Any) -> dict[str, Any]:
    """The container's request as it travels, with other fields in its ``HostConfig``."""
    value = copy.deepcopy(creation_request(INSPECT, new_name=None, runtime="streamhop").to_wire())
    value["body"]["HostConfig"].update(host_config)
    return value


def request(**host_config: Any) -> CreationRequest:
    """The same, received and checked."""
    return CreationRequest.from_wire(wire(**host_config))
