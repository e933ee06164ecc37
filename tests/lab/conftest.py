"""Two edge hosts with their daemons, and a client host, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hoplab import Host, Lab
from hoplab.edge import EdgeDaemon, ProbeClient, pair
from hoplab.inventory import take

PORTS = {"redis": 6379, "nginx": 80, "postgres": 5432, "python": 8080}
PROBES = {"redis": "redis", "nginx": "http", "postgres": "postgres", "python": "counter"}


@dataclass(frozen=True)
class Edges:
    """The lab as these tests use it."""

    lab: Lab
    a: EdgeDaemon
    b: EdgeDaemon
    client: Host

    def probe(self, service: str, *options: str) -> ProbeClient:
        """A client that asks ``service`` on whichever edge answers."""
        port = PORTS[service]
        return ProbeClient(self.client, PROBES[service], [f"edge-a:{port}", f"edge-b:{port}"], *options)

    def inventory(self) -> dict[str, Any]:
        """P16: everything a move could leave behind, on both hosts; see :func:`hoplab.inventory.take`."""
        return {edge.host.name: take(edge.host)["things"] for edge in (self.a, self.b)}

    def remove_containers(self) -> None:
        """Make room for the next test."""
        for edge in (self.a, self.b):
            for container in edge.host.docker("ps", "--all", "--quiet").split():
                edge.host.docker("rm", "--force", container)


def _edges(lab: Lab) -> Iterator[Edges]:
    with (
        EdgeDaemon(lab.host("edge-a"), ["edge-b"]) as a,
        EdgeDaemon(lab.host("edge-b"), ["edge-a"]) as b,
    ):
        pair(a, b)
        yield Edges(lab, a, b, lab.host("client"))


@pytest.fixture(scope="session")
def classic(classic_lab: Lab) -> Iterator[Edges]:
    """Edges with Docker's classic image store."""
    yield from _edges(classic_lab)


@pytest.fixture(scope="session")
def containerd(containerd_lab: Lab) -> Iterator[Edges]:
    """Edges with the containerd image store."""
    yield from _edges(containerd_lab)


@pytest.fixture(params=["classic", "containerd"])
def edges(request: pytest.FixtureRequest) -> Iterator[Edges]:
    """Edges with either image store; containers of the test are removed after it."""
    found: Edges = request.getfixturevalue(request.param)
    yield found
    found.remove_containers()


@pytest.fixture
def classic_edges(classic: Edges) -> Iterator[Edges]:
    """Edges with the classic image store; containers of the test are removed after it."""
    yield classic
    classic.remove_containers()
