"""Containers move with their volumes, directories of the host and networks; a move that fails leaves none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from hoplab import Host
from hoplab.edge import CONFIG
from hoplab.processes import wait_for

from .conftest import Edges
from .test_failures_leave_the_source import criu_that_refuses

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


def query(host: Host, text: str) -> str:
    return host.docker("exec", "postgres", "psql", "-U", "postgres", "-h", "127.0.0.1", "-Atc", text)


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


def run(host: Host, name: str, *options: str) -> None:
    host.load("python")
    host.docker("run", "--detach", "--name", name, *options, *SLEEP)


def test_a_move_that_fails_leaves_no_volume_network_or_directory(willing: Edges) -> None:
    """P16, P3: all was there, made and filled, when the restore failed."""
    a, b = willing.a.host, willing.b.host
    b.load("python")
    a.docker("network", "create", "--subnet", "172.28.0.0/16", "shop")
    a.exec("mkdir -p /srv/data/files && echo here > /srv/data/files/one")
    b.exec("mkdir -p /srv/data")
    mounts = ("--volume", "named:/named", "--volume", "/unnamed", "--volume", "/srv/data/files:/files")
    run(a, "rich", "--network", "shop", *mounts)
    a.docker("exec", "rich", "sh", "-c", "echo x > /named/x; echo y > /unnamed/y")
    before = willing.inventory()
    with criu_that_refuses(b):
        failed = willing.a.migrate("rich", "edge-b", "--bind", "copy")
    assert failed.exit_code == 1, failed.remarks
    assert willing.inventory() == before
    assert b.exec("ls /srv/data").stdout == ""
    assert a.docker("exec", "rich", "cat", "/named/x", "/unnamed/y", "/files/one").split() == ["x", "y", "here"]


def test_all_that_is_around_it_goes_with_a_container(willing: Edges) -> None:
    a, b = willing.a.host, willing.b.host
    for name, subnet in (("shop", "172.28.0.0/16"), ("back", "172.29.0.0/24")):
        a.docker("network", "create", "--subnet", subnet, name)
    a.exec("mkdir -p /srv/data/files/deep && echo here > /srv/data/files/deep/one")
    b.exec("mkdir -p /srv/data")
    binds = ("--volume", "/srv/data/files:/files", "--volume", "/unnamed", "--volume", "named:/named:ro")
    addresses = ("--network", "shop", "--ip", "172.28.0.77", "--network-alias", "till", "--publish", "8080:80")
    a.load("python")
    a.docker("create", "--name", "rich", *addresses, *binds, *SLEEP)
    a.docker("network", "connect", "--ip", "172.29.0.5", "back", "rich")
    a.docker("start", "rich")
    a.docker("exec", "rich", "sh", "-c", "echo y > /unnamed/y; sleep 1000 < /files/deep/one &")
    busy = b.popen(["python3", "-c", "import socket, time; taken = socket.create_server(('', 8080)); time.sleep(600)"])
    try:
        wait_for(lambda: ":1F90 " in b.exec("cat /proc/net/tcp").stdout, "the port is taken", 10.0)
        refused = willing.a.migrate("rich", "edge-b")
        assert refused.exit_code == 12, refused.remarks
        assert "--bind copy" in refused.remarks
        refused = willing.a.migrate("rich", "edge-b", "--bind", "copy")
        assert refused.exit_code == 13, refused.remarks
        assert "--publish" in refused.remarks
        options = ("--bind", "copy", "--bind-map", "/srv/data/files:/srv/data/moved", "--publish", "18080:80")
        moved = willing.a.migrate("rich", "edge-b", *options)
    finally:
        busy.kill()
        busy.wait()
    assert moved.exit_code == 0, moved.remarks + willing.b.log()[-3000:]
    assert b.docker("exec", "rich", "cat", "/unnamed/y", "/files/deep/one").split() == ["y", "here"]
    assert b.exec("cat /srv/data/moved/deep/one").stdout == "here\n"
    found = json.loads(b.docker("inspect", "rich"))[0]
    ends = found["NetworkSettings"]["Networks"]
    assert {name: end["IPAddress"] for name, end in ends.items()} == {"shop": "172.28.0.77", "back": "172.29.0.5"}
    assert "till" in ends["shop"]["Aliases"]
    assert found["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "18080"}]}
    assert {mount["Destination"]: mount["RW"] for mount in found["Mounts"]} == {
        "/files": True,
        "/unnamed": True,
        "/named": False,
    }
    wait_for(lambda: volumes(a) == [], "the volumes are gone at the source", 20.0)
    assert a.exec("cat /srv/data/files/deep/one").stdout == "here\n"


def test_what_the_policy_does_not_name_is_not_bound(edges: Edges) -> None:
    """P12: with a policy that says nothing."""
    edges.a.host.exec("mkdir -p /srv/data")
    run(edges.a.host, "bound", "--volume", "/srv/data:/mnt")
    before = edges.inventory()
    for option in ("copy", "expect"):
        refused = edges.a.migrate("bound", "edge-b", "--bind", option)
        assert (refused.exit_code, "binds = " in refused.remarks) == (13, True), refused.remarks
    assert edges.inventory() == before
