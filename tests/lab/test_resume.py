"""P5: what arrived and was verified does not cross the link again, whatever broke the move off."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hoplab.edge import Outcome, finish_migrate
from hoplab.processes import wait_for

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

LAYER_MB, MEMORY_MB, FILE_MB = 8, 8, 8
SHARE_MAX = 1.05
BROKEN_S_MAX = 40.0

IMAGE = "streamhop-test/resume"
PROGRAM = (
    "import os, socket, time\n"
    f"memory = [os.urandom(1 << 20) for _ in range({MEMORY_MB})]\n"
    f"open('/file', 'wb').write(os.urandom({FILE_MB} << 20))\n"
    "print('ready', flush=True)\n"
    "while True: time.sleep(1)\n"
)


@pytest.fixture(scope="module")
def slow(classic: Edges) -> Iterator[Edges]:
    """A link of 20 Mbit/s, and an image at edge-a with a layer that does not compress."""
    a = classic.a.host
    base = a.load("python")
    a.docker(
        "run", "--name", "making", "--entrypoint", "sh", base, "-c", f"head -c {LAYER_MB}000000 /dev/urandom > /data"
    )
    a.docker("commit", "making", IMAGE)
    a.docker("rm", "making")
    classic.b.host.load("python")
    link = classic.lab.link("edge-a", "edge-b")
    link.shape(rate="20mbit", rtt="20ms")
    yield classic
    link.up()
    link.shape(rate=None, rtt=None)
    clear(classic)
    a.docker("rmi", IMAGE)


def clear(edges: Edges) -> None:
    """Nothing of the moves is left at either host, but the image at edge-a."""
    edges.remove_containers()
    edges.b.host.docker("rmi", "--force", IMAGE, check=False)
    for edge in (edges.a, edges.b):
        edge.host.exec(["streamhop", "kept", "drop", "--all"])


def begin(edges: Edges) -> None:
    """A new container at edge-a, and none of it at edge-b."""
    clear(edges)
    edges.a.host.docker("run", "--detach", "--name", "resume", "--entrypoint", "python3", IMAGE, "-c", PROGRAM)
    wait_for(lambda: "ready" in edges.a.host.docker("logs", "resume"), "the service is there", BROKEN_S_MAX)


def sent_bytes(edges: Edges) -> int:
    """What edge-a has sent to edge-b so far, by the link's own counter."""
    device = edges.a.host.exec("ip -o route get $(getent hosts edge-b | cut -d' ' -f1) | sed 's/.* dev //; s/ .*//'")
    name = str(device.stdout).strip()
    return int(str(edges.a.host.exec(f"cat /sys/class/net/{name}/statistics/tx_bytes").stdout))


@pytest.fixture(scope="module")
def undisturbed_bytes(slow: Edges) -> int:
    """Bytes that a move takes which nothing disturbs."""
    begin(slow)
    before = sent_bytes(slow)
    moved = slow.a.migrate("resume", "edge-b")
    assert moved.exit_code == 0, moved.remarks
    return sent_bytes(slow) - before


def start_move(edges: Edges, *options: str) -> subprocess.Popen[bytes]:
    return edges.a.begin_migrate("resume", "edge-b", *options, stderr=subprocess.PIPE)


def wait_until_sent(edges: Edges, before: int, share: float, total: int) -> None:
    wait_for(lambda: sent_bytes(edges) - before >= share * total, f"{share:.0%} were sent", 120.0)


def check(edges: Edges, moved: Outcome, sent: int, undisturbed: int) -> dict[str, Any]:
    assert moved.exit_code == 0, moved.remarks + edges.b.log()[-3000:]
    assert sent <= SHARE_MAX * undisturbed
    assert edges.b.host.docker("ps", "--format", "{{.Names}}").split() == ["resume"]
    assert edges.a.host.docker("ps", "--all", "--quiet") == ""
    return moved.report


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_link_goes_on_where_it_was(slow: Edges, undisturbed_bytes: int, share: float) -> None:
    begin(slow)
    link, before = slow.lab.link("edge-a", "edge-b"), sent_bytes(slow)
    process = start_move(slow)
    wait_until_sent(slow, before, share, undisturbed_bytes)
    lost = len(slow.a.log())
    link.down()
    try:
        wait_for(lambda: "is aborted" in slow.a.log()[lost:], "the source notices", BROKEN_S_MAX)
    finally:
        link.up()
    report = check(slow, finish_migrate(process), sent_bytes(slow) - before, undisturbed_bytes)
    assert report["reconnects"] == 1


def test_a_second_migrate_goes_on_where_a_failed_one_was(slow: Edges, undisturbed_bytes: int) -> None:
    begin(slow)
    link, before = slow.lab.link("edge-a", "edge-b"), sent_bytes(slow)
    process = start_move(slow, "--reconnect", "0s")
    wait_until_sent(slow, before, 0.7, undisturbed_bytes)
    link.down()
    try:
        failed = finish_migrate(process)
    finally:
        link.up()
    assert failed.exit_code == 10
    wait_for(lambda: "resume" in str(slow.b.host.exec(["streamhop", "kept", "ls"]).stdout), "it is kept", BROKEN_S_MAX)
    moved = slow.a.migrate("resume", "edge-b")
    report = check(slow, moved, sent_bytes(slow) - before, undisturbed_bytes)
    assert report["pages_held"] > 0
    assert slow.b.host.exec(["streamhop", "kept", "ls", "--format", "json"]).stdout.strip() == "[]"


def test_a_target_daemon_that_was_killed_goes_on_where_it_was(slow: Edges, undisturbed_bytes: int) -> None:
    begin(slow)
    before = sent_bytes(slow)
    process = start_move(slow)
    wait_until_sent(slow, before, 0.7, undisturbed_bytes)
    slow.b.kill()
    slow.b.start()
    report = check(slow, finish_migrate(process), sent_bytes(slow) - before, undisturbed_bytes)
    assert report["reconnects"] >= 1


def test_a_move_that_was_cancelled_leaves_nothing(slow: Edges, undisturbed_bytes: int) -> None:
    """P13: memory is kept only for a move that somebody still wants."""
    begin(slow)
    before = sent_bytes(slow)
    process = start_move(slow)
    wait_until_sent(slow, before, 0.5, undisturbed_bytes)
    process.send_signal(2)
    assert finish_migrate(process).exit_code == 20
    assert slow.b.host.exec(["streamhop", "kept", "ls", "--format", "json"]).stdout.strip() == "[]"
