"""Labs as fixtures: prepared once a session, made once a session and kind, and gone without a trace afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hoplab import Lab, Prepared, prepare, residue

LabFactory = Callable[..., Lab]


@pytest.fixture(scope="session")
def lab_prepared() -> Prepared:
    """What every lab needs; made now if the cache lacks it."""
    return prepare()


def _down_without_a_trace(lab: Lab) -> None:
    lab.down()
    assert residue(lab.name) == []


@pytest.fixture(scope="session")
def make_lab(lab_prepared: Prepared) -> Iterator[LabFactory]:
    """Make labs with the arguments of :meth:`hoplab.Lab.up`; they go down with the session, or when told to."""
    with ExitStack() as stack:

        def make(name: str, **options: Any) -> Lab:
            lab = Lab.up(name, **options)
            stack.callback(_down_without_a_trace, lab)
            return lab

        yield make


@pytest.fixture(scope="session")
def classic_lab(make_lab: LabFactory) -> Lab:
    """Two hosts with Docker's classic image store, and a client."""
    return make_lab(f"classic-{os.getpid()}", hosts=["edge-a", "edge-b"], clients=["client"], image_store="classic")


@pytest.fixture(scope="session")
def containerd_lab(make_lab: LabFactory) -> Lab:
    """Two hosts with the containerd image store, and a client."""
    return make_lab(
        f"containerd-{os.getpid()}", hosts=["edge-a", "edge-b"], clients=["client"], image_store="containerd"
    )


@pytest.fixture(params=["classic_lab", "containerd_lab"])
def edge_pair(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two hosts and a client, once with each image store; containers of the test are removed after it."""
    lab: Lab = request.getfixturevalue(request.param)
    yield lab
    for host in lab.hosts:
        if host.state.docker:
            for container in host.docker("ps", "--all", "--quiet").split():
                host.docker("rm", "--force", container)


@pytest.fixture
def two_clients(lab_prepared: Prepared) -> Iterator[Lab]:
    """Two hosts without Docker, ``left`` and ``right``: up at once, for this test alone."""
    with Lab.up("hl-two", hosts=[], clients=["left", "right"]) as lab:
        yield lab
    assert residue("hl-two") == []
