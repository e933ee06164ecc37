"""Which container is meant, and whether it is still the one that was looked at.

What is in the way of a move is found by :mod:`.source_checks` and :mod:`.target_checks`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamhop.engine.docker import Engine, NotFound
from streamhop.findings import Finding, found

from .errors import (
    EndedError,
    InDoubtError,
    MoveError,
    NotRunningError,
    PausedError,
    PreflightError,
    StillFrozenError,
)
from .failures import plain
from .host import Host
from .journal import Record
from .manifest import Manifest
from .states import OWES_CPU, State


@dataclass(frozen=True, slots=True)
class SourceContainer:
    """The container to move, as the preflight found it."""

    id: str
    name: str
    init_pid: int
    runtime: str
    restart_policy: Mapping[str, Any]
    trees: Mapping[str, Path]
    """Where each tree of the container is on this host."""

    manifest: Manifest
    warnings: Sequence[Finding] = ()
    """What a move goes ahead with all the same."""

    volumes: Mapping[str, str] = field(default_factory=dict)
    """Volumes to be removed here once it runs at the target, and when each was made, in Docker's words."""


async def find_container(host: Host, container: str) -> dict[str, Any]:
    """The container that a user means, if no earlier move has a say in it.

    :param container: name or ID as the user wrote it.
    :returns: what ``docker inspect`` prints about it.
    :raises NotRunningError: there is none.
    :raises MoveError: an earlier move of it is not settled; the error says where the container runs.
    :raises EngineError: Docker does not answer.
    """
    try:
        details = await host.engine.inspect_container(container)
    except NotFound:
        raise NotRunningError(f"there is no container {container!r}", "`streamhop ps` lists what runs here") from None
    for record in await asyncio.to_thread(host.journal.unsettled):
        if record.details.get("container") == details["Id"]:
            _refuse_unsettled(record)
    return details


def _refuse_unsettled(record: Record) -> None:
    if record.state is State.RELEASED:
        raise InDoubtError(
            "an earlier move of it is in doubt: GO was sent and the peer has not confirmed it", record.move
        )
    if record.state is State.FREEZING or record.details.get("owes_thaw"):
        raise StillFrozenError("an earlier move of it was aborted, and it is not thawed yet")
    if record.state in (State.PRECOPY, State.RECEIVING, State.PREPARED, State.OWNED):
        raise _busy("it is being moved already", "wait for that move, or cancel it")
    if record.details.get("owes_settling_in"):
        raise _busy("it has just come from another host, and is not settled in yet", "try again in a moment")
    if record.details.get(OWES_CPU):
        raise _busy("an earlier move of it has its CPU quota yet to give back", "try again in a moment")


def _busy(reason: str, fix: str) -> PreflightError:
    return PreflightError.of_several([found("container.moving", reason, fix)])


async def check_cpu_quota(host: Host, container: SourceContainer) -> None:
    """Whether the container can be slowed down while it is moved.

    :raises PreflightError: its CPU quota cannot be lowered here.
    """
    try:
        await asyncio.to_thread(host.cpu.find, container.id, container.init_pid)
    except OSError as error:
        finding = found(
            "host.cpu-quota", f"its CPU quota cannot be lowered: {plain(error)}", "move it without --auto-converge"
        )
        raise PreflightError.of_several([finding]) from error


async def check_still_runs(engine: Engine, container: str, init_pid: int) -> None:
    """Look again, between rounds: nothing else tells that somebody has paused or stopped the container.

    :raises PausedError: it is paused; it is left so.
    :raises EndedError: it has ended, or is gone.
    :raises MoveError: it is another run of it: what was read of it until now is of no use.
    :raises EngineError: Docker does not answer.
    """
    try:
        state = (await engine.inspect_container(container))["State"]
    except NotFound:
        raise EndedError("it was removed here while it was being moved") from None
    if not state["Running"]:
        raise EndedError("it ended here while it was being moved", "docker ps -a shows how")
    if state["Paused"]:
        raise paused_by_others()
    if state["Pid"] != init_pid:
        raise MoveError("it was restarted here while it was being moved", "try again")


def paused_by_others() -> PausedError:
    """What a move ends with when somebody pauses the container meanwhile."""
    return PausedError("somebody paused it while it was being moved", "docker unpause it, then try again")
