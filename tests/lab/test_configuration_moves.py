"""What ``docker inspect`` shows is the same before and after, and so are the files."""

from __future__ import annotations

import json
import shlex

import pytest

from streamhop.content.container_config import differences

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

OPTIONS = shlex.split("""
--hostname keeper --domainname lab.example --env A=1 --env B=two --label x=y --label streamhop.test=1
--publish 8081:80 --publish 127.0.0.1:8082:81/udp --expose 99 --memory 256m --cpus 0.5 --cpu-shares 512 --pids-limit 50
--user 1000:1000 --group-add 44 --cap-drop NET_RAW --ulimit nofile=1000:2000 --stop-signal SIGINT --stop-timeout 3
--health-cmd true --health-interval 30s --restart on-failure:3 --log-driver json-file --log-opt max-size=1m
--log-opt tag=t --tmpfs /scratch:size=1m --shm-size 8m --sysctl net.ipv4.ip_unprivileged_port_start=0
--security-opt no-new-privileges --add-host other:192.0.2.7 --dns 192.0.2.53 --workdir /var --oom-score-adj 100
--interactive
""")

FILES = r"""
set -e
cd /data
echo new > new; mkdir -p deep/er; echo x > deep/er/x; ln -s new link; ln new hard; mkfifo fifo
chmod 4750 new; chown 12:34 deep; truncate -s 1G sparse; printf end >> sparse
rm -rf /usr/share/zoneinfo /etc/motd /etc/issue; mkdir -p /usr/share/zoneinfo; echo only > /usr/share/zoneinfo/only
touch -d '2001-02-03 04:05:06.789' new
echo tmp > /dev/shm/shared
"""

LIST = r"""
cd / && find data usr/share/zoneinfo etc/motd etc/issue -printf '%p %y %m %U %G %n %l %T@ %s\n' 2>/dev/null | sort
cat data/new usr/share/zoneinfo/only dev/shm/shared; tail -c 3 data/sparse; du -k data/sparse | cut -f1
"""


def inspect(edge_host: object, name: str) -> dict[str, object]:
    found: list[dict[str, object]] = json.loads(edge_host.docker("inspect", name))  # type: ignore[attr-defined]
    return found[0]


def test_the_configuration_is_the_same_afterwards(edges: Edges) -> None:
    edges.a.host.load("python")
    edges.a.host.docker("run", "--detach", "--name", "many", *OPTIONS, "hoplab-python:1", "sleep", "infinity")
    before = inspect(edges.a.host, "many")
    moved = edges.a.migrate("many", "edge-b")
    assert moved.exit_code == 0, moved.remarks + edges.b.log()[-3000:]
    after = inspect(edges.b.host, "many")
    assert differences(before, after) == []


def test_files_made_changed_and_removed_are_the_same_afterwards(edges: Edges) -> None:
    edges.a.host.load("python")
    edges.a.host.docker("run", "--detach", "--name", "files", "hoplab-python:1", "sleep", "infinity")
    edges.a.host.docker("exec", "files", "mkdir", "/data")
    edges.a.host.docker("exec", "files", "sh", "-c", FILES)
    before = edges.a.host.docker("exec", "files", "sh", "-c", LIST)
    moved = edges.a.migrate("files", "edge-b")
    assert moved.exit_code == 0, moved.remarks + edges.b.log()[-3000:]
    assert edges.b.host.docker("exec", "files", "sh", "-c", LIST) == before
    assert "only" in before
    assert "etc/motd" not in before


@pytest.mark.parametrize(
    ("options", "exit_code", "says"),
    [
        (["--privileged"], 12, "privileged"),
        (["--volume", "/srv:/mnt"], 12, "--bind"),
        (["--network", "host"], 12, "network"),
        (["--cap-add", "SYS_ADMIN"], 13, "SYS_ADMIN"),
    ],
)
def test_what_cannot_move_is_refused_before_anything_is_touched(
    classic_edges: Edges, options: list[str], exit_code: int, says: str
) -> None:
    edges = classic_edges
    edges.a.host.load("python")
    edges.a.host.docker("run", "--detach", "--name", "no", *options, "hoplab-python:1", "sleep", "infinity")
    before = edges.inventory()
    refused = edges.a.migrate("no", "edge-b")
    assert refused.exit_code in (12, 13), refused
    assert refused.exit_code == exit_code or says.lower() in refused.remarks.lower()
    assert says.lower() in refused.remarks.lower(), refused.remarks
    assert edges.inventory() == before


def test_bad_input_is_one_clear_line(classic_edges: Edges) -> None:
    edges = classic_edges
    absent = edges.a.migrate("absent", "edge-b")
    assert (absent.exit_code, "no container 'absent'" in absent.remarks) == (12, True)
    edges.a.host.service("redis")
    stranger = edges.a.migrate("redis", "127.0.0.1:9")
    assert (stranger.exit_code, "not a peer of this host" in stranger.remarks) == (11, True)
    edges.b.stop()
    try:
        nowhere = edges.a.migrate("redis", "edge-b")
    finally:
        edges.b.start()
    assert (nowhere.exit_code, "cannot be reached" in nowhere.remarks) == (10, True)
