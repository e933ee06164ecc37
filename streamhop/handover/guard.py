"""A process beside the daemon that lets a container go on, frozen or slowed down, if the daemon dies before it is away.

:mod:`.guard_process` waits for the end of its standard input. The daemon's last word there dismisses it; without one
the daemon is gone, and the guard does what :mod:`.taking_over` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .concurrency import concluded
from .failures import plain
from .guard_process import DISMISSED
from .host import Host

log = logging.getLogger("streamhop.handover")

DISMISS_S_MAX = 5.0


@asynccontextmanager
async def guarded(host: Host, move: bytes) -> AsyncIterator[None]:
    """Have a guard watch over ``move`` while the context is open.

    Without one the move goes on: it is a second line behind the daemon's own start.
    """
    command = [
        sys.executable,
        "-m",
        f"{__package__}.guard_process",
        str(host.journal.path),
        str(host.config.run_dir),
        move.hex(),
    ]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        log.warning("move %s goes on without a guard: %s", move.hex()[:8], plain(error))
        yield
        return
    try:
        yield
    finally:
        await concluded(_dismiss(process))


async def _dismiss(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(DISMISS_S_MAX):
            process.stdin.write(DISMISSED)
            await process.stdin.drain()
            process.stdin.close()
            await process.wait()
            return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
