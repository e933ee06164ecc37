"""What the code under test takes from its surroundings without being given it: clocks, chance, network gates.

Replaced for the time of a run, here and nowhere else. ``time.time`` jumps at random: no decision may hang on it.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from unittest.mock import patch

from streamhop.engine.netgate import GateError
from streamhop.handover import source_actions

from .machine import Machine
from .world import World


@contextlib.contextmanager
def ambient(world: World, machines: Sequence[Machine]) -> Iterator[None]:
    """Let everything in this context happen in ``world``."""
    chance = random.Random(world.seed ^ 0x5EED)  # noqa: S311 - it has to be reproducible

    async def set_gate(pid: int, *, closed: bool) -> None:
        # A namespace is entered by a thread, which takes a moment.
        await world_sleep(world)
        if not any(machine.docker.set_gate(pid, closed=closed) for machine in machines):
            raise GateError(f"process {pid} is gone")

    async def close_gate(pid: int) -> None:
        await set_gate(pid, closed=True)

    async def open_gate(pid: int) -> None:
        await set_gate(pid, closed=False)

    with (
        patch.object(time, "monotonic", world.loop.time),
        patch.object(time, "time", lambda: chance.uniform(0, 4e9)),
        patch.object(secrets, "token_bytes", chance.randbytes),
        patch.object(secrets, "token_hex", lambda count: chance.randbytes(count).hex()),
        patch.object(secrets, "randbits", chance.getrandbits),
        patch.object(source_actions, "close_gate", close_gate),
        patch.object(source_actions, "open_gate", open_gate),
    ):
        yield


async def world_sleep(world: World) -> None:
    """The moment that a call into the kernel takes."""
    await world.loop.run_in_executor(None, _nothing)


def _nothing() -> None:
    return
