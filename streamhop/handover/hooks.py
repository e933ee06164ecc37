"""Programs of the operator's that run at named points of a move: for addresses, load balancers, names.

They are the executables in ``<hooks_dir>/<point>/``, run one after the other in the order of their names, with the move
as JSON on standard input:

* ``before-freeze`` (source): all is ready; the container still runs. One that fails ends the move (exit code 12).
* ``after-go`` (target): the container runs here.
* ``after-done`` (source): it runs there, and the copy here is gone.
* ``after-abort`` (source): it goes on here, after ``before-freeze`` was begun.

All but the first cannot change what has happened: a failure is told, no more. The journal owes them once
``before-freeze`` was begun, or the container started: after a crash they run when the daemon starts, and **one may run
twice**. So each has to bear that.

They run as the daemon does, as root: only what root alone can change is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .concurrency import concluded, in_worker
from .errors import PreflightError
from .failures import EXPECTED, plain
from .host import Host
from .journal import Record
from .states import KEEPS_CONNECTIONS, OWES_HOOKS, Role, State

log = logging.getLogger("streamhop.handover")

BEFORE_FREEZE, AFTER_GO, AFTER_DONE, AFTER_ABORT = "before-freeze", "after-go", "after-done", "after-abort"

HOOKS_MAX = 64
_TOLD_BYTES_MAX = 2000
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/"}

_OWED = {
    (Role.SOURCE, State.DONE): AFTER_DONE,
    (Role.SOURCE, State.ABORTED): AFTER_ABORT,
    (Role.TARGET, State.OPEN): AFTER_GO,
    (Role.TARGET, State.DONE): AFTER_GO,
}
"""What a record that owes hooks owes in which state."""


class HookError(Exception):
    """A hook failed, or is none that this host runs; the text says which and why."""


def hooks_at(hooks_dir: Path, point: str) -> list[Path]:
    """The hooks of a point in their order; blocks for a moment.

    Files that are not executable, and those whose name begins with a dot or ends with ``~``, are none.

    :raises HookError: somebody else than root could change one, or there are too many.
    :raises OSError: they cannot be looked at.
    """
    directory = hooks_dir / point
    if not directory.is_dir():
        return []
    for place in (directory, *directory.absolute().parents):
        _check_alone(place, sticky=place != directory and place != hooks_dir)
    found = []
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise HookError(f"{path} is no regular file")
        if mode & stat.S_IXUSR:
            _check_alone(path, sticky=False)
            found.append(path)
    if len(found) > HOOKS_MAX:
        raise HookError(f"{directory} has {len(found)} hooks, at most {HOOKS_MAX} are run")
    return found


def _check_alone(path: Path, *, sticky: bool) -> None:
    """:param sticky: whether others may write to a directory in which each can only touch what is his."""
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise HookError(f"{path} belongs to another user than root")
    if found.st_mode & _OTHERS_MAY_WRITE and not (sticky and found.st_mode & stat.S_ISVTX):
        raise HookError(f"{path} can be written to by others: chmod go-w it")


def wanted(host: Host) -> bool:
    """Whether this host has any hooks at all."""
    return host.config.hooks_dir.is_dir()


def owed(host: Host) -> dict[str, bool]:
    """The detail of a record that owes its hooks from now on."""
    return {OWES_HOOKS: True} if wanted(host) else {}


async def before_freeze(host: Host, record: Record) -> int:
    """Run the hooks that may end the move; returns how many ran.

    :param record: of the move, which owes its later hooks by now.
    :raises PreflightError: one failed; those after it did not run.
    """
    try:
        hooks = await in_worker(hooks_at, host.config.hooks_dir, BEFORE_FREEZE)
        for hook in hooks:
            await _run(host, hook, _facts(host, record, BEFORE_FREEZE))
    except (HookError, OSError) as error:
        raise PreflightError(
            f"a hook before the freeze: {plain(error)}", f"mend it, or take it out of {host.config.hooks_dir}"
        ) from error
    return len(hooks)


async def pay_hooks(host: Host, move: bytes, role: Role, tell: Callable[[str], None]) -> None:
    """Run what a move's newest record owes, and write down that it ran. Nothing that goes wrong is raised.

    :param tell: gets a word about each hook that failed.
    """
    try:
        record = await in_worker(host.journal.latest, move, role)
        point = record and record.details.get(OWES_HOOKS) and _OWED.get((role, record.state))
        if record is None or not point:
            return
        for trouble in await _run_all(host, record, point):
            log.warning("move %s: %s", move.hex()[:8], trouble)
            tell(trouble)
        await in_worker(host.journal.note, move, role, **{OWES_HOOKS: None})
    except EXPECTED as error:
        log.warning("move %s still owes its hooks: %s", move.hex()[:8], plain(error))


async def _run_all(host: Host, record: Record, point: str) -> Sequence[str]:
    try:
        hooks = await in_worker(hooks_at, host.config.hooks_dir, point)
    except (HookError, OSError) as error:
        return [f"no hook {point} ran: {plain(error)}"]
    troubles = []
    for hook in hooks:
        try:
            await _run(host, hook, _facts(host, record, point))
        except (HookError, OSError) as error:
            troubles.append(f"a hook {point} failed: {plain(error)}")
    return troubles


def _facts(host: Host, record: Record, point: str) -> dict[str, Any]:
    """What a hook is told on standard input."""
    details = record.details
    name = details.get("name")
    return {
        "point": point,
        "role": record.role.value,
        "move": record.move.hex(),
        "epoch": record.epoch,
        "host": host.config.name,
        "peer": host.peers.name_of(str(details.get("peer"))),
        "container": name,
        "container_id": details.get("container"),
        "name_at_target": details.get("new_name", name),
        "keeps_connections": bool(details.get(KEEPS_CONNECTIONS)),
    }


async def _run(host: Host, hook: Path, facts: dict[str, Any]) -> None:
    """
    :raises HookError: it failed, or took too long.
    :raises OSError: it cannot be run.
    """
    # Files, not pipes: whatever a hook leaves running may keep them open, and nobody waits for that.
    told, said = os.memfd_create("told"), os.memfd_create("said")
    try:
        os.write(told, json.dumps(facts).encode() + b"\n")
        os.lseek(told, 0, os.SEEK_SET)
        process = await asyncio.create_subprocess_exec(
            str(hook),
            stdin=told,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=said,
            cwd="/",
            env={**_ENVIRONMENT, "STREAMHOP_POINT": facts["point"], "STREAMHOP_MOVE": facts["move"]},
            start_new_session=True,
        )
        ending = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait({ending}, timeout=host.config.hook_s_max)
            if not ending.done():
                raise HookError(f"{hook} took more than {host.config.hook_s_max:g} s")
        finally:
            # What it has left in its session goes with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await concluded(_end_of(ending))
        if process.returncode:
            words = ascii(os.pread(said, _TOLD_BYTES_MAX, 0).decode(errors="replace").strip())[1:-1]
            raise HookError(f"{hook} ended with {process.returncode}{f': {words}' if words else ''}")
    finally:
        os.close(told)
        os.close(said)


async def _end_of(ending: asyncio.Future[int]) -> None:
    await asyncio.wait({ending})
