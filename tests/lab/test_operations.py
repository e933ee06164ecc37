"""Moves that are left to the daemon and found again; and hosts that are lost in the middle and come back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hoplab.edge import EdgeDaemon, dataset
from hoplab.processes import wait_for

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

KEYS = 50_000
RECOVERED_S_MAX = 60.0
OPEN_DOORS = "find /var/lib/streamhop/spool /run/streamhop -perm /077 2>/dev/null; true"


def streamhop(edge: EdgeDaemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a host."""
    done: subprocess.CompletedProcess[str] = edge.host.exec(["streamhop", *arguments], check=False, timeout=300)
    return done


def listed(edge: EdgeDaemon, move: str) -> dict[str, Any]:
    """A move as ``moves`` of a host has it."""
    rows = json.loads(streamhop(edge, "moves", "--format", "json").stdout)
    found: dict[str, Any] = next((row for row in rows if row["id"] == move), {})
    return found


def detach(edges: Edges) -> str:
    """Begin to move redis to edge-b; its ID."""
    begun = streamhop(edges.a, "migrate", "redis", "edge-b", "--detach")
    assert begun.returncode == 0, begun.stderr
    move = begun.stdout.strip()
    assert len(bytes.fromhex(move)) == 16
    return move


def runs_only_at(edges: Edges, name: str) -> bool:
    """Whether one host has redis, running, the other has none, and nothing else is left of a move on either."""
    found = edges.inventory()
    here = {host: what["containers"] for host, what in found.items()}
    left = [thing for what in found.values() for thing in what["files"] + what["processes"]]
    other = "edge-b" if name == "edge-a" else "edge-a"
    return here == {name: ["redis running"], other: []} and not left


@pytest.fixture
def redis(classic_edges: Edges) -> Iterator[Edges]:
    """A redis with data on edge-a, and a link that is slow in both respects."""
    link = classic_edges.lab.link("edge-a", "edge-b")
    classic_edges.a.host.service("redis")
    dataset(classic_edges.client, "fill", "edge-a:6379", KEYS)
    link.shape(rate="20mbit", rtt="400ms")
    yield classic_edges
    for edge in (classic_edges.a, classic_edges.b):
        if not edge.host.powered:
            edge.power_on()
    link.shape(rate=None, rtt=None)


def test_a_detached_move_is_attached_to_and_waited_for_on_both_hosts(redis: Edges) -> None:
    """P13 too: while memory is on the target's disk, nobody but root can get at it."""
    digest = dataset(redis.client, "digest", "edge-a:6379", KEYS)
    move = detach(redis)
    assert listed(redis.a, move)["running"]
    there = listed(redis.b, move)
    assert (there["role"], there["container"], there["running"]) == ("target", "redis", True)
    assert redis.b.host.exec("find /var/lib/streamhop/spool -type f").stdout != ""
    assert redis.b.host.exec(OPEN_DOORS).stdout == ""
    attached = streamhop(redis.a, "attach", move[:8])
    assert attached.returncode == 0, attached.stderr
    assert "predicted downtime" in attached.stderr
    assert "memory on the wire while frozen" in attached.stdout
    for edge in (redis.a, redis.b):
        assert streamhop(edge, "wait", move[:6]).returncode == 0
    redis.a.stop()
    redis.a.start()
    (told,) = json.loads(streamhop(redis.a, "wait", move, "--format", "json").stdout)
    assert told["result"]["bytes"]["wire"] > 0
    assert dataset(redis.client, "digest", "edge-b:6379", KEYS) == digest


@pytest.mark.parametrize(("end", "code", "exit_code_there"), [("kill", "failed", 10), ("stop", "daemon_stopped", 1)])
def test_a_daemon_is_restarted_in_pre_copy_and_wait_tells_the_truth(
    redis: Edges, end: str, code: str, exit_code_there: int
) -> None:
    move = detach(redis)
    waiting = redis.a.host.popen(["streamhop", "wait", move, "--format", "json"], stdout=subprocess.PIPE)
    getattr(redis.a, end)()
    redis.a.start()
    out, _ = waiting.communicate(timeout=120)
    assert waiting.returncode == 1, out
    (row,) = json.loads(out)
    assert (row["id"], row["result"]["runs_at"], row["result"]["code"]) == (move, "source", code)
    wait_for(lambda: runs_only_at(redis, "edge-a"), "it runs at the source alone", RECOVERED_S_MAX)
    assert streamhop(redis.a, "wait", move).returncode == 1
    assert streamhop(redis.b, "wait", move).returncode == exit_code_there
    there = listed(redis.b, move)["result"]
    assert there["outcome"] == "failed"
    assert "did not come" not in there["reason"]


def log_says(edge: EdgeDaemon, move: str, what: str) -> bool:
    """Whether a daemon has logged a state of a move; read from outside of the host, at once."""
    log = edge.host.data / "upper" / "var/log/streamhop.log"
    return f"move {move[:8]}: {what}" in log.read_text()


def test_a_prepared_container_is_claimed_and_the_source_learns_it_when_it_is_back(redis: Edges) -> None:
    """P1: one copy runs, at the target, whatever the source's journal says and its Docker would restart."""
    redis.a.host.docker("update", "--restart", "always", "redis")
    digest = dataset(redis.client, "digest", "edge-a:6379", KEYS)
    move = detach(redis)
    wait_for(lambda: log_says(redis.b, move, "target is prepared"), "the target is prepared", 120, 0.005)
    redis.a.power_off()
    assert not log_says(redis.b, move, "target is owned")
    assert streamhop(redis.b, "handover", "reclaim", move[:8], "--fenced").returncode == 2
    claimed = streamhop(redis.b, "handover", "claim", move[:8], "--fenced")
    assert claimed.returncode == 0, claimed.stderr
    assert streamhop(redis.b, "wait", move[:8]).returncode == 0
    assert dataset(redis.client, "digest", "edge-b:6379", KEYS) == digest
    redis.a.power_on()
    wait_for(lambda: runs_only_at(redis, "edge-b"), "the source clears up", RECOVERED_S_MAX)
    (row,) = json.loads(streamhop(redis.a, "wait", move, "--format", "json").stdout)
    assert row["result"]["runs_at"] == "target"
    assert streamhop(redis.a, "handover", "ls", "--format", "json").stdout.strip() == "[]"


@pytest.mark.parametrize("lost_when", ["source is released", "target is open"])
def test_a_released_container_is_reclaimed_and_the_target_learns_it_when_it_is_back(
    redis: Edges, lost_when: str
) -> None:
    """P1: one copy runs, at the source, whether GO had reached the target or not."""
    digest = dataset(redis.client, "digest", "edge-a:6379", KEYS)
    move = detach(redis)
    side = redis.a if lost_when.startswith("source") else redis.b
    wait_for(lambda: log_says(side, move, lost_when), lost_when, 120, 0.005)
    redis.b.power_off()
    waited = streamhop(redis.a, "wait", move)
    assert waited.returncode == 21, waited.stdout
    reclaimed = streamhop(redis.a, "handover", "reclaim", move[:8], "--fenced")
    assert reclaimed.returncode == 0, reclaimed.stderr
    (row,) = json.loads(streamhop(redis.a, "wait", move, "--format", "json").stdout)
    assert "reclaimed" in row["result"]["reason"]
    assert dataset(redis.client, "digest", "edge-a:6379", KEYS) == digest
    redis.b.power_on()
    wait_for(lambda: runs_only_at(redis, "edge-a"), "the target clears up", RECOVERED_S_MAX)
    assert dataset(redis.client, "digest", "edge-a:6379", KEYS) == digest


@pytest.mark.parametrize(("check", "exit_code", "health"), [("true", 0, "healthy"), ("false", 22, "unhealthy")])
def test_the_health_check_at_the_target_is_waited_for(
    classic_edges: Edges, check: str, exit_code: int, health: str
) -> None:
    """P18: 22: moved, and not healthy there."""
    options = ["--health-cmd", check, "--health-interval", "1s", "--health-retries", "1"]
    classic_edges.a.host.service("redis", options=options)
    moved = classic_edges.a.migrate("redis", "edge-b", "--wait-healthy", "15s")
    assert (moved.exit_code, moved.report["health"]) == (exit_code, health), moved.remarks
    # A health check that runs just now is a process of runc's.
    wait_for(lambda: runs_only_at(classic_edges, "edge-b"), "it runs at the target alone", RECOVERED_S_MAX)
