"""Copies that wait at another host: a move there sends only what has changed since."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hoplab.processes import wait_for

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

MEMORY_MB, FILE_MB = 16, 8
CONTENT_BYTES = (MEMORY_MB + FILE_MB) << 20

SHARE_MAX = 0.15
"""Of the content: what a move may still send of it. Python itself writes to some of its pages."""

PROGRAM = (
    "import os, time\n"
    f"memory = [os.urandom(1 << 20) for _ in range({MEMORY_MB})]\n"
    f"open('/file', 'wb').write(os.urandom({FILE_MB} << 20))\n"
    "print('ready', flush=True)\n"
    "while True: time.sleep(1)\n"
)


@pytest.fixture(scope="module")
def slow(classic: Edges) -> Iterator[Edges]:
    """A link of 50 Mbit/s."""
    link = classic.lab.link("edge-a", "edge-b")
    link.shape(rate="50mbit", rtt="20ms")
    yield classic
    link.shape(rate=None, rtt=None)
    classic.remove_containers()


@pytest.fixture
def service(slow: Edges) -> Iterator[Edges]:
    """A container at edge-a, of which nothing but layers is at edge-b."""
    slow.remove_containers()
    slow.b.host.exec(["streamhop", "kept", "drop", "--all"])
    a, image = slow.a.host, slow.a.host.load("python")
    slow.b.host.load("python")
    a.docker("run", "--detach", "--name", "staged", "--entrypoint", "python3", image, "-c", PROGRAM)
    wait_for(lambda: "ready" in a.docker("logs", "staged"), "the service is there", 30.0)
    yield slow
    a.exec("streamhop unstage staged || true")


def stage(edges: Edges, *options: str) -> dict[str, Any]:
    command = ["streamhop", "stage", "staged", "edge-b", *options, "--format", "json"]
    (row,) = json.loads(str(edges.a.host.exec(command).stdout))
    return dict(row)


def staged(edges: Edges) -> list[dict[str, Any]]:
    return list(json.loads(str(edges.a.host.exec(["streamhop", "staged", "--format", "json"]).stdout)))


def kept(edges: Edges) -> list[Any]:
    return list(json.loads(str(edges.b.host.exec(["streamhop", "kept", "ls", "--format", "json"]).stdout)))


def check_moved(edges: Edges) -> dict[str, Any]:
    """Move it, and see that it runs at edge-b and that no copy of it is left anywhere."""
    moved = edges.a.migrate("staged", "edge-b")
    assert moved.exit_code == 0, moved.remarks
    assert edges.b.host.docker("ps", "--format", "{{.Names}}").split() == ["staged"]
    wait_for(lambda: not staged(edges), "the copy is listed no more", 10.0)
    assert kept(edges) == []
    return moved.report


def test_a_move_sends_only_what_changed_since_it_was_staged(service: Edges) -> None:
    moves_before = service.b.host.exec(["streamhop", "moves", "--format", "json"]).stdout
    row = stage(service)
    assert row["times"] == 1
    assert row["wire_bytes"] > CONTENT_BYTES
    assert len(kept(service)) == 1
    assert service.b.host.exec(["streamhop", "moves", "--format", "json"]).stdout == moves_before
    report = check_moved(service)
    assert report["bytes"]["wire"] < SHARE_MAX * CONTENT_BYTES
    assert report["pages_held"] > 0


def test_a_move_that_comes_while_a_copy_is_sent_goes_on_from_what_is_there(service: Edges) -> None:
    command = ["streamhop", "stage", "staged", "edge-b", "--refresh", "1s"]
    staging = service.a.host.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: any(row["sending"] for row in staged(service)), "it is being sent", 10.0)
        check_moved(service)
    finally:
        staging.wait(30)


def test_a_copy_is_refreshed_with_little_and_dropped_when_nobody_wants_it(service: Edges) -> None:
    stage(service, "--refresh", "1s")
    wait_for(lambda: staged(service)[0]["times"] >= 3, "it is refreshed", 60.0)
    assert staged(service)[0]["wire_bytes"] < SHARE_MAX * CONTENT_BYTES
    service.a.host.exec(["streamhop", "unstage", "staged"])
    assert staged(service) == []
    assert kept(service) == []
    assert service.a.host.docker("inspect", "--format", "{{.State.Status}}", "staged").strip() == "running"
