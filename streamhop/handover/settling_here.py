"""What one host alone can do to bring a move to its end, from what its journal says. See :mod:`.states`.

The same steps serve a move that has just failed and one that a daemon finds when it starts. Each is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamhop.engine.docker import EngineError, NotFound

from .brought_images import give_back
from .concurrency import in_worker
from .cpu_debts import give_back as give_back_cpu
from .hooks import owed
from .host import Host, MoveJournal
from .journal import Record
from .moved_volumes import end_volumes
from .source_actions import allow_restart, thaw
from .states import KEEPS_CONNECTIONS, LOST, OWES_CPU, OWES_VOLUMES, SYNCED, Role, State
from .target_actions import has_started, provisional_name, remove_never_started
from .target_mounts import remove_mounts
from .target_networks import remove_networks

log = logging.getLogger("streamhop.handover")

RUNTIME_ENDS_S_MAX = 10.0
"""How long a restore may take to end by itself after the daemon that it waited for has ended."""


async def settle_here(host: Host, record: Record) -> Record:
    """Undo what was not committed, finish what was.

    :param record: the move's newest record.
    :returns: its newest record now. It is settled, unless only the peer can say or has yet to be told.
    :raises EngineError: Docker would not; repeat it later. So too for the others.
    :raises GateError: the network gate could not be opened.
    :raises OSError: what was stored for the move could not be removed.
    :raises sqlite3.Error: the journal could not be written.
    """
    journal = MoveJournal(host.journal, record.move, record.role, record.epoch, record.state, trace=host.trace)
    await (_settle_source if record.role is Role.SOURCE else _settle_target)(host, record, journal)
    newest = await journal.latest()
    return newest or record


def went_down_frozen(host: Host, record: Record) -> bool:
    """Whether this host went down with the container frozen, and has not started it again.

    The target may have been ready, and an operator may have claimed the container there meanwhile.
    """
    frozen = record.state is State.FREEZING or bool(record.details.get("owes_thaw"))
    return record.role is Role.SOURCE and frozen and record.details.get("boot", host.boot) != host.boot


async def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it; nothing happens if there is none.

    :raises OSError: something of it is left.
    """
    if await asyncio.to_thread(path.exists):
        await in_worker(shutil.rmtree, path)


# -- source ------------------------------------------------------------------------------------------------------------


async def _settle_source(host: Host, record: Record, journal: MoveJournal) -> None:
    owes_thaw = bool(record.details.get("owes_thaw"))
    if record.state is State.PRECOPY:
        with contextlib.suppress(OSError):
            # First: nothing is owed by a move that was aborted, not even if writing that down seemed to fail.
            await remove_tree(host.dump_dir(record.move))
        await journal.enter(State.ABORTED)
    elif record.state is State.FREEZING:
        owes_thaw = True
        await _abort_frozen(journal)
    if owes_thaw:
        await _thaw(host, record)
        with contextlib.suppress(OSError):
            # While the debt is on record; what could not be removed is tried again below.
            await remove_tree(host.dump_dir(record.move))
        await journal.note(owes_thaw=False)
    if debt := record.details.get(OWES_CPU):
        # In any state: whether the container goes on here or is about to go, it has no use for a lower one.
        await in_worker(give_back_cpu, host.cpu, debt)
        await journal.note(**{OWES_CPU: None})
    if journal.state in (State.ABORTED, State.DONE):
        await remove_tree(host.dump_dir(record.move))
    if journal.state is State.DONE and not record.details.get("owes_finish"):
        await end_volumes(host, journal, record.details.get(OWES_VOLUMES), synced=bool(record.details.get(SYNCED)))


async def _abort_frozen(journal: MoveJournal) -> None:
    await journal.enter(State.ABORTED, owes_thaw=True, owes_abort=True)


async def abort(host: Host, record: Record) -> Record:
    """Promise that the container of a frozen source goes on here, without letting it.

    :returns: its newest record now, ABORTED.
    :raises sqlite3.Error: the journal could not be written.
    """
    journal = MoveJournal(host.journal, record.move, record.role, record.epoch, record.state, trace=host.trace)
    if record.state is State.FREEZING:
        await _abort_frozen(journal)
    return await journal.latest() or record


async def _thaw(host: Host, record: Record) -> None:
    container = str(record.details["container"])
    try:
        await thaw(
            host.engine,
            container,
            unpause=not record.details.get("paused_by_others"),
            announce=bool(record.details.get(KEEPS_CONNECTIONS)),
        )
        await allow_restart(host.engine, container, restart_policy(record))
    except NotFound:
        log.error("move %s: the container that was frozen is gone", record.move.hex()[:8])


def restart_policy(record: Record) -> Mapping[str, Any]:
    """The restart policy that the container had before the move."""
    policy = record.details.get("restart_policy")
    return policy if isinstance(policy, dict) else {}


# -- target ------------------------------------------------------------------------------------------------------------


async def _settle_target(host: Host, record: Record, journal: MoveJournal) -> None:
    if record.state in (State.RECEIVING, State.PREPARED):
        await _remove(host, record)
        await journal.enter(State.ABORTED if record.state is State.RECEIVING else State.REFUSED)
    elif record.state is State.OWNED and not record.lost:
        await _settle_owned(host, record, journal)
    elif record.details.get("owes_removal"):
        await _remove(host, record)
        await journal.note(owes_removal=False)
    if journal.state is State.OPEN or record.details.get("owes_settling_in"):
        await _make_ordinary(host, record, journal)


async def _settle_owned(host: Host, record: Record, journal: MoveJournal) -> None:
    """GO came. What became of it only Docker can say, and only if the host has not gone down since."""
    if await _may_have_run(host, record):
        await journal.enter(State.OPEN, owes_settling_in=True, **owed(host))
    elif record.details.get("boot", host.boot) != host.boot and not record.details.get("never_started"):
        # It may have run for a moment that is on no disk. What the source holds is older then: not ours to say.
        log.error("move %s: this host went down as the container started, its memory is lost", record.move.hex()[:8])
        await journal.note(**{LOST: True})
    else:
        await journal.note(never_started=True)
        await _remove(host, record)
        await journal.enter(State.REFUSED)


async def _may_have_run(host: Host, record: Record) -> bool:
    """Whether a container for which GO came runs, ran, or cannot be told from one that did.

    :raises EngineError: that cannot be said now.
    """
    if record.details.get("never_started"):
        return False
    container = str(record.details["container"])
    if not await host.restores.ended(container, RUNTIME_ENDS_S_MAX):
        raise EngineError("the runtime has not said how the restore ended")
    if record.details.get("boot", host.boot) == host.boot and host.restores.was_let_go(container):
        # Docker knows nothing of it if it was restarted before it heard.
        return True
    try:
        return await has_started(host.engine, container)
    except NotFound:
        # Nobody here removes it before that is noted: it ran, and its owner has removed it since.
        return True


async def _make_ordinary(host: Host, record: Record, journal: MoveJournal) -> None:
    """Make it a container like any other."""
    try:
        await allow_restart(host.engine, str(record.details.get("container")), restart_policy(record))
    except NotFound:
        log.warning("move %s: the container that was moved here is gone", record.move.hex()[:8])
    if container := record.details.get("container"):
        host.restores.forget(str(container))
    await give_back(host, record.move, keep=True)
    await remove_tree(host.spool(record.move))
    await journal.note(owes_settling_in=False)


async def _remove(host: Host, record: Record) -> None:
    """Remove a container that never ran here, and what was brought for it."""
    container = record.details.get("container")
    if container is None:
        # The daemon may have ended between creating the container and noting its ID.
        await remove_never_started(host.engine, provisional_name(record.move), host.config.runtime_name)
    else:
        with contextlib.suppress(NotFound):
            await host.engine.remove(container, force=True, v=True)
    await remove_mounts(host, record)
    await remove_networks(host, record)
    # Before anything is written down: on a full disk the journal may need the room.
    await in_worker(host.kept.end, host.spool(record.move))
    await give_back(host, record.move, keep=False)
    if container is not None:
        host.restores.forget(container)
