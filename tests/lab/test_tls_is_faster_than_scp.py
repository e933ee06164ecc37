"""A large transfer over a session with TLS, against scp of the same file over the same link at the same time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.openssh import scp_between

from hopbench.deployed import ENVIRONMENT, deploy_programs, program
from hoplab import Host, Lab, Prepared, residue
from hoplab.deploy import deploy

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.lab, pytest.mark.root]

FILE_BYTES = 1_000_000_000
BLOCK_BYTES = 16_000_000
PAIRS = 3
TRIES = 3
"""The machine may be busy with something else."""

TRANSFER_S_MAX = 120.0

PROGRAM = "/root/layer_over_session.py"
FILE, LAYER, SPOOL = "/fast/layer", "/root/layer.json", "/fast/spool"
SCP_TARGET = "/fast/by-scp"


def _random_blocks() -> Iterator[bytes]:
    for _ in range(FILE_BYTES // BLOCK_BYTES):
        yield os.urandom(BLOCK_BYTES)


def _lines_of_a_log() -> Iterator[bytes]:
    """The same block again and again: it is much longer than what any codec of the protocol looks back."""
    chance = random.Random(1)  # noqa: S311 - text, not a secret
    paths = [f"/{chance.choice(('api', 'static', 'user'))}/{chance.getrandbits(32):x}" for _ in range(5000)]
    block = bytearray()
    while len(block) < BLOCK_BYTES:
        address = ".".join(str(chance.randrange(256)) for _ in range(4))
        size, status = chance.randrange(1 << 20), chance.choice((200, 200, 200, 304, 404))
        block += f'{address} - - "GET {chance.choice(paths)} HTTP/1.1" {status} {size}\n'.encode()
    for _ in range(FILE_BYTES // BLOCK_BYTES):
        yield bytes(block[:BLOCK_BYTES])


CONTENT: dict[str, Callable[[], Iterator[bytes]]] = {"random": _random_blocks, "text": _lines_of_a_log}


@dataclass(frozen=True)
class Ends:
    """Two hosts between which a file can go both ways."""

    source: Host
    target: Host
    scp: list[str]

    def make_file(self, blocks: Iterator[bytes], scratch: Path) -> str:
        """Put a file at the source; returns its SHA-256."""
        digest = hashlib.sha256()
        size = 0
        with scratch.open("w+b") as file:
            for block in blocks:
                digest.update(block)
                size += file.write(block)
            file.seek(0)
            self.source.feed(["sh", "-c", f"cat > {FILE}"], file)
        scratch.unlink()
        described = json.dumps({"digest": f"sha256:{digest.hexdigest()}", "size": size})
        self.target.write(LAYER, described)
        return digest.hexdigest()

    def by_scp_s(self) -> float:
        """Seconds that scp takes."""
        self.target.exec(["rm", "-rf", SCP_TARGET, SPOOL])
        began = time.monotonic()
        self.source.exec([*self.scp, FILE, f"{self.target.name}:{SCP_TARGET}"], timeout=TRANSFER_S_MAX)
        return time.monotonic() - began

    def by_session_s(self, digest: str) -> float:
        """Seconds that a session takes, from dialing until the target has verified the file and said so."""
        self.target.exec(["rm", "-rf", SCP_TARGET, SPOOL])
        security = "/root/identity", "/root/peer.pem", f"sha256:{digest}"
        command = program("file_session", "send", self.target.name, FILE, *security)
        said = json.loads(self.source.exec(command, env=ENVIRONMENT, timeout=TRANSFER_S_MAX).stdout)
        log.info("session: %s", said)
        return float(said["seconds"])

    def digest_of(self, path: str) -> str:
        """SHA-256 of a file at the target."""
        return str(self.target.exec(["sha256sum", path]).stdout.split()[0])


def _identify(host: Host) -> str:
    """Make the host's identity as the daemon does; returns its certificate."""
    make = "import pathlib, streamhop.identity as i; print(i.load_or_create(pathlib.Path('identity')).certificate)"
    certificate = host.exec(["python3", "-c", make]).stdout.strip()
    return host.read(f"/root/{certificate}").decode()


@pytest.fixture(scope="module")
def ends(lab_prepared: Prepared) -> Iterator[Ends]:
    """Two hosts with an unshaped link, an sshd and a listener for sessions at the target."""
    name = f"scp-{os.getpid()}"
    with Lab.up(name, hosts=[], clients=["source", "target"]) as lab, ExitStack() as stack:
        source, target = lab.hosts
        for host in (source, target):
            deploy(host)
            deploy_programs(host)
            # Neither may have to wait for a disk.
            host.limit_disk("/fast", 3 * FILE_BYTES)
        target.put(Path(__file__).parents[1] / "support" / "layer_over_session.py", PROGRAM)
        certificates = {host.name: _identify(host) for host in (source, target)}
        source.write("/root/peer.pem", certificates["target"])
        target.write("/root/peer.pem", certificates["source"])
        scp = stack.enter_context(scp_between(source, target))
        command = ["python3", PROGRAM, "/root/identity", "/root/peer.pem", SPOOL, LAYER]
        listener = stack.enter_context(target.popen(command, env=ENVIRONMENT, stdout=-1))
        stack.callback(listener.terminate)
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"ready\n"
        yield Ends(source, target, scp)
    assert residue(name) == []


@pytest.mark.parametrize("content", CONTENT)
def test_a_session_moves_a_large_file_sooner_than_scp(ends: Ends, content: str, tmp_path: Path) -> None:
    """With TLS, verified on arrival, and all of it: dialing, handshakes, the last byte in its file."""
    digest = ends.make_file(CONTENT[content](), tmp_path / "content")
    tried = []
    for _ in range(TRIES):
        by_scp, by_session = [], []
        for _ in range(PAIRS):
            by_scp.append(ends.by_scp_s())
            assert ends.digest_of(SCP_TARGET) == digest
            by_session.append(ends.by_session_s(digest))
            assert ends.digest_of(f"{SPOOL}/layers/{digest}") == digest
        figures = {
            name: [round(FILE_BYTES / 1e6 / seconds) for seconds in taken]
            for name, taken in (("scp MB/s", by_scp), ("session MB/s", by_session))
        }
        log.info("%s: %s", content, figures)
        tried.append(figures)
        if statistics.median(by_session) < statistics.median(by_scp):
            return
    raise AssertionError(tried)
