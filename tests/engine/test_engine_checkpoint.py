"""A dump ends in images, in an explained failure, or is killed; runc is played by a script."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from streamhop.engine import checkpoint
from streamhop.engine.checkpoint import Checkpoint, CheckpointFailed, checkpoint_command, checkpoint_in_waiting
from streamhop.engine.setup import install_stand_in


@pytest.fixture
def runc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "work").mkdir()
    install_stand_in(tmp_path / "launchers")
    return tmp_path / "runc"


ASK = f"""{sys.executable} -IS -c '
import os, socket, subprocess
own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
child = subprocess.Popen(["criu", "swrk", str(other.fileno())], pass_fds=[other.fileno()])
other.close()
own.send(bytes([8, 1, 26, 0]))
os._exit(child.wait())'"""
"""What runc does to have CRIU dump."""


def _script(runc: Path, text: str, before: str = "") -> None:
    """A runc that runs ``before``, then CRIU, which runs ``text``."""
    for path, lines in ((runc, f"{before}\n{ASK}"), (runc.with_name("criu"), text)):
        path.write_text(f"#!/bin/sh\ncd {runc.parent}\n{lines}\n")
        path.chmod(0o755)


def _waiting(runc: Path) -> AbstractAsyncContextManager[Checkpoint]:
    return checkpoint_in_waiting(
        "abc", Path("/r"), runc.parent / "image", runc.parent / "work", runc.parent / "launchers"
    )


async def _checkpoint(runc: Path, timeout_s: float = 20) -> None:
    async with _waiting(runc) as checkpoint:
        await checkpoint.run(timeout_s)


def test_the_container_stays_and_its_connections_are_dumped() -> None:
    command = checkpoint_command("abc", Path("/r"), Path("/i"), Path("/w"))
    assert command[:4] == ["runc", "--root", "/r", "checkpoint"]
    assert {"--leave-running", "--tcp-established"} <= set(command)
    assert command[-1] == "abc"


async def test_the_lock_is_left_to_the_gate(runc: Path) -> None:
    _script(runc, 'cat "$CRIU_CONFIG_FILE" > seen')
    await _checkpoint(runc)
    assert (runc.parent / "seen").read_text() == "network-lock skip\npage-server\nps-socket 100\n"
    assert list((runc.parent / "work").iterdir()) == []


async def test_pages_come_over_the_descriptor_that_criu_is_told_of(runc: Path) -> None:
    _script(runc, "bash -c 'echo all pages >&100; head -c 4 <&100 > answer'")
    async with _waiting(runc) as checkpoint:
        running = asyncio.ensure_future(checkpoint.run(20))
        assert await asyncio.to_thread(checkpoint.pages.recv, 100) == b"all pages\n"
        checkpoint.pages.sendall(b"done")
        await running
    assert (runc.parent / "answer").read_text() == "done"


async def test_what_connection_tracking_knew_is_left_out(runc: Path) -> None:
    _script(runc, "mkdir image; cd image; touch netns-ct-10.img netns-exp-10.img core-1.img netns-10.img")
    await _checkpoint(runc)
    assert sorted(path.name for path in (runc.parent / "image").iterdir()) == ["core-1.img", "netns-10.img"]


async def test_criu_does_not_begin_before_it_is_told(runc: Path) -> None:
    _script(runc, "cat > begun < /dev/null", before="touch up")
    async with _waiting(runc) as checkpoint:
        assert (runc.parent / "up").exists()
        assert not (runc.parent / "begun").exists()
        await checkpoint.run(20)
        assert (runc.parent / "begun").exists()


async def test_a_dump_that_is_not_wanted_any_more_never_begins(runc: Path) -> None:
    _script(runc, "touch begun")
    async with _waiting(runc):
        pass
    assert not (runc.parent / "begun").exists()
    assert list((runc.parent / "work").iterdir()) == []


async def test_runc_ends_before_it_is_ready(runc: Path) -> None:
    _script(runc, "", before="echo container is not running >&2; exit 1")
    with pytest.raises(CheckpointFailed, match="container is not running"):
        await _checkpoint(runc)


async def test_a_cancel_before_it_is_ready_leaves_nothing(runc: Path) -> None:
    os.mkfifo(runc.parent / "go")
    _script(runc, "", before="echo $$ > started; read x < go")
    task = asyncio.create_task(_checkpoint(runc))
    async with asyncio.timeout(10):
        while not (runc.parent / "started").exists() or not (runc.parent / "started").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{(runc.parent / 'started').read_text().strip()}").exists()


async def test_a_failure_is_explained_from_the_log(runc: Path) -> None:
    _script(runc, "echo '(00.1) Error (criu/tty.c:9): tty: unknown' > work/dump.log; exit 1")
    with pytest.raises(CheckpointFailed, match="tty: unknown") as caught:
        await _checkpoint(runc)
    assert "terminal" in caught.value.fix


async def test_without_a_log_runcs_own_words_are_told(runc: Path) -> None:
    _script(runc, "echo container does not exist >&2; exit 1")
    with pytest.raises(CheckpointFailed, match="container does not exist"):
        await _checkpoint(runc)


async def test_runc_is_missing(runc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(runc.parent))
    with pytest.raises(CheckpointFailed, match="runc cannot be run"):
        await _checkpoint(runc)


async def test_a_dump_that_takes_too_long_is_killed_with_its_children(runc: Path) -> None:
    _script(runc, "sleep 1000 & echo $! > child; wait")
    with pytest.raises(CheckpointFailed, match="more than"):
        await _checkpoint(runc, timeout_s=0.5)
    child = Path(f"/proc/{(runc.parent / 'child').read_text().strip()}")
    assert not child.exists() or "sleep" not in (child / "cmdline").read_text()


async def test_a_cancel_waits_for_the_dump(runc: Path) -> None:
    os.mkfifo(runc.parent / "go")
    _script(runc, "echo up > started; read x < go; echo done > ended")
    task = asyncio.create_task(_checkpoint(runc))
    deadline = time.monotonic() + 10
    while not (runc.parent / "started").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=0.2)
    assert not done
    await asyncio.to_thread((runc.parent / "go").write_text, "x\n")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (runc.parent / "ended").exists()


async def _cancelled(task: asyncio.Task[None], times: int) -> None:
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await task


async def _begun(file: Path) -> None:
    async with asyncio.timeout(10):
        while not file.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)


async def test_further_cancels_do_not_cut_a_dump_short(runc: Path) -> None:
    """A lost session cancels twice: it ends what listens to it, then what sends over it."""
    _script(runc, "echo > begun; sleep 1; echo > ended")
    task = asyncio.create_task(_checkpoint(runc))
    await _begun(runc.parent / "begun")
    await _cancelled(task, times=3)
    assert (runc.parent / "ended").exists()


async def test_a_dump_that_takes_too_long_may_end_in_order(runc: Path) -> None:
    """CRIU notices that nobody takes its pages any more, and undoes what it did to the processes."""
    _script(runc, "bash -c 'read -u 100 answer; echo undone > undone; exit 1'")
    with pytest.raises(CheckpointFailed, match="more than 0 s"):
        await _checkpoint(runc, timeout_s=0.3)
    assert (runc.parent / "undone").exists()


async def test_what_does_not_end_is_killed(runc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "GIVES_UP_S_MAX", 0.1)
    _script(runc, "echo $$ > begun; exec sleep 60")
    with pytest.raises(CheckpointFailed, match="more than 0 s"):
        await _checkpoint(runc, timeout_s=0.3)
    status = Path(f"/proc/{(runc.parent / 'begun').read_text().strip()}/status")
    assert not status.exists() or "zombie" in status.read_text()


async def test_a_stand_in_that_died_does_not_hide_why(runc: Path) -> None:
    _script(runc, "exit 3")
    async with _waiting(runc) as waiting:
        waiting.pages.close()
        with pytest.raises(CheckpointFailed):
            await waiting.run(20)
