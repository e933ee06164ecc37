"""What one host alone can do to bring a move to its end, from what its journal says. See :mod:`.states`.

The same steps serve a move that has just failed and one that a daemon finds when it starts. Each is safe to repeat.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamhop.engine.docker import NotFound

from .concurrency import in_worker
from .host import Host, MoveJournal
from .journal import Record
from .source_actions import allow_restart, thaw
from .states import Role, State
from .target_actions import has_started, remove_never_started, remove_remains

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
    journal = MoveJournal(host.journal, record.move, record.role, record.epoch, record.state)
    await (_settle_source if record.role is Role.SOURCE else _settle_target)(host, record, journal)
    newest = await journal.latest()
    return newest or record


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
        await journal.enter(State.ABORTED)
    elif record.state is State.FREEZING:
        owes_thaw = True
        await journal.enter(State.ABORTED, owes_thaw=True, owes_abort=True)
    if owes_thaw:
        await _thaw(host, record)
        await journal.note(owes_thaw=False)
    if journal.state in (State.ABORTED, State.DONE):
        await remove_tree(host.dump_dir(record.move))


async def _thaw(host: Host, record: Record) -> None:
    container = str(record.details["container"])
    try:
        await thaw(host.engine, container)
        await allow_restart(host.engine, container, restart_policy(record))
    except NotFound:
        log.error("move %s: the container that was frozen is gone", record.move.hex()[:8])


def restart_policy(record: Record) -> Mapping[str, Any]:
    """The restart policy that the container had before the move."""
    policy = record.details.get("restart_policy")
    return policy if isinstance(policy, dict) else {}


# -- target ------------------------------------------------------------------------------------------------------------


async def _settle_target(host: Host, record: Record, journal: MoveJournal) -> None:
    container = record.details.get("container")
    if record.state is State.OWNED and container is not None:
        # GO was received, perhaps followed: it may be about to run while we look.
        if not await host.restores.ended(container, RUNTIME_ENDS_S_MAX):
            log.warning("move %s: the runtime has not said how its restore ended", record.move.hex()[:8])
        if await has_started(host.engine, container):
            await journal.enter(State.OPEN, owes_settling_in=True)
    if journal.state is State.OPEN:
        await _settle_in(host, record, journal)
    elif record.state in (State.RECEIVING, State.PREPARED, State.OWNED):
        await _remove(host, record)
        await journal.enter(State.ABORTED if record.state is State.RECEIVING else State.REFUSED)


async def _settle_in(host: Host, record: Record, journal: MoveJournal) -> None:
    """Make it a container like any other."""
    try:
        await allow_restart(host.engine, str(record.details.get("container")), restart_policy(record))
    except NotFound:
        log.warning("move %s: the container that was moved here is gone", record.move.hex()[:8])
    await remove_tree(host.spool(record.move))
    await journal.note(owes_settling_in=False)


async def _remove(host: Host, record: Record) -> None:
    """Remove a container that never ran here, and what was brought for it."""
    container, loaded = record.details.get("container"), record.details.get("image_loaded")
    await remove_remains(host.engine, container, loaded if isinstance(loaded, dict) else {})
    if container is not None:
        host.restores.forget(container)
    elif record.details.get("creating") is not None:
        # The daemon may have ended between creating the container and noting its ID.
        await remove_never_started(host.engine, str(record.details["creating"]), host.config.runtime_name)
    await remove_tree(host.spool(record.move))
