"""Real services move there and back, again and again, while a client uses them."""

from __future__ import annotations

import json
import statistics

import pytest

from hoplab import Host
from hoplab.edge import dataset
from hoplab.processes import wait_for

from .conftest import PORTS, Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

TRIES = 3
"""Of what is measured in seconds: the machine may be busy with something else."""

ROUND_TRIPS = 3


def processes(host: Host, container: str) -> list[str]:
    """The container's processes by what they are called and who they are."""
    lines = host.docker("top", container, "-eo", "pid,user,comm").splitlines()[1:]
    return sorted({line.strip().partition(" ")[2].strip() for line in lines})


def state_of(edges: Edges, service: str, host: str) -> dict[str, object]:
    """What the threaded Python service says about itself."""
    answer = edges.client.exec(
        [
            "python3",
            "-c",
            f"import urllib.request as u; print(u.urlopen('http://{host}:{PORTS[service]}/').read().decode())",
        ]
    )
    found: dict[str, object] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("service", ["redis", "nginx", "postgres", "python"])
def test_there_and_back_three_times(edges: Edges, service: str) -> None:
    edges.a.host.service(service)
    with edges.probe(service) as probe:
        before = processes(edges.a.host, service)
        state = state_of(edges, service, "edge-a") if service == "python" else {}
        legs = [(edges.a, edges.b), (edges.b, edges.a)] * ROUND_TRIPS
        for source, target in legs:
            moved = source.migrate(service, target.host.name)
            assert moved.exit_code == 0, moved.remarks + source.log()[-3000:] + target.host.name + target.log()[-3000:]
            assert source.host.docker("ps", "--all", "--quiet") == ""
        seen = probe.stop()
    assert seen["lost"] == 0
    assert len(seen["answered_by"]) >= len(legs) + 1, seen
    assert processes(edges.a.host, service) == before
    if service == "python":
        after = state_of(edges, service, "edge-a")
        assert after["instance"] == state["instance"]
        assert after["files_ok"] is True
        assert after["memory_ok"] is True
        assert int(str(after["counter"])) > int(str(state["counter"]))
    assert edges.a.host.docker("logs", "--tail", "5", service) is not None
    assert edges.a.host.docker("exec", service, "true") == ""
    edges.a.host.docker("restart", "--timeout", "5", service)


def test_an_idle_redis_of_64_mb_is_away_for_less_than_700_ms(classic_edges: Edges) -> None:
    edges = classic_edges
    edges.a.host.service("redis")
    dataset(edges.client, "fill", "edge-a:6379", 300_000)
    moved = edges.a.migrate("redis", "edge-b")  # both hosts have the image now
    assert moved.exit_code == 0, moved.remarks
    back, there = (edges.b, "edge-a"), (edges.a, "edge-b")
    tried = []
    for _ in range(TRIES):
        gaps = []
        for source, target in (back, there, back):
            with edges.probe("redis") as probe:
                moved = source.migrate("redis", target)
                seen = probe.stop()
            assert moved.exit_code == 0, moved.remarks
            assert moved.report["layers_sent"] == 0
            assert seen["lost"] == 0
            gaps.append(seen["longest_gap_s"])
        tried.append(gaps)
        if statistics.median(gaps) <= 0.7:
            return
        back, there = there, back
    raise AssertionError((tried, moved.report["timeline"], moved.report["target_timeline"]))


def test_only_missing_layers_are_sent_and_the_image_keeps_its_identity(edges: Edges) -> None:
    edges.b.host.load("base")
    edges.a.host.service("nginx")
    identity = edges.a.host.docker("inspect", "--format", "{{.Image}}", "nginx")
    moved = edges.a.migrate("nginx", "edge-b:web")
    assert moved.exit_code == 0, moved.remarks
    found = edges.b.host.docker("inspect", "--format", "{{.Image}} {{.Config.Image}}", "web")
    assert found.split()[0] == identity
    assert moved.report["layers_sent"] + moved.report["layers_reused"] >= 2


def test_the_daemons_stay_small_while_a_container_of_1_gb_moves(classic_edges: Edges) -> None:
    edges = classic_edges
    edges.a.host.load("python")
    program = "import os,time\nkeep = os.urandom(1 << 30)\nprint('filled', flush=True)\nwhile True: time.sleep(1)"
    edges.a.host.docker("run", "--detach", "--name", "big", "hoplab-python:1", "python3", "-c", program)
    wait_for(lambda: "filled" in edges.a.host.docker("logs", "big"), "the container holds 1 GB", 60.0)
    for edge in (edges.a, edges.b):
        edge.stop()
        edge.start()
    moved = edges.a.migrate("big", "edge-b")
    assert moved.exit_code == 0, moved.remarks
    assert moved.report["rounds"][0]["bytes"] > 1 << 30
    peaks = {edge.host.name: edge.peak_rss_bytes() for edge in (edges.a, edges.b)}
    assert max(peaks.values()) < 200 * 1000 * 1000, peaks
    print(f"peak resident memory: {peaks}")  # noqa: T201 - as above
