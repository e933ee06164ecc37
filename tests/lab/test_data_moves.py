"""Containers move with their volumes, directories of the host and networks; a move that fails leaves none of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hoplab import Host
from hoplab.edge import CONFIG
from hoplab.processes import wait_for

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

POLICY = 'policy.binds = ["/srv/data"]\\npolicy.networks = "create"'

SLEEP = ("hoplab-python:1", "sleep", "infinity")

COUNTED = "select count(*), sum(number) from counted"


@pytest.fixture
def willing(edges: Edges) -> Iterator[Edges]:
    """Edges whose policy allows binds below /srv/data, and makes networks."""
    for edge in (edges.a, edges.b):
        edge.stop()
        edge.host.exec(f"cp {CONFIG} {CONFIG}.before && sed -i '1i {POLICY}' {CONFIG}")
        edge.start()
    yield edges
    edges.remove_containers()
    for edge in (edges.a, edges.b):
        edge.stop()
        edge.host.exec(f"mv {CONFIG}.before {CONFIG}; rm -rf /srv/data")
        edge.host.exec("docker volume prune --all --force && docker network prune --force")
        edge.start()


def volumes(host: Host) -> list[str]:
    return sorted(host.docker("volume", "ls", "--quiet").split())


def networks(host: Host) -> set[str]:
    return set(host.docker("network", "ls", "--format", "{{.Name}}").split())


def query(host: Host, text: str) -> str:
    return host.docker("exec", "postgres", "psql", "-U", "postgres", "-h", "127.0.0.1", "-Atc", text)


@contextmanager
def unable_to_restore(host: Host) -> Iterator[None]:
    """CRIU fails there, so that a move ends when all is made and sent."""
    criu = host.docker_free_exec("command -v criu") if hasattr(host, "docker_free_exec") else "/usr/sbin/criu"
    host.exec(f"mv {criu} {criu}.away && printf '#!/bin/sh\\nexit 1\\n' > {criu} && chmod 755 {criu}")
    try:
        yield
    finally:
        host.exec(f"mv {criu}.away {criu}")


def test_postgres_goes_there_and_back_with_its_volume(willing: Edges) -> None:
    a, b = willing.a, willing.b
    a.host.service("postgres", options=("--volume", "pgdata:/var/lib/postgresql"))
    query(a.host, "create table counted as select generate_series(1, 100000) as number")
    expected = query(a.host, COUNTED)
    with willing.probe("postgres") as probe:
        for source, target in ((a, b), (b, a)):
            moved = source.migrate("postgres", target.host.name)
            assert moved.exit_code == 0, moved.remarks + target.log()[-3000:]
            assert moved.report["bytes"]["volumes"] > 0
            assert volumes(target.host) == ["pgdata"]
            assert query(target.host, COUNTED) == expected
            wait_for(lambda host=source.host: volumes(host) == [], "the volume is gone at the source", 20.0)
        seen = probe.stop()
    assert seen["lost"] == 0
    a.host.docker("restart", "--timeout", "5", "postgres")
    wait_for(
        lambda: (
            "100000"
            in a.host.exec(
                ["docker", "exec", "postgres", "psql", "-U", "postgres", "-h", "127.0.0.1", "-Atc", COUNTED],
                check=False,
            ).stdout
        ),
        "PostgreSQL reads its volume again",
        20.0,
    )
