"""What cannot be moved is refused before anything is touched, with its reason; a check begins nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hoplab.processes import wait_for

from .conftest import Edges
from .likeness import Likeness, likeness

pytestmark = [pytest.mark.lab, pytest.mark.root]

IO_URING = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
ring = libc.syscall(425, 8, ctypes.create_string_buffer(256))
assert ring >= 0, ctypes.get_errno()
memory = mmap.mmap(ring, 4096)
"""
TUN = "/dev/test-preflight-tun"
"""A host of the lab has few devices; this one is made."""

DEVICE = "device = open('/dev/net/tun', 'r+b', buffering=0)\n"
DOCKER_SOCKET = """
import socket
docker = socket.socket(socket.AF_UNIX)
docker.connect('/var/run/docker.sock')
"""
WAIT = "import time\nprint('ready', flush=True)\nwhile True: time.sleep(1)\n"


@dataclass(frozen=True)
class Checked:
    """What a check said."""

    exit_code: int
    result: dict[str, Any]

    def ids(self, severity: str, side: str) -> set[str]:
        findings = self.result["findings"]
        return {one["id"] for one in findings if (one["severity"], one["side"]) == (severity, side)}

    def what(self, kind: str) -> str:
        return "; ".join(one["what"] for one in self.result["findings"] if one["id"] == kind)


def check(edges: Edges, container: str, peer: str = "edge-b") -> Checked:
    answer = edges.a.host.exec(["streamhop", "check", container, peer, "--format", "json"], check=False)
    assert answer.stdout, answer.stderr
    return Checked(answer.returncode, json.loads(answer.stdout))


@pytest.fixture
def here(classic: Edges) -> Iterator[Edges]:
    """Both hosts empty, with the image at both; likewise afterwards."""
    classic.remove_containers()
    for edge in (classic.a, classic.b):
        edge.host.load("python")
    classic.a.host.exec(["mknod", TUN, "c", "10", "200"])
    yield classic
    classic.remove_containers()
    classic.a.host.exec(["rm", TUN])


def run(edges: Edges, name: str, program: str, *options: str) -> Likeness:
    """Start a program at edge-a and see what it is like once it is ready."""
    host = edges.a.host
    command = ["--entrypoint", "python3", "hoplab-python:1", "-c", program + WAIT]
    host.docker("run", "--detach", "--name", name, *options, *command)
    wait_for(lambda: "ready" in host.docker("logs", name), "the service is there", 30.0)
    return likeness(host, name)


CASES = {
    "io_uring": (
        IO_URING,
        ["--security-opt", "seccomp=unconfined"],
        {"workload.io-uring"},
        {"policy.security-option"},
    ),
    "device": (
        DEVICE,
        ["--device", f"{TUN}:/dev/net/tun"],
        {"container.device", "workload.device"},
        {"policy.device"},
    ),
    "docker.sock": (
        DOCKER_SOCKET,
        ["--volume", "/var/run/docker.sock:/var/run/docker.sock"],
        {"container.docker-socket", "container.mount-link", "workload.unix-peer"},
        {"policy.bind", "target.bind"},
    ),
}


@pytest.mark.parametrize(("program", "options", "here_found", "there_found"), CASES.values(), ids=list(CASES))
def test_it_is_refused_with_the_right_reason_and_untouched(
    here: Edges, program: str, options: list[str], here_found: set[str], there_found: set[str]
) -> None:
    before, inventory = run(here, "stays", program, *options), here.inventory()
    checked = check(here, "stays")
    assert checked.exit_code == 12
    assert checked.ids("refuses", "source") == here_found
    assert checked.ids("refuses", "target") == there_found
    assert all(one["fix"] and one["why"] for one in checked.result["findings"])
    moved = here.a.migrate("stays", "edge-b")
    assert moved.exit_code == 12
    assert {one["id"] for one in moved.report["findings"]} == here_found
    assert "it runs on here, as it was" in moved.remarks
    assert likeness(here.a.host, "stays") == before
    assert here.inventory() == inventory


def test_a_check_of_what_can_be_moved_begins_nothing(here: Edges) -> None:
    before, inventory = run(here, "goes", ""), here.inventory()
    moves = here.b.host.exec(["streamhop", "moves", "--format", "json"]).stdout
    checked = check(here, "goes")
    assert checked.ids("refuses", "source") | checked.ids("refuses", "target") == set()
    assert checked.exit_code == 0
    assert (checked.result["lacking_bytes"], checked.result["target_asked"]) == (0, True)
    assert likeness(here.a.host, "goes") == before
    assert here.inventory() == inventory
    assert here.b.host.exec(["streamhop", "moves", "--format", "json"]).stdout == moves
    told = here.a.host.exec(["streamhop", "check", "goes", "edge-b"])
    assert "It can be moved" in told.stdout
    assert here.a.migrate("goes", "edge-b").exit_code == 0


def test_what_the_target_has_against_it_is_told_and_another_name_helps(here: Edges) -> None:
    run(here, "web", "", "--publish", "8099:80")
    here.b.host.docker("run", "--detach", "--name", "web", "--publish", "8099:80", "hoplab-python:1", "sleep", "1h")
    checked = check(here, "web")
    assert checked.exit_code == 12
    assert checked.ids("refuses", "target") == {"target.name", "target.port"}
    assert "8099/tcp" in checked.what("target.port")
    assert check(here, "web", "edge-b:web2").ids("refuses", "target") == {"target.port"}
    told = here.a.host.exec(["streamhop", "check", "web", "edge-b"], check=False)
    assert "It cannot be moved like this: 2 refuse" in told.stdout
    moved = here.a.migrate("web", "edge-b")
    assert moved.exit_code == 13
    assert {one["id"] for one in moved.report["findings"] if one["severity"] == "refuses"} == {
        "target.name",
        "target.port",
    }


def test_what_was_started_beside_the_first_process_is_warned_of_and_ends_with_the_move(here: Edges) -> None:
    run(here, "shell", "")
    here.a.host.docker("exec", "--detach", "shell", "sleep", "600")
    wait_for(lambda: "workload.exec" in check(here, "shell").ids("warns", "source"), "the shell is seen", 20.0)
    assert check(here, "shell").exit_code == 0
    moved = here.a.migrate("shell", "edge-b")
    assert moved.exit_code == 0, moved.remarks
    assert "workload.exec" in moved.remarks
    assert "sleep 600" not in here.b.host.docker("top", "shell")
    assert "sleep 600" not in here.a.host.exec(["ps", "-e", "-o", "args"]).stdout


LATER = """
import os, socket, time
memory = os.urandom(12 << 20)
print('ready', flush=True)
while not os.path.exists('/go'): time.sleep(0.02)
MPTCP = 262
connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
print('opened', flush=True)
"""


@pytest.fixture
def slow(here: Edges) -> Iterator[Edges]:
    """A link on which pre-copy takes some seconds."""
    link = here.lab.link("edge-a", "edge-b")
    link.shape(rate="20mbit", rtt="20ms")
    yield here
    link.shape(rate=None, rtt=None)


def test_what_comes_after_the_preflight_is_explained_from_crius_log_which_is_kept(slow: Edges) -> None:
    """The table of known failures knows what the CRIU says that is installed; the source goes on."""
    host = slow.a.host
    command = ["--entrypoint", "python3", "hoplab-python:1", "-c", LATER + WAIT]
    host.docker("run", "--detach", "--name", "late", *command)
    wait_for(lambda: "ready" in host.docker("logs", "late"), "the service is there", 30.0)
    # It prints the move's ID when pre-copy begins: everything has been looked at by then.
    move = str(host.exec(["streamhop", "migrate", "late", "edge-b", "--detach"]).stdout).strip()
    host.docker("exec", "late", "touch", "/go")
    wait_for(lambda: "opened" in host.docker("logs", "late"), "it has a socket that cannot be moved", 20.0)
    ended = host.exec(["streamhop", "wait", move, "--format", "json"], check=False)
    (row,) = json.loads(ended.stdout)
    result = row["result"]
    assert (ended.returncode, result["runs_at"]) == (1, "source")
    assert "a socket speaks multipath TCP, which CRIU cannot dump; " in result["reason"]
    assert "Unsupported proto 262" in result["reason"]
    assert "GODEBUG=multipathtcp=0" in result["fix"]
    kept = result["fix"].rpartition("kept: ")[2]
    assert host.exec(["stat", "--format", "%a", kept]).stdout.strip() == "600"
    assert "Dumping FAILED" in host.exec(["cat", kept]).stdout
    assert host.docker("inspect", "--format", "{{.State.Status}}", "late") == "running"
    assert check(slow, "late").ids("refuses", "source") == {"workload.socket"}
