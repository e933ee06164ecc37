"""The runtime as Docker's shim calls it, from `create` to the first instruction, with a runc played by a script.

The container's first process is made beforehand: stopped, in a network namespace of its own. The script runs the
bundle's hooks for it as runc does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streamhop.engine import runtime as runtime_module
from streamhop.engine.netgate import gate_is_closed
from streamhop.engine.restores import PendingRestore, RestoreFailed, RestoreServer
from streamhop.engine.setup import install_stand_in

pytestmark = pytest.mark.root

ID = "c" * 64

FAKE_RUNC = """\
#!{python} -IS
import json, os, pathlib, signal, socket, subprocess, sys
here = pathlib.Path({here!r})
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if "restore" not in sys.argv:
    sys.exit(0)
if (here / "fail-at-once").exists():
    sys.exit(3)
own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
criu = subprocess.Popen(["criu", "swrk", str(other.fileno())], pass_fds=[other.fileno()])
other.close()
own.send(bytes([8, 2, 26, 0]))
if criu.wait():
    sys.exit(5)
bundle = sys.argv[sys.argv.index("--bundle") + 1]
(here / "criu.conf").write_text(pathlib.Path(os.environ["CRIU_CONFIG_FILE"]).read_text())
config = json.loads(pathlib.Path(bundle, "config.json").read_bytes())
for hook in config["hooks"]["createRuntime"]:
    ran = subprocess.run([hook["path"], *hook["args"][1:]], input=json.dumps({{"id": "x", "pid": {pid}}}).encode())
    if ran.returncode:
        os.kill({pid}, signal.SIGKILL)
        sys.exit(1)
if (here / "fail-late").exists():
    os.kill({pid}, signal.SIGKILL)
    sys.exit(4)
"""


@dataclass
class Machine:
    """A bundle, a fake runc and the daemon's server."""

    path: Path
    server: RestoreServer
    pending: PendingRestore
    init: asyncio.subprocess.Process
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def call(self, *arguments: str) -> asyncio.subprocess.Process:
        file = str(Path(runtime_module.__file__))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-IS", file, "--run-dir", str(self.path / "run"), "--"),
            *("--log", str(self.path / "log.json"), "--log-format", "json"),
            *arguments,
            env={"PATH": f"{self.path}:{os.environ['PATH']}", "STREAMHOP_RUNC": str(self.path / "runc")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    async def create(self) -> asyncio.subprocess.Process:
        bundle = str(self.path / "bundle")
        return await self.call("create", "--bundle", bundle, "--pid-file", f"{bundle}/init.pid", ID)

    async def get_ready(self) -> None:
        await self.pending.bundle()
        (self.path / "work").mkdir()
        await self.pending.get_ready(self.path / "image", self.path / "work", self.path / "launchers")

    async def order(self, *, network_first: bool = True) -> None:
        await self.get_ready()
        await self.pending.begin(network_first=network_first)
        await self.pending.complete()

    def calls(self) -> list[str]:
        """The commands that the fake runc was called with."""
        lines = (self.path / "calls").read_text().splitlines() if (self.path / "calls").exists() else []
        return [json.loads(line)[4] for line in lines]

    def log(self) -> str:
        return (self.path / "log.json").read_text()

    @property
    def directory(self) -> Path:
        return self.path / "run" / "restores" / ID

    def state(self) -> str:
        stat = Path(f"/proc/{self.init.pid}/stat").read_text()
        return stat[stat.rindex(")") + 2]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    (tmp_path / "bundle").mkdir()
    config = {"root": {"path": "rootfs"}, "linux": {"namespaces": [{"type": "network"}]}}
    (tmp_path / "bundle" / "config.json").write_text(json.dumps(config))
    init = await asyncio.create_subprocess_exec("unshare", "--net", "sleep", "1000")
    await _until_in_another_network(init.pid)
    os.kill(init.pid, signal.SIGSTOP)
    script = FAKE_RUNC.format(python=sys.executable, here=str(tmp_path), pid=init.pid)
    (tmp_path / "runc").write_text(script)
    (tmp_path / "criu").write_text(f"#!/bin/sh\ntouch {tmp_path}/criu-began\n")
    for name in ("runc", "criu"):
        (tmp_path / name).chmod(0o755)
    install_stand_in(tmp_path / "launchers")
    async with asyncio.timeout(30), RestoreServer(tmp_path / "run") as server:
        found = Machine(tmp_path, server, server.expect(ID), init)
        try:
            yield found
        finally:
            for process in (init, *found.processes):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def _until_in_another_network(pid: int) -> None:
    own = Path("/proc/self/ns/net").readlink()
    async with asyncio.timeout(5):
        while Path(f"/proc/{pid}/ns/net").readlink() == own:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.005)


async def test_restores_behind_the_gate_and_goes(machine: Machine) -> None:
    creating = await machine.create()
    await machine.order()
    assert await creating.wait() == 0
    assert (machine.path / "bundle" / "init.pid").read_text() == str(machine.init.pid)
    assert await gate_is_closed(machine.init.pid)
    starting = await machine.call("start", ID)
    timings = await machine.pending.restored()
    assert set(timings) == {"restore_hook_s", "restore_wait_s", "restore_criu_s"}
    assert starting.returncode is None
    assert machine.state() == "T"
    assert not machine.server.was_let_go(ID)
    await machine.pending.go()
    assert await starting.wait() == 0
    assert machine.server.was_let_go(ID)
    assert not await gate_is_closed(machine.init.pid)
    assert machine.state() != "T"
    assert not machine.directory.exists()
    assert machine.calls() == ["restore"]
    assert "leave-stopped" in (machine.path / "criu.conf").read_text()
    # From now on every call is runc's own.
    assert await (await machine.call("start", ID)).wait() == 0
    assert machine.calls() == ["restore", "start"]
    machine.server.forget(ID)
    assert not machine.server.was_let_go(ID)


async def test_criu_goes_on_while_docker_wires_unless_it_needs_the_network(machine: Machine) -> None:
    creating = await machine.create()
    await machine.order(network_first=False)
    assert await creating.wait() == 0
    # runc has nothing left to do, though Docker has not called `start` yet.
    async with asyncio.timeout(10):
        while any(_is_restore_of(path, machine) for path in Path("/proc").glob("[0-9]*")):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert machine.directory.exists()
    starting = await machine.call("start", ID)
    await machine.pending.restored()
    assert machine.state() == "T"
    await machine.pending.go()
    assert await starting.wait() == 0


def _is_restore_of(process: Path, machine: Machine) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(machine.path / "runc").encode() in words and b"restore" in words


async def test_docker_wires_while_memory_comes(machine: Machine) -> None:
    creating = await machine.create()
    await machine.get_ready()
    await machine.pending.begin(network_first=False)
    assert await creating.wait() == 0
    assert await gate_is_closed(machine.init.pid)
    starting = await machine.call("start", ID)
    restored = asyncio.ensure_future(machine.pending.restored())
    # The hook has not been let go: runc is still there.
    assert any(_is_restore_of(path, machine) for path in Path("/proc").glob("[0-9]*"))
    assert not restored.done()
    await machine.pending.complete()
    await restored
    await machine.pending.go()
    assert await starting.wait() == 0


async def test_criu_does_not_begin_before_its_images_are_complete(machine: Machine) -> None:
    creating = await machine.create()
    await machine.get_ready()
    assert machine.calls() == ["restore"]
    assert not (machine.path / "criu-began").exists()
    assert [path.name for path in machine.directory.iterdir() if path.stat().st_mode & 0o077] == []
    await machine.pending.refuse("the source went away")
    assert await creating.wait() == 1
    assert "the source went away" in machine.log()
    assert not (machine.path / "criu-began").exists()
    assert machine.calls() == ["restore", "delete"]
    assert not machine.directory.exists()


async def test_the_daemons_end_before_the_images_are_complete(machine: Machine) -> None:
    creating = await machine.create()
    await machine.get_ready()
    await machine.server.__aexit__(None, None, None)
    assert await creating.wait() == 1
    assert not (machine.path / "criu-began").exists()
    assert not machine.directory.exists()


async def _assert_nothing_is_left(machine: Machine) -> None:
    await machine.init.wait()
    assert machine.calls()[-1] == "delete"
    assert not machine.directory.exists()


async def test_refused_when_everything_is_restored(machine: Machine) -> None:
    creating = await machine.create()
    await machine.order()
    await creating.wait()
    starting = await machine.call("start", ID)
    await machine.pending.restored()
    await machine.pending.refuse("the source took it back")
    assert await starting.wait() == 1
    assert "the source took it back" in machine.log()
    await _assert_nothing_is_left(machine)


async def test_refused_before_the_images_are_there(machine: Machine) -> None:
    creating = await machine.create()
    await machine.pending.bundle()
    await machine.pending.refuse("no")
    assert await creating.wait() == 1
    assert json.loads(machine.log())["msg"] == "streamhop: no"
    assert machine.calls() == []
    assert not machine.directory.exists()


@pytest.mark.parametrize("started", [False, True])
async def test_the_daemons_end_is_a_refusal(started: bool, machine: Machine) -> None:
    creating = await machine.create()
    await machine.order()
    await creating.wait()
    starting = await machine.call("start", ID) if started else None
    if starting is not None:
        await machine.pending.restored()
    await machine.server.__aexit__(None, None, None)
    await machine.init.wait()
    if starting is not None:
        assert await starting.wait() == 1
        assert "went away" in machine.log()
        await _assert_nothing_is_left(machine)


@pytest.mark.parametrize("command", [["delete", "--force", ID], ["kill", ID, "9"]])
async def test_docker_takes_it_away_before_start(command: list[str], machine: Machine) -> None:
    creating = await machine.create()
    await machine.order()
    await creating.wait()
    assert await (await machine.call(*command)).wait() == 0
    with pytest.raises(RestoreFailed, match="killed or removed"):
        await machine.pending.restored()
    await machine.init.wait()
    assert not machine.directory.exists()
    assert machine.calls() == ["restore", "delete", command[0]]


@pytest.mark.parametrize("when", ["fail-at-once", "fail-late"])
async def test_runc_fails(when: str, machine: Machine) -> None:
    (machine.path / when).touch()
    creating = await machine.create()
    if when == "fail-late":
        await machine.order()
        assert await creating.wait() == 0
        starting = await machine.call("start", ID)
        assert await starting.wait() == 1
    else:
        with pytest.raises(RestoreFailed, match="before CRIU began"):
            await machine.get_ready()
        assert await creating.wait() == 1
    with pytest.raises(RestoreFailed, match="exit code"):
        await machine.pending.restored()
    assert not machine.directory.exists()


async def test_start_without_a_supervisor_fails_closed(machine: Machine) -> None:
    starting = await machine.call("start", ID)
    assert await starting.wait() == 1
    assert machine.calls() == ["delete"]


async def test_create_without_a_daemon_fails_closed(machine: Machine) -> None:
    await machine.server.__aexit__(None, None, None)
    creating = await machine.create()
    assert await creating.wait() == 1
    assert "cannot be asked" in machine.log()
    assert machine.calls() == []


async def test_another_container_is_runcs_own(machine: Machine) -> None:
    assert await (await machine.call("start", "other")).wait() == 0
    assert await (await machine.call("state", ID)).wait() == 0
    assert machine.calls() == ["start", "state"]
    assert machine.directory.exists()
