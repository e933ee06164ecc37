"""A container that dirties memory faster than the link carries it moves if it may be slowed down, and gets all back."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from hoplab import Host
from hoplab.edge import Outcome, finish_migrate
from hoplab.processes import wait_for

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

OWN_QUOTA = "90000"
CPUS = "0.9"
PROGRAM = """
import hashlib, os
memory = bytearray(os.urandom(8 << 20))
print("ready", flush=True)
while True:
    for offset in range(0, len(memory), 4096):
        hashlib.pbkdf2_hmac("sha256", b"some", b"work", 500)
        memory[offset : offset + 4096] = os.urandom(4096)
"""
"""Four times a second what it takes 20 Mbit/s a second to carry, or about that; less on a slower processor."""

OPTIONS = ("--max-downtime", "2s", "--reconnect", "0s")
UNDER_WAY_S_MAX = 60.0
GIVEN_BACK_S_MAX = 20.0


@pytest.fixture
def dirtying(classic_edges: Edges) -> Iterator[Edges]:
    """A link of 20 Mbit/s, and the container at edge-a; both hosts have its image."""
    for edge in (classic_edges.b, classic_edges.a):
        image = edge.host.load("python")
    options = ("--detach", "--name", "dirtying", "--cpus", CPUS, "--entrypoint", "python3")
    classic_edges.a.host.docker("run", *options, image, "-c", PROGRAM)
    logs = classic_edges.a.host.docker
    wait_for(lambda: "ready" in logs("logs", "dirtying"), "the container dirties memory", UNDER_WAY_S_MAX)
    link = classic_edges.lab.link("edge-a", "edge-b")
    link.shape(rate="20mbit", rtt="20ms")
    yield classic_edges
    link.shape(rate=None, rtt=None)


def quota(host: Host) -> str:
    """What the kernel says of the container there: its quota, without the period."""
    container = host.docker("inspect", "--format", "{{.Id}}", "dirtying").strip()
    search = (
        f"find /sys/fs/cgroup -path '*{container}*' '(' -name cpu.cfs_quota_us -o -name cpu.max ')' -exec cat {{}} +"
    )
    return str(host.exec(search).stdout).split()[0]


def interrupt_when_slowed_down(edges: Edges, act: Callable[[subprocess.Popen[bytes]], object]) -> Outcome:
    """Move the container, and do ``act`` once its quota is lowered."""
    process = edges.a.begin_migrate("dirtying", "edge-b", "--auto-converge", *OPTIONS, stderr=subprocess.PIPE)
    wait_for(lambda: int(quota(edges.a.host)) < int(OWN_QUOTA), "it is slowed down", UNDER_WAY_S_MAX)
    act(process)
    return finish_migrate(process)


def test_it_moves_only_if_it_may_be_slowed_down(dirtying: Edges) -> None:
    refused = dirtying.a.migrate("dirtying", "edge-b", *OPTIONS)
    assert refused.exit_code == 14, refused.remarks
    assert quota(dirtying.a.host) == OWN_QUOTA
    moved = dirtying.a.migrate("dirtying", "edge-b", "--auto-converge", *OPTIONS)
    assert moved.exit_code == 0, moved.remarks
    assert quota(dirtying.b.host) == OWN_QUOTA
    assert moved.report["throttle_percent_max"] >= 20, (refused.remarks, moved.remarks)
    assert moved.report["throttled_s"] > 0
    assert moved.report["predicted_downtime_s"] <= 2.0
    assert re.search(r"does without \d+ % of its CPU", moved.remarks)
    print(refused.remarks, moved.remarks, moved.report["downtime_s"], moved.report["total_s"])  # noqa: T201
    record = dirtying.b.host.docker("inspect", "--format", "{{.HostConfig.NanoCpus}}", "dirtying").strip()
    assert int(record) == round(float(CPUS) * 1e9)


def test_a_cancelled_move_gives_the_quota_back(dirtying: Edges) -> None:
    ended = interrupt_when_slowed_down(dirtying, lambda process: process.send_signal(signal.SIGINT))
    assert ended.exit_code == 20, ended.remarks
    assert quota(dirtying.a.host) == OWN_QUOTA


def test_the_guard_of_a_killed_daemon_gives_the_quota_back(dirtying: Edges) -> None:
    ended = interrupt_when_slowed_down(dirtying, lambda _: dirtying.a.kill())
    assert ended.exit_code == 1, ended.remarks
    wait_for(lambda: quota(dirtying.a.host) == OWN_QUOTA, "the guard gives the quota back", GIVEN_BACK_S_MAX)
    dirtying.a.start()
    assert quota(dirtying.a.host) == OWN_QUOTA
    assert dirtying.a.host.docker("inspect", "--format", "{{.State.Status}}", "dirtying").strip() == "running"
