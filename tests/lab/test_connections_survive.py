"""Open connections go with a container that keeps its address on a segment; else it says why not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoplab import Lab
from hoplab.asking import AskingClient
from hoplab.edge import EdgeDaemon, finish_migrate, pair
from hoplab.processes import wait_for
from hoplab.services import find_service, listening_ports
from tests.support import one_connection

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

CLIENT = "/usr/local/lib/one-connection.py"
THERE_AND_BACK = 6

DOWNTIMES_MAX = 2.5
GAP_GRACE_S = 1.0
"""A client's kernel doubles the time between its attempts while nobody answers: it may notice that late."""

REDIS = ("redis-server", "--save", "", "--protected-mode", "no", "--bind", "0.0.0.0", "::")


@pytest.fixture(scope="module")
def segment(make_lab: object) -> Iterator[Edges]:
    """Two edges and a client on one segment, with the containerd image store."""
    lab: Lab = make_lab(  # type: ignore[operator]
        f"seg-{os.getpid()}", hosts=["edge-a", "edge-b"], clients=["client"], image_store="containerd", segment=True
    )
    with EdgeDaemon(lab.host("edge-a"), ["edge-b"]) as a, EdgeDaemon(lab.host("edge-b"), ["edge-a"]) as b:
        pair(a, b)
        lab.host("client").write(CLIENT, Path(str(one_connection.__file__)).read_text())
        yield Edges(lab, a, b, lab.host("client"))


@pytest.fixture
def joined(segment: Edges) -> Iterator[Edges]:
    """The same; containers of the test are removed after it."""
    yield segment
    segment.remove_containers()


def start(edges: Edges, service: str, *command: str, options: tuple[str, ...] = ()) -> tuple[str, str]:
    """Start a container of a service on the segment at edge-a; returns its addresses."""
    host, port = edges.a.host, find_service(service).port
    image = host.load(service)
    host.docker("run", "--detach", "--name", service, "--network", "segment", *options, image, *command)
    pid = host.docker("inspect", "--format", "{{.State.Pid}}", service)

    def serves() -> bool:
        table = host.exec(f"cat /proc/{pid}/net/tcp /proc/{pid}/net/tcp6", check=False).stdout
        return port in listening_ports(table)

    wait_for(serves, f"{service} serves", 30.0)
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}"
    four, six = host.docker("inspect", "--format", form, service).split()
    return four, six


def asking(edges: Edges, kind: str, address: str, port: int) -> AskingClient:
    return AskingClient(edges.client, ["python3", CLIENT, kind, address, str(port)], kind)


def move_about(edges: Edges, container: str, *options: str, times: int = THERE_AND_BACK) -> float:
    """Returns the longest downtime by the reports."""
    downtimes_s = []
    for number in range(times):
        source, target = (edges.a, "edge-b") if number % 2 == 0 else (edges.b, "edge-a")
        moved = source.migrate(container, target, *options)
        assert moved.exit_code == 0, (number, moved.remarks, edges.b.log()[-2000:])
        assert "open connections are kept" in moved.remarks, (number, moved.remarks)
        downtimes_s.append(moved.report["downtime_s"])
    return max(downtimes_s)


def judge(what: str, seen: dict[str, Any], downtime_s: float) -> None:
    """Every request has its answer. A client that notices the end of the pause too late is a defect that is known."""
    assert seen["answers"] == seen["asked"] > 0
    gap_s = seen["longest_gap_s"]
    print(f"{what}: {seen['answers']} answers, gap {gap_s:.2f} s, downtime {downtime_s:.2f} s")  # noqa: T201 - figures
    if gap_s >= DOWNTIMES_MAX * downtime_s + GAP_GRACE_S:
        pytest.xfail(f"{what}: gap {gap_s:.2f} s for {downtime_s:.2f} s of downtime, see docs/status.md, known defects")


@pytest.mark.parametrize("version", [4, 6])
def test_a_pipelining_client_of_redis_gets_every_answer_in_order(joined: Edges, version: int) -> None:
    addresses = start(joined, "redis", *REDIS)
    with asking(joined, "redis", addresses[0 if version == 4 else 1], 6379) as client:
        downtime_s = move_about(joined, "redis")
        seen = client.stop()
    judge(f"redis, IPv{version}", seen, downtime_s)


def test_a_keep_alive_client_of_nginx_sees_no_error(joined: Edges) -> None:
    address, _ = start(joined, "nginx")
    with asking(joined, "http", address, 80) as client:
        downtime_s = move_about(joined, "nginx", "--tcp", "keep", times=4)
        seen = client.stop()
    judge("nginx", seen, downtime_s)


def test_connections_live_on_at_the_source_when_a_move_is_cancelled_while_it_is_restored(joined: Edges) -> None:
    """Docker has wired the same addresses at the target by then, and told the neighbours so."""
    address, _ = start(joined, "redis", *REDIS)
    with asking(joined, "redis", address, 6379) as client:
        process = joined.a.begin_migrate("redis", "edge-b", "--tcp", "keep", stderr=subprocess.PIPE)
        assert process.stderr is not None
        for line in process.stderr:
            if b"restore at the target" in line:
                break
        process.send_signal(signal.SIGINT)
        outcome = finish_migrate(process)
        seen = client.stop()
    assert outcome.exit_code in (0, 20), outcome.remarks
    print(f"cancelled with {outcome.exit_code}, longest gap {seen['longest_gap_s']:.2f} s")  # noqa: T201 - a figure
    assert seen["answers"] == seen["asked"] > 0


def test_keep_is_refused_where_it_cannot_be_and_auto_closes(joined: Edges) -> None:
    host = joined.a.host
    host.service("redis")
    refused = joined.a.migrate("redis", "edge-b", "--tcp", "keep")
    assert refused.exit_code == 12, refused.remarks
    assert "the network bridge has no label streamhop.segment" in refused.remarks
    host.docker("network", "connect", "segment", "redis")
    moved = joined.a.migrate("redis", "edge-b")
    assert moved.exit_code == 0, moved.remarks
    assert "open connections will be closed" in moved.remarks


def fetched(edges: Edges, host: str) -> bool:
    """Whether a client gets an answer of nginx's from that host's port."""
    program = f"import urllib.request as r; print(r.urlopen('http://{host}:80/worker', timeout=5).status)"
    done = edges.client.exec(["python3", "-c", program], check=False)
    return bool(done.stdout.strip() == "200")


def forwards(edges: Edges) -> list[dict[str, Any]]:
    """What edge-a relays."""
    rows: list[dict[str, Any]] = json.loads(edges.a.host.exec(["streamhop", "forwards", "--format", "json"]).stdout)
    return rows


def test_the_old_address_of_nginx_answers_after_the_move_and_yields_when_it_comes_back(joined: Edges) -> None:
    edges = joined
    edges.a.host.service("nginx")
    assert fetched(edges, "edge-a")
    moved = edges.a.migrate("nginx", "edge-b", "--forward", "10m")
    assert moved.exit_code == 0, moved.remarks
    wait_for(lambda: fetched(edges, "edge-a"), "the old address answers", 10.0)
    assert [(row["container"], row["peer"], row["begun"]) for row in forwards(edges)] == [("nginx", "edge-b", True)]
    edges.a.stop()
    assert not fetched(edges, "edge-a")
    edges.a.start()
    wait_for(lambda: fetched(edges, "edge-a"), "the old address answers after a restart of the daemon", 10.0)
    back = edges.b.migrate("nginx", "edge-a")
    assert back.exit_code == 0, back.remarks + edges.a.log()[-2000:]
    assert fetched(edges, "edge-a")
    wait_for(lambda: not forwards(edges), "the port is the container's", 10.0)
    again = edges.a.migrate("nginx", "edge-b", "--forward", "10m")
    assert again.exit_code == 0, again.remarks
    wait_for(lambda: fetched(edges, "edge-a"), "the old address answers", 10.0)
    edges.a.host.exec(["streamhop", "forward", "stop", again.report["id"][:8]])
    assert not fetched(edges, "edge-a")
    assert fetched(edges, "edge-b")


def test_hooks_of_nginx_run_at_their_points_and_one_that_fails_ends_the_move(joined: Edges) -> None:
    edges = joined
    edges.a.host.service("nginx")
    points = ("before-freeze", "after-go", "after-done", "after-abort")
    try:
        for edge in (edges.a, edges.b):
            for point in points:
                path = f"/etc/streamhop/hooks.d/{point}/10-note"
                edge.host.write(path, f"#!/bin/sh\necho {point} >> /run/hooks-ran\n", mode=0o755)
        moved = edges.a.migrate("nginx", "edge-b")
        assert moved.exit_code == 0, moved.remarks
        assert edges.a.host.exec("cat /run/hooks-ran").stdout.split() == ["before-freeze", "after-done"]
        ran_there = lambda: edges.b.host.exec("cat /run/hooks-ran", check=False).stdout.split()  # noqa: E731 - asked again
        wait_for(lambda: ran_there() == ["after-go"], "the hook at the target", 10.0)
        edges.b.host.write(
            "/etc/streamhop/hooks.d/before-freeze/10-note", "#!/bin/sh\necho not now >&2; exit 1\n", mode=0o755
        )
        refused = edges.b.migrate("nginx", "edge-a")
        there = edges.b.host.exec(
            "ls -lR /etc/streamhop/hooks.d; cat /etc/streamhop/hooks.d/*/*; cat /run/hooks-ran"
        ).stdout
        assert refused.exit_code == 12, refused.remarks + there
        assert "not now" in refused.remarks
        assert ran_there() == ["after-go", "after-abort"]
        assert fetched(edges, "edge-b")
    finally:
        for edge in (edges.a, edges.b):
            edge.host.exec("rm -rf /etc/streamhop/hooks.d /run/hooks-ran")
