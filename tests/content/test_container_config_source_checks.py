"""What cannot be moved is found at the source, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from container_config_support import INSPECT, changed, inspected

from streamhop.content.container_config import unsupported


def test_an_ordinary_container_can_be_moved() -> None:
    assert unsupported(INSPECT) == []


def _mount(kind: str, **more: str) -> list[dict[str, str]]:
    return [{"Type": kind, "Source": "/srv/data", "Destination": "/data", **more}]


def _asked(kind: str, **more: object) -> list[dict[str, object]]:
    return [{"Type": kind, "Source": "/srv/data", "Target": "/data", **more}]


CASES: list[tuple[str, str, Any, str]] = [
    ("not running", "State", {"Status": "exited", "Running": False}, "exited"),
    ("restarting", "State", {"Status": "restarting", "Running": True, "Restarting": True}, "restarting"),
    ("paused", "State", {"Status": "paused", "Running": True, "Paused": True}, "paused"),
    ("windows", "Platform", "windows", "windows"),
    ("storage driver", "Driver", "btrfs", "btrfs"),
    ("privileged", "HostConfig/Privileged", True, "privileged"),
    ("--init", "HostConfig/Init", True, "--init"),
    ("--rm", "HostConfig/AutoRemove", True, "--rm"),
    ("swarm", "Config/Labels", {"com.docker.swarm.task.id": "x"}, "swarm"),
    ("host network", "HostConfig/NetworkMode", "host", "host's network"),
    ("container network", "HostConfig/NetworkMode", "container:db", "another container's network"),
    ("host PID", "HostConfig/PidMode", "host", "host's process IDs"),
    ("container PID", "HostConfig/PidMode", "container:db", "another container's process IDs"),
    ("host IPC", "HostConfig/IpcMode", "host", "host's IPC"),
    ("container IPC", "HostConfig/IpcMode", "container:db", "another container's IPC"),
    ("host UTS", "HostConfig/UTSMode", "host", "host's host name"),
    ("host users", "HostConfig/UsernsMode", "host", "host's users"),
    ("docker.sock", "Mounts", [{"Type": "bind", "Source": "/run/docker.sock", "Destination": "/s"}], "Docker socket"),
    ("bind that spreads", "Mounts", _mount("bind", Propagation="rshared"), "rshared"),
    ("part of a volume", "HostConfig/Mounts", _asked("volume", VolumeOptions={"Subpath": "x"}), "Subpath"),
    ("bind of one level", "HostConfig/Mounts", _asked("bind", BindOptions={"NonRecursive": True}), "NonRecursive"),
    ("npipe", "Mounts", _mount("npipe"), "npipe"),
    ("volumes from", "HostConfig/VolumesFrom", ["db"], "another container's volumes"),
    ("links", "HostConfig/Links", ["/db:/web/db"], "links"),
    ("device", "HostConfig/Devices", [{"PathOnHost": "/dev/ttyUSB0"}], "/dev/ttyUSB0"),
    ("GPU", "HostConfig/DeviceRequests", [{"Driver": "nvidia"}], "GPUs"),
    ("device rules", "HostConfig/DeviceCgroupRules", ["c 1:3 rwm"], "rules for devices"),
    ("a setting of the future", "HostConfig/Teleport", {"To": "mars"}, "Teleport"),
]


@pytest.mark.parametrize(("place", "value", "named"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_it_is_found_and_named(place: str, value: object, named: str) -> None:
    (refusal,) = unsupported(changed(INSPECT, place, value))
    assert named in refusal.reason
    assert refusal.reason.isprintable()


@pytest.mark.parametrize(
    "fields",
    [
        {"Init": False},
        {"Init": None},
        {"KernelMemory": 1},
        {"CpuCount": 2, "CpuPercent": 50, "IOMaximumIOps": 1},
        {"ContainerIDFile": "/run/web.cid"},
        {"Teleport": None},
        {"NetworkMode": "none"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_in_nobody_s_way_is_passed_over(fields: dict[str, Any]) -> None:
    assert unsupported(inspected(**fields)) == []


@pytest.mark.parametrize("driver", ["overlay2", "overlayfs", None])
def test_both_image_stores_are_supported(driver: str | None) -> None:
    assert unsupported(changed(INSPECT, "Driver", driver)) == []


def test_every_reason_is_told_and_none_can_steer_a_terminal() -> None:
    found = unsupported(inspected(**{"Privileged": True, "Init": True, "\x1b[2J": 1}))
    assert len(found) == 3
    assert all(refusal.reason.isprintable() for refusal in found)
