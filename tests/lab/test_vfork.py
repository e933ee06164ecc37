"""A container that starts programs as fast as it can, each by a vfork, can be moved whatever it is caught at."""

from __future__ import annotations

import pytest

from hoplab.processes import wait_for

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

MOVES = 8
UNMINDFUL = 'import os, signal; os.posix_spawn("/bin/true", ["true"], {}); signal.pause()'
STATES = "ps -o state= --ppid $(docker inspect --format '{{.State.Pid}}' parent)"

PROGRAM = """
import os
opening = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)] * 1000
started = 0
while True:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=opening), 0)
    started += 1
    if started % 100 == 0:
        print(started, flush=True)
"""
"""posix_spawn() is a vfork, which lasts until all is opened: so about every other freeze meets one."""


def test_a_container_that_does_nothing_but_vfork_moves_each_time(classic_edges: Edges) -> None:
    here, there = classic_edges.a, classic_edges.b
    for edge in (here, there):
        image = edge.host.load("python")
    here.host.docker("run", "--detach", "--name", "spawner", "--entrypoint", "python3", image, "-c", PROGRAM)
    again = 0
    for _ in range(MOVES):
        wait_for(lambda host=here.host: host.docker("logs", "spawner", "--tail", "1"), "it spawns", 20.0)  # type: ignore[misc]
        moved = here.migrate("spawner", there.host.name)
        assert moved.exit_code == 0, moved.remarks + here.log()[-3000:]
        again += moved.remarks.count("in the middle of a vfork")
        timeline = [(phase["phase"], phase["seconds"]) for phase in moved.report["timeline"]]
        assert [name for name, _ in timeline].count("freeze") == 1
        print(moved.remarks.count("in the middle of a vfork"), moved.report["downtime_s"], timeline)  # noqa: T201
        here, there = there, here
    assert again > 0, "no move has met a vfork: this test has shown nothing"


def test_a_process_that_nobody_has_waited_for_moves_with_its_container(classic_edges: Edges) -> None:
    here, there = classic_edges.a, classic_edges.b
    for edge in (here, there):
        image = edge.host.load("python")
    here.host.docker("run", "--detach", "--name", "parent", "--entrypoint", "python3", image, "-c", UNMINDFUL)
    for _ in range(2):
        wait_for(lambda host=here.host: "Z" in host.exec(STATES).stdout, "its child has ended", 20.0)  # type: ignore[misc]
        moved = here.migrate("parent", there.host.name)
        assert moved.exit_code == 0, moved.remarks + here.log()[-3000:]
        here, there = there, here
