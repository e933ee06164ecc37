"""P12: everything in a manifest that has hurt other programs, and what this target answers."""

from __future__ import annotations

import copy
import errno
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from content.container_config_support import changed, wire
from content.image_layers_support import SampleImage, layer_tar
from handover_support import FakeEngine, host_with

from streamhop.config import Config
from streamhop.content.container_config import admit
from streamhop.engine.capabilities import HostCapabilities
from streamhop.engine.docker import NotFound
from streamhop.handover import target_checks
from streamhop.handover.journal import Journal
from streamhop.handover.manifest import Manifest
from streamhop.handover.target_policy import policy_of
from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError

LAYER = layer_tar("base", b"x")
GOOD: dict[str, Any] = {
    "container": "web",
    "architecture": "x86_64",
    "page_size": 4096,
    "memory_bytes": 1 << 20,
    "trees": ["rootfs"],
    "descriptors": ["/dev/null", "pipe:[1]", "pipe:[2]"],
    "versions": {"criu": "4.2"},
    "image": SampleImage([LAYER], names=("web:1",)).classic().to_wire(),
    "image_name": "web:1",
    "request": wire(),
}
ESCAPE = "\x1b[2J\x1b]0;owned\x07\r\n"


def at(place: str, new: Any) -> Callable[[], dict[str, Any]]:
    """A manifest that is good but for ``new`` at ``place``."""
    return lambda: changed(GOOD, place, new)


def of_host(**fields: Any) -> Callable[[], dict[str, Any]]:
    """A manifest that asks for ``fields`` of HostConfig."""
    return lambda: GOOD | {"request": wire(**fields)}


def layers_of(image: Any) -> list[Any]:
    """The descriptions of layers in a good image."""
    found: list[Any] = copy.deepcopy(image["layers"])
    return found


def layer_with(key: str, value: object) -> list[Any]:
    """The one layer with another value in one field."""
    found = layers_of(GOOD["image"])
    found[0][key] = value
    return found


MALFORMED: dict[str, tuple[Callable[[], Any], type[ProtocolError]]] = {
    "no map": (lambda: [GOOD], MalformedError),
    **{
        f"{field} {name}": (at(field, text), MalformedError if len(text) < 300 else ProtocolError)
        for field in ("container", "request/name")
        for name, text in {
            "with a slash": "a/b", "that leads up": "..", "with NUL": "a\0b", "of 10 kB": "a" * 10_000, "empty": "",
            "with an escape": "a\x1b[2J",
        }.items()
    },
    "image ID of wrong length": (at("request/body/Image", "sha256:" + "0" * 63), MalformedError),
    "image ID that leads up": (at("request/body/Image", "sha256:../" + "0" * 61), MalformedError),
    "layer digest too short": (lambda: changed(GOOD, "image/layers", layer_with("digest", "sha256:0")), MalformedError),
    "layer size negative": (lambda: changed(GOOD, "image/layers", layer_with("size", -1)), MalformedError),
    "layer size a float": (lambda: changed(GOOD, "image/layers", layer_with("size", 1.0)), MalformedError),
    "layer size of 2^62": (lambda: changed(GOOD, "image/layers", layer_with("size", 1 << 62)), LimitError),
    "100,000 layers": (lambda: changed(GOOD, "image/layers", layers_of(GOOD["image"]) * 100_000), LimitError),
    "a configuration that is not the digest's": (at("image/config", b"{}"), MalformedError),
    "memory negative": (at("memory_bytes", -1), MalformedError),
    "memory true": (at("memory_bytes", True), MalformedError),
    "memory of 2^60": (at("memory_bytes", 1 << 60), LimitError),
    "a tree elsewhere": (at("trees", ["mount:/etc"]), MalformedError),
    "a tree that leads up": (at("trees", ["../rootfs"]), MalformedError),
    "a tree twice": (at("trees", ["rootfs", "rootfs"]), MalformedError),
    "a tree of no mount": (at("trees", ["rootfs", "mount:/data"]), MalformedError),
    "a tree with another name": (at("trees", ["rootfs", "mount:/etc/../data"]), MalformedError),
    "a tree that is none": (at("trees", [{}]), MalformedError),
    "a bind that is no path": (of_host(Binds=[ESCAPE * 1000]), MalformedError),
    "a volume named as a path": (of_host(Binds=["../x:/x"]), MalformedError),
    "a volume of a path": (of_host(Mounts=[{"Type": "volume", "Source": "/etc", "Target": "/x"}]), MalformedError),
    "a bind mount of a name": (of_host(Mounts=[{"Type": "bind", "Source": "x", "Target": "/x"}]), MalformedError),
    "two at one place": (of_host(Binds=["x1:/x", "y1:/x/"]), MalformedError),
    "volumes without end": (of_host(Binds=[f"vol{n}:/{n}" for n in range(65)]), LimitError),
    "labels without end": (at("volumes", {"data": {str(n): "" for n in range(300)}}), LimitError),
    "a label of 10 kB": (at("volumes", {"data": {"x": "y" * 10_000}}), LimitError),
    "a label that is none": (at("volumes", {"data": {"x": 1}}), MalformedError),
    "volumes that are none": (at("volumes", ["data"]), MalformedError),
    "networks that are none": (at("networks", {}), MalformedError),
    "networks without end": (at("networks", [{"Name": f"n{n}"} for n in range(33)]), LimitError),
    "a network of another host's": (at("networks", [{"Name": "x", "ConfigFrom": {}}]), MalformedError),
    "a network named as a path": (at("networks", [{"Name": "../x"}]), MalformedError),
    "a descriptor that is none": (at("descriptors", [1]), MalformedError),
    "descriptors without end": (at("descriptors", ["/dev/null"] * 4), LimitError),
    "a descriptor of 10 kB": (at("descriptors", ["p" * 10_000]), LimitError),
    "versions without end": (at("versions", {str(n): "1" for n in range(17)}), MalformedError),
    "a version of 10 kB": (at("versions", {"criu": "4" * 10_000}), LimitError),
    "100 MB label": (at("request/body/Labels", {"x": "y" * (100 << 20)}), LimitError),
    "restart always meanwhile": (of_host(RestartPolicy={"Name": "always", "MaximumRetryCount": 0}), MalformedError),
    "a restart policy that is none": (at("request/restart_policy", {"Name": "sometimes"}), MalformedError),
    "hooks": (of_host(Hooks={"prestart": [{"path": "/bin/sh"}]}), MalformedError),
    "a place for the log": (at("request/body/LogPath", "/etc/cron.d/x"), MalformedError),
    "a field in another case": (at("request/body/hostconfig", {"Privileged": True}), MalformedError),
    "a second command to run": (at("request/body/OnBuild", ["RUN x"]), MalformedError),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_it_is_none_that_an_honest_peer_sends(name: str) -> None:
    """P12, P10: the offer is refused before anything is asked of Docker."""
    make, error = MALFORMED[name]
    with pytest.raises(error) as raised:
        Manifest.from_wire(make())
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


REFUSED: dict[str, dict[str, Any]] = {
    "privileged": {"Privileged": True},
    "an added capability": {"CapAdd": ["SYS_ADMIN"]},
    "all capabilities": {"CapAdd": ["ALL"]},
    "seccomp unconfined": {"SecurityOpt": ["seccomp=unconfined"]},
    "AppArmor unconfined": {"SecurityOpt": ["apparmor=unconfined"]},
    "the host's PIDs": {"PidMode": "host"},
    "the host's IPC": {"IpcMode": "host"},
    "the host's UTS": {"UTSMode": "host"},
    "the host's users": {"UsernsMode": "host"},
    "/": {"Binds": ["/:/host"]},
    "docker.sock": {"Binds": ["/var/run/docker.sock:/s"]},
    "/proc": {"Mounts": [{"Type": "bind", "Source": "/proc", "Target": "/p"}]},
    "a device": {"Devices": [{"PathOnHost": "/dev/sda"}]},
    "CDI": {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["v/c=all"]}]},
    "org.criu.config": {"Annotations": {"org.criu.config": "/x"}},
    "hooks of an annotation": {"Annotations": {"run.oci.hooks.stdout": "/etc/passwd"}},
    "log driver": {"LogConfig": {"Type": "syslog", "Config": {}}},
    "escapes": {"Binds": [f"/{ESCAPE * 100}:/x"]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_policy_does_not_grant_it(name: str, tmp_path: Path) -> None:
    """P12: asked for in due form, and not granted by a configuration that says nothing."""
    request = Manifest.from_wire(of_host(**REFUSED[name])()).request
    found = admit(request, policy_of(Config(), "edge-a").admission)
    assert len(found) == 1
    assert found[0].reason.isprintable()
    assert len(found[0].reason) < 300


def test_the_runtime_and_the_restart_policy_are_this_hosts_matter() -> None:
    """P12: whatever runtime the source names, the target's own is used; a policy is applied only after the move."""
    sent = changed(of_host(Runtime="/opt/evil")(), "request/restart_policy", {"Name": "always"})
    request = Manifest.from_wire(sent).request
    host = request.body_with(runtime="streamhop")["HostConfig"]
    assert (host["Runtime"], host["RestartPolicy"]["Name"]) == ("streamhop", "no")


def test_duplicate_layers_are_one_blob() -> None:
    image = SampleImage([LAYER, LAYER]).classic()
    assert Manifest.from_wire(GOOD | {"image": image.to_wire()}).image == image


async def checked(host: Any, monkeypatch: pytest.MonkeyPatch, sent: dict[str, Any]) -> str:
    """What the target's preflight has against a manifest, one a line."""
    here = HostCapabilities(
        docker="28.5.2", containerd="2.1.9", runc="1.3.6", criu="4.2", kernel="6.18", architecture="x86_64",
        docker_api="1.51", image_store="classic", cgroup_version="2", soft_dirty=False, runtimes={"streamhop": "/r"},
    )  # fmt: skip

    async def capabilities(engine: object) -> HostCapabilities:
        return here

    monkeypatch.setattr(target_checks, "host_capabilities", capabilities)
    monkeypatch.setattr(target_checks, "registered_run_dir", lambda _: host.config.run_dir)
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(machine="x86_64"))
    manifest = Manifest.from_wire(sent)
    found = await target_checks.check_as_target(host, manifest, policy_of(host.config, "edge-a"))
    assert all(objection.reason.isprintable() and len(objection.reason) < 400 for objection in found)
    return "\n".join(objection.reason for objection in found)


@pytest.fixture
def host(journal: Journal, tmp_path: Path) -> Any:
    engine: Any = FakeEngine("gone")

    async def network(name: str) -> dict[str, Any]:
        if name == "missing":
            raise NotFound("none")
        return {"Name": name, "Driver": "bridge", "IPAM": {"Config": [{"Subnet": "172.16.0.0/12"}]}}

    engine.inspect_network = network
    return host_with(engine, journal, tmp_path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GOOD, ""),
        (at("architecture", "riscv64"), "riscv64"),
        (at("architecture", ESCAPE), r"\x1b"),
        (at("page_size", 65536), "65536 bytes"),
        (at("versions", {"criu": "99.1"}), "CRIU 99.1"),
        (at("versions", {"criu": "99.1" + ESCAPE}), r"\x1b"),
        (at("versions", {"criu": "\u00b2.\u00b3"}), ""),
        (at("memory_bytes", 1 << 50), "MiB of memory"),
    ],
)
async def test_what_the_preflight_says(
    host: Any, monkeypatch: pytest.MonkeyPatch, make: Callable[[], dict[str, Any]], says: str
) -> None:
    """P12: found by the target, whose words contain nothing that steers a terminal."""
    found = await checked(host, monkeypatch, make())
    assert (says in found) if says else (found == "")


async def test_more_than_fits_on_the_disk(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=(1 << 20) - 1))
    assert "0 MiB are free" in await checked(host, monkeypatch, GOOD)


async def test_more_than_fits_into_memory(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for available, swap, says in ((1 << 19, 0, True), (1 << 19, 1 << 20, False), (1 << 30, 0, False), (0, 0, False)):
        monkeypatch.setattr(target_checks, "available_memory_bytes", lambda found=available: found)
        monkeypatch.setattr(target_checks, "free_swap_bytes", lambda found=swap: found)
        assert ("to spare" in await checked(host, monkeypatch, GOOD)) == says


async def test_a_name_that_is_taken(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host.engine.status = "running"
    assert "a container named 'web' already" in await checked(host, monkeypatch, GOOD)


async def test_a_network_that_is_not_there(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = changed(of_host(NetworkMode="missing")(), "request/body/NetworkingConfig/EndpointsConfig", {"missing": {}})
    assert "no network 'missing'" in await checked(host, monkeypatch, sent)


@pytest.mark.parametrize("number", ["9" * 5000, "65536", "8080-8090", "\u0661", ""])
async def test_a_port_that_is_none_is_not_tried(host: Any, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """Python makes no number of more than 4,300 digits; the policy has refused it before."""
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": number}]}
    assert await checked(host, monkeypatch, of_host(PortBindings=bindings)()) == ""


async def test_a_port_that_is_taken(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
        found = await checked(host, monkeypatch, of_host(PortBindings=bindings)())
    assert f"port {port}/tcp is taken" in found
    assert errno.errorcode[errno.EADDRINUSE] not in found
