"""The services serve, and CRIU can dump them."""

from __future__ import annotations

import json

import pytest

from hoplab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.root]

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("redis", ["redis-cli", "-h", "edge-a", "ping"]),
        ("nginx", ["python3", "-c", "import urllib.request as u; u.urlopen('http://edge-a/worker')"]),
        ("postgres", ["python3", "-c", CONNECT, "edge-a", "5432"]),
        ("python", ["python3", "-c", "import urllib.request as u; u.urlopen('http://edge-a:8080/state')"]),
    ],
)
def test_a_service_serves_and_criu_can_dump_it(edge_pair: Lab, service: str, command: list[str]) -> None:
    edge = edge_pair.host("edge-a")
    container = edge_pair.service("edge-a", service)
    edge_pair.host("client").exec(command)
    edge.docker("pause", container)
    dump = "runc --root /run/docker/runtime-runc/moby checkpoint --leave-running --tcp-established"
    edge.exec(f"mkdir -p /tmp/dump && {dump} --image-path /tmp/dump --work-path /tmp/dump {container}")
    edge.docker("unpause", container)
    edge.exec(["rm", "-rf", "/tmp/dump"])
    edge_pair.host("client").exec(command)


def test_the_python_service_reports_what_it_knows(classic_lab: Lab) -> None:
    edge, client = classic_lab.host("edge-b"), classic_lab.host("client")
    classic_lab.service("edge-b", "python")
    ask = ["python3", "-c", "import urllib.request as u; print(u.urlopen('http://edge-b:8080/state').read().decode())"]
    first = json.loads(client.exec(ask).stdout)
    classic_lab.wait_for(
        lambda: json.loads(client.exec(ask).stdout)["checksum"] != first["checksum"], "it writes", 10.0
    )
    second = json.loads(client.exec(ask).stdout)
    assert second["counter"] > first["counter"]
    assert (second["pid"], second["threads"], second["instance"]) == (first["pid"], 3, first["instance"])
    assert second["files_ok"] is True
    edge.docker("exec", "python", "sh", "-c", "echo intruder >> /var/lib/counter/writer-0.log")
    assert json.loads(client.exec(ask).stdout)["files_ok"] is False
    edge.docker("rm", "--force", "python")
