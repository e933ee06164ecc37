"""A Docker engine that knows volumes, networks and containers, for the tests of what is around a container."""

from __future__ import annotations

from typing import Any

from content.container_config_support import request
from content.image_layers_support import SampleImage, layer_tar

from streamhop.content.container_config import NetworkDescription
from streamhop.engine.docker import Conflict, EngineError, NotFound
from streamhop.handover.manifest import Manifest


class FakeDocker:
    """Volumes and networks by name, rows of containers, and what was done."""

    def __init__(self) -> None:
        self.volumes: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.containers: list[dict[str, Any]] = []
        self.in_use: set[str] = set()
        self.failing = False
        self.calls: list[str] = []

    def _note(self, text: str) -> None:
        if self.failing:
            raise EngineError("Docker does not answer")
        self.calls.append(text)

    def add_volume(self, name: str, **fields: Any) -> None:
        self.volumes[name] = {"Name": name, "Driver": "local", "CreatedAt": "then", "Labels": None} | fields

    def add_network(self, name: str, *subnets: str, **fields: Any) -> None:
        ipam = {"Driver": "default", "Config": [{"Subnet": subnet} for subnet in subnets]}
        self.networks[name] = {"Name": name, "Driver": "bridge", "IPAM": ipam} | fields

    async def inspect_volume(self, name: str) -> dict[str, Any]:
        if name not in self.volumes:
            raise NotFound(name)
        return self.volumes[name]

    async def create_volume(self, name: str, labels: dict[str, str]) -> dict[str, Any]:
        self._note(f"create volume {name}")
        if name not in self.volumes:
            self.add_volume(name, Labels=dict(labels))
        return self.volumes[name]

    async def remove_volume(self, name: str) -> None:
        self._note(f"remove volume {name}")
        if name in self.in_use:
            raise Conflict("in use")
        del self.volumes[name]

    async def inspect_network(self, name: str) -> dict[str, Any]:
        if name == "broken":
            raise EngineError("Docker does not answer")
        if name not in self.networks:
            raise NotFound(name)
        return self.networks[name]

    async def list_networks(self) -> list[dict[str, Any]]:
        return list(self.networks.values())

    async def create_network(self, body: dict[str, Any]) -> None:
        self._note(f"create network {body['Name']}")
        if body["Name"] in self.networks:
            raise Conflict("exists")
        self.networks[body["Name"]] = body

    async def remove_network(self, name: str) -> None:
        self._note(f"remove network {name}")
        del self.networks[name]

    async def list_containers(self, all: bool = False) -> list[dict[str, Any]]:  # noqa: A002 - Docker's name for it
        return self.containers


def manifest_with(
    *, trees: tuple[str, ...] = (), networks: tuple[NetworkDescription, ...] = (), **host: Any
) -> Manifest:
    """The manifest of a container with other fields of its HostConfig.

    :param trees: besides the root's.
    """
    image = SampleImage([layer_tar("base", b"x")]).classic()
    asked = request(**host)
    return Manifest(
        "web",
        "x86_64",
        4096,
        1 << 20,
        ("rootfs", *trees),
        (),
        {"criu": "4.2"},
        image,
        "web:1",
        asked,
        networks=networks,
    )
