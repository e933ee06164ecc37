"""At the source: what becomes of the volumes of a container that runs elsewhere now.

They go with it, for two copies of one's data are one too many, of which only one is kept up. They go last: not before
the target has said ``done``, and that all is on its disk. Until then a target that loses power loses nothing that is
not here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from streamhop.engine.docker import Conflict, NotFound

from .host import Host, MoveJournal
from .states import OWES_VOLUMES

log = logging.getLogger("streamhop.handover")

VOLUMES = "volumes"
"""Detail of a source's record: volumes to be removed after the move, and when each was made, in Docker's words."""


def owed_volumes(volumes: Mapping[str, str] | None) -> dict[str, Any]:
    """What a record of DONE says of them."""
    return {OWES_VOLUMES: dict(volumes)} if volumes else {}


async def end_volumes(host: Host, journal: MoveJournal, volumes: Mapping[str, str] | None, *, synced: bool) -> None:
    """Remove the volumes of a container that has gone; one that others use by now stays. Safe to repeat.

    :param synced: whether the target has said that what is in them is on its disk; else they stay, and nothing is owed.
    :raises EngineError: Docker would not.
    :raises sqlite3.Error: the journal could not be written.
    """
    if not volumes:
        return
    if synced:
        for name, made in volumes.items():
            await _remove(host, name, made)
    else:
        log.warning("volumes stay, the target has not said that they are on its disk: %s", ", ".join(volumes))
    await journal.note(**{OWES_VOLUMES: None})


async def _remove(host: Host, name: str, made: str) -> None:
    with contextlib.suppress(NotFound):
        if (await host.engine.inspect_volume(name)).get("CreatedAt", "") != made:
            return  # another one, which somebody has made since
        try:
            await host.engine.remove_volume(name)
        except Conflict as error:
            log.warning("the volume %s of a container that was moved away stays: %s", name, error)
