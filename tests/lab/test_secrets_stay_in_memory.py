"""What a process holds in memory crosses to the other host and is found on no disk and no tmpfs afterwards."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from hoplab import Host
from hoplab.edge import EdgeDaemon, finish_migrate
from hoplab.processes import wait_for

from .conftest import Edges
from .test_failures_leave_the_source import migrate_and_break

pytestmark = [pytest.mark.lab, pytest.mark.root]

MASK = bytes(range(7, 39))
"""The process tells its secret only combined with this, so that the secret itself is nowhere but in its memory."""

KEEPER = """
import os, time
mask = bytes(range(7, 39))
secret = os.urandom(len(mask))
pages = bytearray((secret * 128) * 256)
ballast = os.urandom(24 << 20)
print(bytes(a ^ b for a, b in zip(secret, mask)).hex(), flush=True)
while True: time.sleep(1)
"""

PLACES = ("/var", "/run", "/tmp", "/dev/shm", "/root", "/etc", "/home", "/srv")
"""Where anything of a host writes; what is mounted below them is looked at too."""

SCAN = r"""
import json, mmap, os, sys
needles = [bytes.fromhex(word) for word in json.loads(sys.argv[1])]
for top in sys.argv[2:]:
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            try:
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                with open(path, "rb") as file:
                    last, step, end = b"", 0, os.path.getsize(path)
                    while step < end:
                        # Files of pages are sparse and terabytes long: only what holds data is read.
                        try:
                            step = os.lseek(file.fileno(), step, os.SEEK_DATA)
                        except OSError:
                            break
                        file.seek(step)
                        piece = file.read(1 << 20)
                        if any(needle in last + piece for needle in needles):
                            print(path)
                            break
                        last, step = piece[-64:], step + len(piece)
                        if not piece:
                            break
            except OSError:
                continue
"""

SPOOL = "/var/lib/streamhop/spool"

MODES = f"find {SPOOL} /run/streamhop/dumps -printf '%y %m %U %p\\n' 2>/dev/null || true"


@pytest.fixture
def keeper(classic_edges: Edges) -> Iterator[tuple[Edges, bytes]]:
    """A container on edge-a with a secret, and the secret; the link is slow enough to look around meanwhile."""
    edges = classic_edges
    host = edges.a.host
    image = host.load("python")
    edges.b.host.load("python")
    host.docker("run", "--detach", "--name", "keeper", image, "python3", "-c", KEEPER)
    told = wait_for(lambda: host.docker("logs", "keeper"), "it tells", 20.0)
    secret = bytes(a ^ b for a, b in zip(bytes.fromhex(told), MASK, strict=True))
    link = edges.lab.link("edge-a", "edge-b")
    link.shape(rate="40mbit")
    yield edges, secret
    link.shape(rate=None)


def forms(secret: bytes) -> list[bytes]:
    """The secret as it is, and as text that a log or a report could hold."""
    return [secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"="), repr(secret)[2:-1].encode()]


def found_in(host: Host, secret: bytes, places: Sequence[str] = PLACES) -> list[str]:
    """Files of a host that hold the secret in any form."""
    needles = json.dumps([form.hex() for form in forms(secret)])
    return str(host.exec(["python3", "-c", SCAN, needles, *places], timeout=300).stdout).split()


def open_to_others(edge: EdgeDaemon) -> list[str]:
    """What of a move under way others than root could get at."""
    wrong = []
    for line in edge.host.exec(MODES).stdout.splitlines():
        kind, mode, owner, _ = line.split(maxsplit=3)
        if kind != "l" and (owner != "0" or mode != {"d": "700", "f": "600"}[kind]):
            wrong.append(line)
    return wrong


@pytest.mark.parametrize("end", ["moved", "pre-copy", "restore at the target"])
def test_a_secret_in_memory_is_on_no_disk_afterwards(keeper: tuple[Edges, bytes], end: str) -> None:
    """P13: not in spool, dumps, logs, journal, reports; neither after a move nor after one cancelled in a phase."""
    edges, secret = keeper
    both = (edges.a, edges.b)
    if end == "moved":
        process = edges.a.begin_migrate("keeper", "edge-b", stderr=subprocess.PIPE)
        # Where it has to be removed again: this also shows that it would be found.
        wait_for(lambda: found_in(edges.b.host, secret, [SPOOL]), "the secret is in the spool", 60.0)
        assert [open_to_others(edge) for edge in both] == [[], []]
        outcome = finish_migrate(process)
        assert outcome.exit_code == 0, outcome
    else:
        outcome = migrate_and_break(edges, end, None, container="keeper")
        assert outcome.exit_code == 20, outcome
    wait_for(lambda: not any(place["files"] for place in edges.inventory().values()), "nothing is left", 30.0)
    said = json.dumps(outcome.report).encode() + outcome.remarks.encode()
    assert not any(form in said for form in forms(secret))
    assert {edge.host.name: found_in(edge.host, secret) for edge in both} == {"edge-a": [], "edge-b": []}
    # The secret is where it was, or has moved: what was looked for is the right thing.
    place = edges.b.host if end == "moved" else edges.a.host
    assert place.docker("inspect", "--format", "{{.State.Running}}", "keeper") == "true"
