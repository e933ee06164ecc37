"""Freezes a container where it can be dumped: not while one of its processes waits in a vfork for another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Sequence

from streamhop.engine.docker import Engine
from streamhop.engine.processes import ProcessRef
from streamhop.telemetry.events import EventLog

from .concurrency import uninterrupted
from .errors import MoveError
from .means import Means
from .preflight import SourceContainer
from .source_actions import freeze, thaw

FREEZES_MAX = 20
FREEZING_S_MAX = 5.0
"""How often, and for how long, it is tried. A program that does nothing but vfork is caught in it one time in ten."""

VFORK_S_MAX = 0.05
"""How long it may go on meanwhile: a vfork mostly takes less than a millisecond."""

VFORK_LOOKED_AT_S = 0.002


async def freeze_to_dump(
    engine: Engine, container: SourceContainer, means: Means, events: EventLog, note: Callable[[bool], None]
) -> Sequence[ProcessRef] | None:
    """Close the gate and pause the container, again if need be, until it can be dumped; returns its processes.

    It goes on, with its gate open, for a moment between two attempts: with a closed one what it says would be lost,
    and be said again only after a time-out of its own.

    A caller that is cancelled waits for what Docker is about: it could take effect after the thaw.

    :param note: told True before each freeze, False before the container goes on.
    :returns: None if somebody else had paused it.
    :raises MoveError: it could not be caught at another moment. It is left frozen, as whatever else fails leaves it.
    """
    began = time.monotonic()
    for attempt in itertools.count(1):
        note(True)
        if not await uninterrupted(freeze(engine, container.id, container.init_pid)):
            return None
        processes = await means.processes(container.init_pid)
        caught = await means.sharing_memory(processes)
        if not caught:
            return processes
        took_s = time.monotonic() - began
        if attempt == FREEZES_MAX or took_s >= FREEZING_S_MAX:
            break
        note(False)
        await uninterrupted(thaw(engine, container.id))
        events.emit("remark", text=f"frozen in the middle of a vfork ({_told(caught)}); freezing it again")
        await _until_over(means, processes)
    raise MoveError(
        f"it was frozen {attempt} times in {took_s:.1f} s, each time in the middle of a vfork ({_told(caught)}), where "
        "it cannot be dumped",
        "try again when it starts fewer programs",
    )


def _told(caught: Sequence[tuple[ProcessRef, ProcessRef]]) -> str:
    above, child = caught[0]
    return f"process {above.ns_pid} waits for its child {child.ns_pid}"


async def _until_over(means: Means, processes: Sequence[ProcessRef]) -> None:
    """Wait until the vforks that were caught are over, or for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(VFORK_S_MAX):
            while await means.sharing_memory(processes):  # noqa: ASYNC110 - only the kernel knows
                await asyncio.sleep(VFORK_LOOKED_AT_S)
