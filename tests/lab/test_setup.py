"""The OCI runtime is registered in a Docker that runs, and taken out of it again."""

from __future__ import annotations

import pytest

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

RUNTIMES = ("info", "--format", "{{range $name, $_ := .Runtimes}}{{$name}} {{end}}")


def test_setup_is_undone_without_a_restart(classic_edges: Edges) -> None:
    host = classic_edges.a.host
    daemon_json = host.read("/etc/docker/daemon.json")
    assert "streamhop" in host.docker(*RUNTIMES).split()
    try:
        host.exec(["streamhop", "setup", "--remove"])
        assert "streamhop" not in host.docker(*RUNTIMES).split()
    finally:
        host.exec(["streamhop", "setup"])
    assert "streamhop" in host.docker(*RUNTIMES).split()
    assert host.read("/etc/docker/daemon.json") == daemon_json
