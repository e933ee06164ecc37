"""Memory of every kind, checked page by page by the process that owns it, after it has moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hoplab import Host
from hoplab.processes import wait_for

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

VICTIM = Path(__file__).parents[1] / "content" / "memory" / "memory_victim.py"
START = "mkfifo /data/to /data/from; exec python3 /data/victim.py /data/mapped 0<>/data/to 1<>/data/from"
ASK = 'printf "%s\\n" "$1" > /data/to; timeout 20 head -n 1 < /data/from'


def ask(host: Host, *words: object) -> str:
    """Send the process one command; its answer."""
    return host.docker("exec", "victim", "sh", "-c", ASK, "sh", " ".join(map(str, words)))


def test_private_shared_and_file_mappings_survive(edges: Edges) -> None:
    host = edges.a.host
    image = host.load("python")
    host.docker("create", "--name", "victim", image, "sh", "-c", START)
    host.exec(["mkdir", "-p", "/root/data"])
    host.write("/root/data/victim.py", VICTIM.read_text())
    host.docker("cp", "/root/data", "victim:/data")
    host.docker("start", "victim")
    wait_for(lambda: host.docker("exec", "victim", "test", "-e", "/data/mapped", check=False) == "", "it starts", 20.0)
    places = json.loads(host.docker("exec", "victim", "timeout", "20", "head", "-n", "1", "/data/from"))["places"]
    assert set(places) == {"anonymous", "shared", "memfd", "file", "forbidden"}
    for source, target in ((edges.a, edges.b), (edges.b, edges.a)):
        for number, name in enumerate(("anonymous", "shared", "memfd", "file")):
            assert ask(source.host, "poke", name, 30, 6000 + number) == "ok"
        assert ask(source.host, "zero", "anonymous", 60) == "ok"
        moved = source.migrate("victim", target.host.name)
        assert moved.exit_code == 0, moved.remarks + target.log()[-3000:]
        assert ask(target.host, "verify") == "[]"
    assert ask(host, "poke", "anonymous", 1, 1) == "ok"
