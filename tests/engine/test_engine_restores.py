"""The daemon's side of a restore, against a runtime played by the test over the real socket."""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streamhop.engine.restores import PendingRestore, RestoreFailed, RestoreServer, bundle_from_config

ID = "a" * 64

CONFIG = {
    "root": {"path": "rootfs"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev/shm/", "type": "bind", "source": "/shm", "options": ["rbind"]},
        {"destination": "/etc/hosts", "source": "hosts", "options": ["rbind", "rprivate"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
    ],
}


class FakeRuntime:
    """The other end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def create(cls, run_dir: Path, bundle: Path, identifier: str = ID) -> FakeRuntime:
        runtime = cls(*await asyncio.open_unix_connection(run_dir / "runtime.sock"))
        await runtime.send({"event": "create", "id": identifier, "bundle": str(bundle)})
        return runtime

    async def send(self, message: Any) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")
        await self.writer.drain()

    async def receive(self) -> Any:
        async with asyncio.timeout(5):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def get_ready(runtime: FakeRuntime, pending: PendingRestore, path: Path) -> None:
    await runtime.send({"event": "ready"})
    await pending.get_ready(path, path, path, logs=path / "logs")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RestoreServer]:
    async with asyncio.timeout(20), RestoreServer(tmp_path / "run") as started:
        yield started


@pytest.fixture
def pending(server: RestoreServer) -> PendingRestore:
    return server.expect(ID)


def test_bundle_places() -> None:
    found = bundle_from_config(Path("/b"), CONFIG)
    assert found.rootfs == Path("/b/rootfs")
    assert found.mounts == {"/dev/shm": Path("/shm"), "/etc/hosts": Path("/b/hosts")}
    assert bundle_from_config(Path("/b"), {"root": {"path": "/merged"}}).rootfs == Path("/merged")
    with pytest.raises(RestoreFailed):
        bundle_from_config(Path("/b"), {"root": {}})


async def test_a_whole_restore(pending: PendingRestore, tmp_path: Path, bundle: Path) -> None:
    run_dir = tmp_path / "run"
    directory = run_dir / "restores" / ID
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (run_dir / "runtime.sock").stat().st_mode & 0o777 == 0o600
    runtime = await FakeRuntime.create(run_dir, bundle)
    assert (await pending.bundle()).rootfs == bundle / "rootfs"
    getting_ready = asyncio.create_task(
        pending.get_ready(tmp_path / "image", tmp_path / "work", tmp_path / "launchers", "established")
    )
    order = {name: str(tmp_path / name) for name in ("image", "work", "launchers")}
    assert await runtime.receive() == {"restore": {**order, "tcp": "established"}}
    assert not getting_ready.done()
    await runtime.send({"event": "ready"})
    await getting_ready
    await pending.begin(network_first=True)
    assert await runtime.receive() == {"begin": {"network_first": True}}
    await pending.complete()
    assert await runtime.receive() == {"complete": True}
    await runtime.send({"event": "restored", "timings": {"restore_criu_s": 0.25}})
    assert await pending.restored() == {"restore_criu_s": 0.25}
    going = asyncio.create_task(pending.go())
    assert await runtime.receive() == {"go": True}
    assert not going.done()
    await runtime.send({"event": "running"})
    await going
    await runtime.close()
    pending.discard()
    assert not directory.exists()


@pytest.mark.parametrize("stage", ["bundle", "restored"])
async def test_the_runtimes_death_ends_the_restore(
    stage: str, pending: PendingRestore, tmp_path: Path, bundle: Path
) -> None:
    runtime = await FakeRuntime.create(tmp_path / "run", bundle)
    if stage == "restored":
        await pending.bundle()
        await get_ready(runtime, pending, tmp_path)
    await runtime.close()
    with pytest.raises(RestoreFailed, match="went away"):
        await pending.restored()
    with pytest.raises(RestoreFailed):
        await pending.go()


async def test_a_runtime_that_never_gets_ready_is_not_waited_for(
    pending: PendingRestore, tmp_path: Path, bundle: Path
) -> None:
    runtime = await FakeRuntime.create(tmp_path / "run", bundle)
    failing = asyncio.create_task(pending.fail())
    getting_ready = asyncio.create_task(pending.get_ready(tmp_path, tmp_path, tmp_path))
    await runtime.receive()
    await runtime.send({"event": "failed", "reason": "runc restore ended before CRIU began"})
    for task in (getting_ready, failing):
        with pytest.raises(RestoreFailed, match="before CRIU began"):
            await task
    await runtime.close()


async def test_a_failure_is_explained_from_crius_log(pending: PendingRestore, tmp_path: Path, bundle: Path) -> None:
    runtime = await FakeRuntime.create(tmp_path / "run", bundle)
    (tmp_path / "restore.log").write_text("(00.1) 1: Error (criu/files-reg.c:1): File a has bad size 1 (expect 2)\n")
    await get_ready(runtime, pending, tmp_path)
    await runtime.send({"event": "failed", "reason": "runc restore ended with exit code 1"})
    with pytest.raises(RestoreFailed, match=r"exit code 1: a file at the target .*; File a has bad size 1") as caught:
        await pending.restored()
    assert "try again" in caught.value.fix
    assert (tmp_path / "logs" / "000001-restore.log").exists()
    await runtime.close()


@pytest.mark.parametrize(
    "line", [b"no json\n", b"[]\n", b"{}\n", b'{"event": "what"}\n', b'{"event": "restored"}\n', b"x" * 70000 + b"\n"]
)
async def test_what_is_not_understood_ends_the_restore(
    line: bytes, pending: PendingRestore, tmp_path: Path, bundle: Path
) -> None:
    runtime = await FakeRuntime.create(tmp_path / "run", bundle)
    runtime.writer.write(line)
    with pytest.raises(RestoreFailed, match="not understood"):
        await pending.restored()
    await runtime.close()


async def test_refused_before_docker_calls(pending: PendingRestore, tmp_path: Path, bundle: Path) -> None:
    await pending.refuse("no")
    # Docker may be about to call: without the directory the runtime would start the container afresh.
    assert (tmp_path / "run" / "restores" / ID).is_dir()
    runtime = await FakeRuntime.create(tmp_path / "run", bundle)
    assert await runtime.receive() == {"refuse": "no"}
    await runtime.close()
    with pytest.raises(RestoreFailed):
        await pending.restored()


@pytest.mark.parametrize("restored", [False, True])
async def test_refused_while_it_waits(restored: bool, pending: PendingRestore, tmp_path: Path, bundle: Path) -> None:
    runtime = await FakeRuntime.create(tmp_path / "run", bundle)
    await pending.bundle()
    if restored:
        await get_ready(runtime, pending, tmp_path)
        await runtime.receive()
        await runtime.send({"event": "restored", "timings": {}})
        await pending.restored()
    refusing = asyncio.create_task(pending.refuse("the link broke"))
    assert await runtime.receive() == {"refuse": "the link broke"}
    assert not refusing.done()
    await runtime.close()
    await refusing
    await pending.refuse("again")
    with pytest.raises(RestoreFailed):
        await pending.go()


async def test_a_container_that_nobody_expects_is_refused(server: RestoreServer, tmp_path: Path, bundle: Path) -> None:
    runtime = await FakeRuntime.create(tmp_path / "run", bundle)
    assert "refuse" in await runtime.receive()
    await runtime.close()


async def test_a_second_create_does_not_disturb_the_first(
    pending: PendingRestore, tmp_path: Path, bundle: Path
) -> None:
    first = await FakeRuntime.create(tmp_path / "run", bundle)
    await pending.bundle()
    second = await FakeRuntime.create(tmp_path / "run", bundle)
    assert await second.receive() is None
    await get_ready(first, pending, tmp_path)
    assert "restore" in await first.receive()
    for runtime in (first, second):
        await runtime.close()


async def test_the_servers_end_ends_restores_and_keeps_their_directories(tmp_path: Path, bundle: Path) -> None:
    async with RestoreServer(tmp_path / "run") as server:
        pending = server.expect(ID)
        runtime = await FakeRuntime.create(tmp_path / "run", bundle)
        await pending.bundle()
    assert await runtime.receive() is None
    with pytest.raises(RestoreFailed):
        await pending.restored()
    assert (tmp_path / "run" / "restores" / ID).is_dir()
    await runtime.close()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a" * 200])
async def test_ids_that_are_no_ids(name: str, server: RestoreServer) -> None:
    with pytest.raises(ValueError, match="ID"):
        server.expect(name)


async def test_a_run_dir_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        await RestoreServer(tmp_path / ("x" * 120)).__aenter__()


async def test_an_unknown_way_to_treat_connections(pending: PendingRestore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TCP"):
        await pending.get_ready(tmp_path, tmp_path, tmp_path, "magic")


async def test_a_restore_is_over_when_the_runtime_lets_go(tmp_path: Path) -> None:
    server = RestoreServer(tmp_path)
    directory = tmp_path / "restores" / "c"
    assert await server.ended("c", 0.01)
    directory.mkdir(parents=True)
    # Announced, and Docker has not called the runtime yet.
    assert not await server.ended("c", 0.01)
    with (directory / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not await server.ended("c", 0.01)
    # The runtime died: nobody holds the lock, though the directory is there.
    assert await server.ended("c", 0.01)
    server.forget("c")
    assert not directory.exists()
