"""The network gate of a container: nothing but loopback passes while it is closed.

Why it exists: the kernel goes on answering for a container that does not run. On the source it acknowledges data that
the dump does not hold, so the gate is closed *before* the container is paused and stays closed until it is removed.
On the target it answers RST for connections not restored yet, so it is closed from the birth of the network namespace
(by the runtime's hook) until GO.

Letting clients of a moved container know at once (addresses that change): after the move is committed, open the
source's gate, then kill the still frozen container. It executes nothing more, but its kernel sends FIN or RST for each
of its connections. Where connections are kept across the move do the contrary: leave the gate closed, disconnect the
network, then remove, so that nothing of the old copy reaches a client.

The gate is a table of the container's network namespace. Containers that share one (``--network container:NAME``)
share the gate. It goes away with the namespace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from .nftgate import Gate, GateError

__all__ = ["GateError", "close_gate", "gate_is_closed", "open_gate"]

T = TypeVar("T")


async def close_gate(pid: int) -> None:
    """Drop all packets but loopback's in the network namespace of process ``pid``. Safe to repeat; atomic.

    :raises GateError: the process is gone, is in the host's namespace, or the kernel lacks nftables.
    """
    await _with_gate(pid, Gate.close_gate)


async def open_gate(pid: int) -> None:
    """Let packets pass again. Safe to repeat.

    :raises GateError: as :func:`close_gate`.
    """
    await _with_gate(pid, Gate.open_gate)


async def gate_is_closed(pid: int) -> bool:
    """Whether the gate of the namespace of process ``pid`` is closed.

    :raises GateError: as :func:`close_gate`.
    """
    return await _with_gate(pid, Gate.is_closed)


async def _with_gate(pid: int, action: Callable[[Gate], T]) -> T:
    """Act on the gate from a thread of its own: entering a namespace is a matter of the whole thread.

    The thread ends afterwards. If it could not come back, no later work would run in the wrong namespace. The action
    itself takes a fraction of a millisecond, but the kernel takes 10 to 30 ms to close a netlink socket that has
    spoken to nftables: nobody waits for that.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def act() -> None:
        try:
            with Gate(pid) as gate:
                outcome.set_result(action(gate))
        except GateError as error:
            outcome.set_exception(error)

    Thread(target=act, name="netgate").start()
    waiting = asyncio.wrap_future(outcome)
    try:
        await asyncio.wait({waiting})
    except asyncio.CancelledError:
        # Half done in the background, it could overtake what the caller does next to undo it.
        await asyncio.wait({waiting})
        waiting.exception()  # looked at, so that asyncio does not log it as forgotten
        raise
    return waiting.result()
