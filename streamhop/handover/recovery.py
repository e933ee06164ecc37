"""What a daemon does at its start about moves that were under way. See :mod:`.states` for the promises."""

from __future__ import annotations

import asyncio
import logging
import shutil

from streamhop.engine.docker import EngineError, NotFound

from .failures import EXPECTED
from .host import Host, MoveJournal
from .journal import Record
from .settling import restart_policy
from .source_actions import allow_restart, thaw
from .states import Role, State
from .target_actions import remove_remains, runs

log = logging.getLogger("streamhop.handover")


async def recover(host: Host) -> list[Record]:
    """Undo what was not committed and keep what was.

    :returns: moves that only the peer's answer can end (see :mod:`.settling`).
    """
    unsettled = []
    for record in await asyncio.to_thread(host.journal.unfinished):
        try:
            if record.role is Role.TARGET:
                await _recover_target(host, record)
            elif (kept := await _recover_source(host, record)) is not None:
                unsettled.append(kept)
        except EXPECTED as error:
            log.error("move %s (%s) could not be recovered: %s", record.move.hex()[:8], record.state.value, error)
    return unsettled


async def _recover_source(host: Host, record: Record) -> Record | None:
    journal = MoveJournal(host.journal, record.move, record.role, record.epoch, record.state)
    if record.state is State.PRECOPY:
        await journal.enter(State.ABORTED)
        return None
    if record.state is State.FREEZING:
        await journal.enter(State.ABORTED, owes_abort=True)
        container = str(record.details["container"])
        try:
            await thaw(host.engine, container)
            await allow_restart(host.engine, container, restart_policy(record))
        except NotFound:
            log.error("move %s: the container that was frozen is gone", record.move.hex()[:8])
        await asyncio.to_thread(shutil.rmtree, host.dump_dir(record.move), ignore_errors=True)
        return await asyncio.to_thread(host.journal.latest, record.move, record.role)
    return record


async def _recover_target(host: Host, record: Record) -> None:
    journal = MoveJournal(host.journal, record.move, record.role, record.epoch, record.state)
    container = record.details.get("container")
    if record.state is State.OPEN:
        return
    if record.state is State.OWNED and container is not None and await runs(host.engine, container):
        await journal.enter(State.OPEN)
        return
    # The restore that waited for GO ended with the daemon that it waited for.
    loaded = record.details.get("image_loaded")
    await remove_remains(host.engine, container, loaded if isinstance(loaded, list) else [])
    if container is None and record.details.get("creating") is not None:
        await _remove_never_started(host, str(record.details["creating"]))
    await asyncio.to_thread(shutil.rmtree, host.spool(record.move), ignore_errors=True)
    await journal.enter(State.ABORTED if record.state is State.RECEIVING else State.REFUSED)


async def _remove_never_started(host: Host, name: str) -> None:
    """The daemon may have ended between creating a container and noting its ID."""
    try:
        found = await host.engine.inspect_container(name)
    except NotFound:
        return
    ours = found["HostConfig"]["Runtime"] == host.config.runtime_name and found["State"]["Status"] == "created"
    if not ours:
        return
    try:
        await host.engine.remove(found["Id"], force=True)
    except EngineError as error:
        log.warning("the container %s, made for a move that failed, could not be removed: %s", name, error)
