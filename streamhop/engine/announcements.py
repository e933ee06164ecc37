"""The daemon's way to :mod:`.announcing`."""

from __future__ import annotations

import asyncio
import logging
from threading import Thread

from .announcing import Announcer

log = logging.getLogger("streamhop.engine")


async def announce_addresses(pid: int) -> None:
    """Tell the neighbours of a container that its addresses are here. Safe to repeat; nothing hangs on it.

    In a thread of its own, as entering a namespace is a matter of the whole thread.
    """
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def act() -> None:
        try:
            with Announcer(pid) as announcer:
                announcer.announce()
        except OSError as error:
            log.warning("the addresses of process %d could not be announced: %s", pid, error)
        finally:
            loop.call_soon_threadsafe(done.set)

    Thread(target=act, name="announce").start()
    await done.wait()
