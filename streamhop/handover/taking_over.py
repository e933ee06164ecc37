"""What a guard does when its daemon is gone: what the daemon would do at its next start, see :mod:`.settling_here`.

ABORTED is made durable, then the container is thawed, and has the CPU quota back that it had. A container that was
released is not thawed: then only the peer's word counts.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path

from streamhop.config import Config
from streamhop.engine.docker import Engine
from streamhop.engine.restores import RestoreServer
from streamhop.identity import PeerBook
from streamhop.peering import PeerDirectory

from .failures import EXPECTED, plain
from .host import Host, kept_content
from .journal import Journal, Record
from .settling_here import settle_here
from .states import OWES_CPU, Role, State

log = logging.getLogger("streamhop.guard")

RETRY_S = 1.0
ATTEMPTS_MAX = 600
"""Docker may be restarting; after ten minutes a person has to look anyway."""


async def take_over(host: Host, move: bytes) -> None:
    """Do what the daemon can no longer do.

    :raises EngineError: Docker would not; repeat it. So too for the others that :func:`settle_here` raises.
    """
    record = await asyncio.to_thread(host.journal.latest, move, Role.SOURCE)
    if record is None or not _left_changed(record):
        return
    log.warning("move %s: the daemon is gone, the container goes on here", move.hex()[:8])
    await settle_here(host, record)


def _left_changed(record: Record) -> bool:
    """Whether the container may be frozen, or slowed down."""
    return record.state is State.FREEZING or bool(record.details.get("owes_thaw") or record.details.get(OWES_CPU))


def take_over_alone(journal_path: str, run_dir: str, move: bytes) -> int:
    """:func:`take_over` in a process of its own, until it succeeds; returns what that exits with."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return asyncio.run(_take_over(Path(journal_path), Path(run_dir), move))


async def keep_taking_over(host: Host, move: bytes) -> int:
    """:func:`take_over` until it succeeds; returns what the guard exits with."""
    for _ in range(ATTEMPTS_MAX):
        try:
            await take_over(host, move)
        except EXPECTED as error:
            log.error("move %s: the container could not be given back yet: %s", move.hex()[:8], plain(error))
            await asyncio.sleep(RETRY_S)
        else:
            return 0
    return 1


async def _take_over(journal_path: Path, run_dir: Path, move: bytes) -> int:
    config = replace(Config(), run_dir=run_dir, plaintext=True)
    journal = Journal(journal_path)
    async with Engine() as engine:
        peers = PeerDirectory(config, None, PeerBook(run_dir / "none"))
        host = Host(config, engine, journal, RestoreServer(run_dir), peers, kept_content(config))
        return await keep_taking_over(host, move)
