"""Programs that run at points of a move: which are run, what they are told, and what their failure means."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, FakeEngine, host_with, written

from streamhop.handover import hooks
from streamhop.handover.errors import PreflightError
from streamhop.handover.hooks import HookError, before_freeze, hooks_at, pay_hooks
from streamhop.handover.host import Host
from streamhop.handover.journal import Journal
from streamhop.handover.states import Role, State

pytestmark = pytest.mark.root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty directory of hooks."""
    directory = tmp_path / "hooks.d"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture
def host(journal: Journal, tmp_path: Path, place: Path) -> Host:
    made: Any = host_with(FakeEngine("running"), journal, tmp_path)
    return replace(made, config=replace(made.config, hooks_dir=place, hook_s_max=20.0))


def hook(place: Path, point: str, text: str, name: str = "10-it") -> Path:
    (place / point).mkdir(exist_ok=True, mode=0o755)
    path = place / point / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def source(journal: Journal, *states: State) -> Any:
    return written(journal, Role.SOURCE, *states, name="web", container="c", peer="p:1", owes_hooks=True)


async def paid(host: Host, role: Role = Role.SOURCE) -> list[str]:
    """What is told when the hooks that are owed have run."""
    told: list[str] = []
    await pay_hooks(host, MOVE, role, told.append)
    return told


async def test_a_hook_is_told_of_the_move_and_of_little_else(
    host: Host, place: Path, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    hook(place, "before-freeze", f"cat > {tmp_path}/told; env > {tmp_path}/env; pwd >> {tmp_path}/env")
    assert await before_freeze(host, source(journal, State.PRECOPY)) == 1
    assert json.loads((tmp_path / "told").read_text()) == {
        "point": "before-freeze",
        "role": "source",
        "move": MOVE.hex(),
        "epoch": 1,
        "host": "here",
        "peer": "p:1",
        "container": "web",
        "container_id": "c",
        "name_at_target": "web",
        "keeps_connections": False,
    }
    lines = (tmp_path / "env").read_text().splitlines()
    assert lines[-1] == "/"
    names = {line.partition("=")[0] for line in lines[:-1]}
    assert names <= {"PATH", "LANG", "HOME", "PWD", "SHLVL", "_", "OLDPWD", "STREAMHOP_POINT", "STREAMHOP_MOVE"}


async def test_they_run_in_order_and_the_first_that_fails_ends_the_move(
    host: Host, place: Path, journal: Journal, tmp_path: Path
) -> None:
    hook(place, "before-freeze", f"echo one >> {tmp_path}/ran", "10-one")
    hook(place, "before-freeze", f"echo two >> {tmp_path}/ran; printf 'no\\033[2J way' >&2; exit 3", "20-two")
    hook(place, "before-freeze", f"echo three >> {tmp_path}/ran", "30-three")
    with pytest.raises(PreflightError, match=r"20-two ended with 3: no\\x1b\[2J way") as refused:
        await before_freeze(host, source(journal, State.PRECOPY))
    assert (tmp_path / "ran").read_text() == "one\ntwo\n"
    assert refused.value.exit_code == 12


async def test_a_hook_that_takes_too_long_is_ended_with_its_children(
    host: Host, place: Path, journal: Journal, tmp_path: Path
) -> None:
    impatient = replace(host, config=replace(host.config, hook_s_max=0.5))
    hook(place, "before-freeze", f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(PreflightError, match=r"took more than 0\.5 s"):
        await before_freeze(impatient, source(journal, State.PRECOPY))
    assert not await alive(tmp_path / "child")


async def alive(written_by: Path) -> bool:
    """Whether the process whose number is in a file still runs some seconds from now."""
    stat = Path(f"/proc/{written_by.read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        if time.monotonic() > deadline:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_cancel_ends_the_hook(host: Host, place: Path, journal: Journal, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    hook(place, "before-freeze", f"echo $$ > {tmp_path}/started; read x < {tmp_path}/go")
    task = asyncio.create_task(before_freeze(host, source(journal, State.PRECOPY)))
    async with asyncio.timeout(10):
        while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not await alive(tmp_path / "started")


async def test_what_a_hook_leaves_running_elsewhere_holds_nobody_up(
    host: Host, place: Path, journal: Journal, tmp_path: Path
) -> None:
    wait = f"while [ ! -s {tmp_path}/left ]; do sleep 0.05; done"
    hook(place, "before-freeze", f"setsid sh -c 'echo $$ > {tmp_path}/left; exec sleep 1000' &\n{wait}")
    async with asyncio.timeout(10):
        assert await before_freeze(host, source(journal, State.PRECOPY)) == 1
    left = tmp_path / "left"
    async with asyncio.timeout(10):
        while not left.exists() or not left.read_text():  # noqa: ASYNC110 - a shell tells nobody
            await asyncio.sleep(0.01)
    os.kill(int(left.read_text()), 9)


# -- what may be run ---------------------------------------------------------------------------------------------------


def test_only_executables_are_hooks(place: Path) -> None:
    assert hooks_at(place, "after-go") == []
    for name in (".hidden", "old~", "README"):
        hook(place, "after-go", "", name)
    (place / "after-go" / "README").chmod(0o644)
    one, two = hook(place, "after-go", "", "a"), hook(place, "after-go", "", "b")
    assert hooks_at(place, "after-go") == [one, two]


@pytest.mark.parametrize("which", ["hook", "point", "directory"])
@pytest.mark.parametrize(
    ("mode", "owner", "says"), [(0o757, 0, "by others"), (0o775, 0, "by others"), (0o755, 1, "root")]
)
def test_what_others_than_root_could_change_is_not_run(
    place: Path, which: str, mode: int, owner: int, says: str
) -> None:
    path = hook(place, "after-go", "")
    spoilt = {"hook": path, "point": path.parent, "directory": place}[which]
    spoilt.chmod(mode)
    os.chown(spoilt, owner, owner)
    with pytest.raises(HookError, match=says):
        hooks_at(place, "after-go")


def test_a_link_is_no_hook(place: Path, tmp_path: Path) -> None:
    hook(place, "after-go", "")
    (place / "after-go" / "20-link").symlink_to("/bin/true")
    with pytest.raises(HookError, match="no regular file"):
        hooks_at(place, "after-go")


async def test_before_the_freeze_such_a_file_ends_the_move(host: Host, place: Path, journal: Journal) -> None:
    hook(place, "before-freeze", "").chmod(0o777)
    with pytest.raises(PreflightError, match="chmod go-w"):
        await before_freeze(host, source(journal, State.PRECOPY))


# -- what is owed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "states", "ran"),
    [
        (Role.SOURCE, [State.PRECOPY], ""),
        (Role.SOURCE, [State.PRECOPY, State.FREEZING, State.RELEASED], ""),
        (Role.SOURCE, [State.PRECOPY, State.FREEZING, State.RELEASED, State.DONE], "after-done"),
        (Role.SOURCE, [State.PRECOPY, State.ABORTED], "after-abort"),
        (Role.TARGET, [State.RECEIVING, State.PREPARED, State.OWNED], ""),
        (Role.TARGET, [State.RECEIVING, State.PREPARED, State.OWNED, State.OPEN], "after-go"),
        (Role.TARGET, [State.RECEIVING, State.PREPARED, State.REFUSED], ""),
    ],
)
async def test_which_hooks_are_owed_when(
    host: Host, place: Path, journal: Journal, tmp_path: Path, role: Role, states: list[State], ran: str
) -> None:
    for point in ("after-go", "after-done", "after-abort"):
        hook(place, point, f"echo {point} >> {tmp_path}/ran")
    written(journal, role, *states, name="web", peer="p:1", owes_hooks=True)
    for _ in range(2):
        assert await paid(host, role) == []
    assert ((tmp_path / "ran").read_text() if ran else "") == (f"{ran}\n" if ran else "")
    assert (tmp_path / "ran").exists() is bool(ran)


async def test_nothing_is_owed_by_a_move_that_had_no_hooks(
    host: Host, place: Path, journal: Journal, tmp_path: Path
) -> None:
    hook(place, "after-done", f"touch {tmp_path}/ran")
    written(journal, Role.SOURCE, State.DONE, name="web", peer="p:1")
    assert await paid(host) == []
    assert not (tmp_path / "ran").exists()


async def test_a_later_hook_that_fails_is_told_and_the_others_run(
    host: Host, place: Path, journal: Journal, tmp_path: Path
) -> None:
    hook(place, "after-done", "exit 1", "10-bad")
    hook(place, "after-done", f"touch {tmp_path}/ran", "20-good")
    source(journal, State.DONE)
    told = await paid(host)
    assert len(told) == 1
    assert "10-bad ended with 1" in told[0]
    assert (tmp_path / "ran").exists()
    record = journal.latest(MOVE, Role.SOURCE)
    assert record is not None
    assert not record.unsettled


async def test_a_hook_whose_debt_could_not_be_struck_out_runs_again(
    host: Host, place: Path, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(place, "after-done", f"echo x >> {tmp_path}/ran")
    source(journal, State.DONE)
    with monkeypatch.context() as broken:
        broken.setattr(journal, "note", lambda *_, **__: (_ for _ in ()).throw(OSError("disk I/O error")))
        await paid(host)
    assert journal.unsettled() != []
    await paid(host)
    assert (tmp_path / "ran").read_text() == "x\nx\n"
    assert journal.unsettled() == []


def test_without_a_directory_nothing_is_owed(host: Host, tmp_path: Path) -> None:
    assert hooks.owed(host) == {"owes_hooks": True}
    assert hooks.owed(replace(host, config=replace(host.config, hooks_dir=tmp_path / "none"))) == {}
