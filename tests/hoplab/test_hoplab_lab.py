"""Labs on this machine: what they promise about hosts, links, faults and the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hoplab import Lab, LabError, Prepared, residue
from hoplab.errors import LinkOffError, UsageError
from hoplab.state import Measured

pytestmark = [pytest.mark.lab, pytest.mark.root]

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


def test_docker_runs_with_the_image_store_asked_for(classic_lab: Lab, containerd_lab: Lab) -> None:
    drivers = [lab.host("edge-a").docker("info", "--format", "{{.Driver}}") for lab in (classic_lab, containerd_lab)]
    assert drivers == ["overlay2", "overlayfs"]


def test_labs_side_by_side_do_not_meet(classic_lab: Lab, containerd_lab: Lab) -> None:
    assert classic_lab.host("edge-a").address != containerd_lab.host("edge-a").address
    other = containerd_lab.host("edge-a").address
    seen = classic_lab.host("edge-a").exec(["ip", "route", "get", other], check=False)
    assert "unreachable" in seen.stderr


def test_hosts_share_nothing_but_what_they_are_made_of(classic_lab: Lab) -> None:
    a, b = classic_lab.host("edge-a"), classic_lab.host("edge-b")
    for path in ("/dev/shm/x", "/tmp/x", "/run/x", "/root/x", "/etc/x"):
        a.write(path, "a")
        assert a.read(path) == b"a"
        assert b.exec(["test", "-e", path], check=False).returncode == 1, path
    assert a.exec(["hostname"]).stdout == "edge-a\n"
    namespaces = {Path(f"/proc/{host.pid}/ns/{kind}").readlink() for host in (a, b) for kind in KINDS}
    own = {Path(f"/proc/self/ns/{kind}").readlink() for kind in KINDS}
    assert len(namespaces | own) == 3 * len(KINDS)


KINDS = ("mnt", "net", "pid", "uts", "ipc")


def test_orphans_are_reaped(two_clients: Lab) -> None:
    host = two_clients.host("left")
    host.exec("(sleep 0 &) ; (sleep 0 &)")

    def only_the_living() -> bool:
        return "Z" not in host.exec(["ps", "-eo", "stat="]).stdout

    two_clients.wait_for(only_the_living, "orphans are reaped", 5.0)


def test_programs_are_children_of_the_caller(two_clients: Lab) -> None:
    process = two_clients.host("left").popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_a_program_that_fails_says_so(two_clients: Lab) -> None:
    host = two_clients.host("left")
    with pytest.raises(LabError, match=r"left: sh -c .* ended with 3: why"):
        host.exec("echo why >&2; exit 3")
    with pytest.raises(LabError, match="left cannot run no-such-program"):
        host.exec(["no-such-program"])
    assert host.exec("exit 3", check=False).returncode == 3
    with pytest.raises(subprocess.TimeoutExpired):
        host.exec(["sleep", "1000"], timeout=0.1)
    assert "sleep" not in host.exec(["ps", "-eo", "comm="]).stdout


def test_files_and_trees_go_in(two_clients: Lab, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep/__pycache__").mkdir(parents=True)
    (tree / "deep/file").write_text("content")
    (tree / "deep/__pycache__/file.pyc").write_text("x")
    host = two_clients.host("right")
    host.put(tree, "/opt/placed/here")
    assert host.exec("cd /opt/placed && find . | sort").stdout.split() == [
        ".",
        "./here",
        "./here/deep",
        "./here/deep/file",
    ]
    host.write("/opt/tool", "#!/bin/sh\ncat\n", mode=0o755)
    assert host.exec(["/opt/tool"], input="through").stdout == "through"


def test_the_hosts_python_has_the_packages(two_clients: Lab) -> None:
    assert (
        two_clients.host("left").exec(["python3", "-c", "import aiohttp, lz4, msgpack, numpy, zstandard"]).stdout == ""
    )


def test_a_disk_can_be_full(two_clients: Lab) -> None:
    host = two_clients.host("left")
    host.limit_disk("/var/lib/small", "4m")
    full = host.exec("head -c 8M /dev/zero > /var/lib/small/x", check=False)
    assert full.returncode != 0
    assert "No space left" in full.stderr
    host.power_off()
    host.power_on()
    assert host.exec("head -c 8M /dev/zero > /var/lib/small/x", check=False).returncode != 0
    host.lift_disk_limit("/var/lib/small")
    host.power_off()
    host.power_on()
    assert host.exec("head -c 8M /dev/zero > /var/lib/small/x", check=False).returncode == 0


# Power


def test_a_power_failure_is_silent_and_spares_the_disk(edge_pair: Lab) -> None:
    edge, client = edge_pair.host("edge-a"), edge_pair.host("client")
    edge_pair.service("edge-a", "redis")
    edge.write("/root/kept", "yes")
    edge.write("/run/lost", "yes")
    talk = client.popen(["redis-cli", "-h", "edge-a", "subscribe", "x"], stdout=subprocess.PIPE)
    assert talk.stdout is not None
    assert talk.stdout.readline() == b"subscribe\n"
    edge.power_off()
    assert not edge.powered
    with pytest.raises(LabError, match="edge-a is powered off"):
        edge.exec(["true"])
    assert "timed out" in client.exec(["python3", "-c", CONNECT, "edge-a", "6379"], check=False).stderr
    assert talk.poll() is None  # nobody told the client
    edge.power_on()
    assert edge.read("/root/kept") == b"yes"
    assert edge.exec(["test", "-e", "/run/lost"], check=False).returncode == 1
    assert edge.docker("ps", "--all", "--format", "{{.Names}} {{.State}}") == "redis exited"
    edge.docker("start", "redis")
    edge_pair.wait_for(
        lambda: client.exec(["redis-cli", "-h", "edge-a", "ping"], check=False).stdout == "PONG\n",
        "redis answers",
        20.0,
    )
    talk.kill()
    talk.communicate()


def test_power_on_twice_is_refused(two_clients: Lab) -> None:
    with pytest.raises(UsageError, match="left runs already"):
        two_clients.power_on("left")


# The end


def test_an_up_that_fails_leaves_nothing(lab_prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoplab.links.measure", lambda *_a, **_o: Measured(1.0, 1.0))
    with pytest.raises(LinkOffError):
        Lab.up("hl-off", hosts=[], clients=["left", "right"])
    assert residue("hl-off") == []


def test_an_up_that_is_killed_leaves_nothing_after_down(lab_prepared: Prepared) -> None:
    program = "from hoplab import Lab; Lab.up('hl-killed', hosts=['a', 'b'], rtt='20ms', segment=True)"
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        Lab.wait_for(lambda: any("process" in line for line in residue("hl-killed")), "a host runs", 60.0)
        process.kill()
    assert residue("hl-killed") != []
    Lab.forget("hl-killed")
    assert residue("hl-killed") == []


def test_down_finds_a_lab_whose_state_is_lost(lab_prepared: Prepared) -> None:
    lab = Lab.up("hl-lost", hosts=[], clients=["left", "right"])
    lab.link("left", "right").shape(rtt="10ms")
    (lab.store.directory("hl-lost") / "lab.json").write_text("{")
    assert sum("process" in line for line in residue("hl-lost")) == 3
    Lab.forget("hl-lost")
    assert residue("hl-lost") == []


def test_nothing_of_this_program_is_left_open(lab_prepared: Prepared) -> None:
    def up_and_down() -> None:
        with Lab.up("hl-fds", hosts=[], clients=["left", "right"]) as lab:
            lab.link("left", "right").shape(rtt="10ms")

    def count() -> tuple[int, int, int]:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        descriptors, threads = (list(Path("/proc/self", kind).iterdir()) for kind in ("fd", "task"))
        return len(descriptors), len(threads), len(children)

    up_and_down()
    before = count()
    up_and_down()
    assert count() == before


# The segment


def test_containers_of_a_segment_see_each_other(lab_prepared: Prepared) -> None:
    with Lab.up("hl-seg", hosts=["edge-a", "edge-b"], clients=["client"], segment=True) as lab:
        for host, last in (("edge-a", 60), ("edge-b", 61)):
            address = f"{lab.state.network}.200.{last}"
            options = ["--network", "segment", "--ip", address]
            lab.service(host, "redis", publish=False, options=options)
        for source in (["docker", "exec", "redis", "redis-cli"], ["redis-cli"]):
            host = lab.host("edge-a" if source[0] == "docker" else "client")
            answer = host.exec([*source, "-h", f"{lab.state.network}.200.61", "ping"]).stdout
            assert answer == "PONG\n"
    assert residue("hl-seg") == []


# Names


@pytest.mark.parametrize(
    "options",
    [
        {"hosts": []},
        {"hosts": ["a", "a"]},
        {"hosts": ["a/b"]},
        {"hosts": [f"h{n}" for n in range(17)]},
        {"hosts": ["a"], "image_store": "zfs"},
        {"hosts": ["a"], "rate": "fast"},
        {"hosts": ["a"], "disk_limits": {"b": 5}},
    ],
)
def test_what_cannot_be_a_lab_is_refused_before_anything_is_made(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Lab.up("hl-never", **options)  # type: ignore[arg-type]
    assert residue("hl-never") == []


def test_unknown_hosts_and_links(two_clients: Lab) -> None:
    with pytest.raises(UsageError, match="no host 'middle'"):
        two_clients.host("middle")
    with pytest.raises(UsageError, match="no link"):
        two_clients.link("left", "left")
    with pytest.raises(UsageError, match="is up already"):
        Lab.up("hl-two", hosts=["x"])
