"""``--forward``: after a move this host relays the container's published ports to the target for a while.

A forward is promised before the move and begins once the journal says DONE: the container here is gone then, and its
ports are free. So it begins, too, if a daemon ends in between, or a doubt is settled later. It ends by itself.

It never loops: before a container that publishes one of the ports may start here, the port is yielded to it, for good
if it runs. A cycle of forwards would need a host that the container came to, with a forward of its port.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from streamhop.net.relaying import Port, Relay, relay_of

from .concurrency import in_worker
from .forward_log import Forward
from .journal import Journal
from .states import Role, State

log = logging.getLogger("streamhop.handover")

LOOK_S = 1.0
"""How often it is looked whether a promised forward can begin, or a port is free by now."""

NOTED_S = 60.0
"""How often it is written down what is left: after a boot of the host that is where it goes on."""

_HERE = frozenset({State.OWNED, State.OPEN, State.DONE})
_NOT_HERE = frozenset({State.ABORTED, State.REFUSED})


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Forwards:
    """All forwards of this host.

    :param boot: which boot of the host this is.
    :param clock: seconds since then.
    """

    def __init__(
        self,
        journal: Journal,
        boot: str,
        clock: Callable[[], float] = _boottime,
        make_relay: Callable[[Port, Sequence[str]], Relay] = relay_of,
    ) -> None:
        self._journal = journal
        self._boot = boot
        self._clock = clock
        self._make_relay = make_relay
        self._known: dict[bytes, Forward] = {}
        self._relays: dict[Port, Relay] = {}
        self._owner: dict[Port, bytes] = {}
        self._under_way: set[bytes] = set()
        """Moves whose forward is promised and that this daemon has not ended."""
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._noted_at = clock()

    # -- for moves away --------------------------------------------------------------------------------------------

    async def promise(
        self, move: bytes, container: str, peer: str, hosts: Sequence[str], ports: Sequence[Port], seconds: float
    ) -> None:
        """Relay ``ports`` for ``seconds`` once the move is done. Call :meth:`ended` when it has ended anyhow.

        :raises sqlite3.Error: the promise could not be written down.
        """
        self._under_way.add(move)
        await self._put(Forward(move, container, peer, tuple(hosts), tuple(ports), seconds))

    def ended(self, move: bytes) -> None:
        """This daemon's part of a move is over: from now on the journal says what becomes of its forward."""
        self._under_way.discard(move)
        self._changed.set()

    # -- for moves to here -----------------------------------------------------------------------------------------

    def holds(self, port: int, protocol: str) -> bool:
        """Whether a port is taken here by a forward, and will be yielded."""
        return any((held.port, held.protocol) == (port, protocol) for held in self._relays)

    async def yield_ports(self, ports: Iterable[tuple[str, int, str]], move: bytes) -> None:
        """Leave ports to the container that ``move`` brings; they come back if it does not start here.

        :param ports: addresses, numbers and protocols.
        :raises sqlite3.Error: that could not be written down; nothing was done.
        """
        if not self._known:
            return
        wanted = {(number, protocol) for _, number, protocol in ports}
        async with self._lock:
            for forward in list(self._known.values()):
                hit = [port for port in forward.open_ports if (port.port, port.protocol) in wanted]
                if hit:
                    await self._put(replace(forward, yielded=(*forward.yielded, *((port, move) for port in hit))))
                    for port in hit:
                        await self._close(port)

    # -- for people ------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, object]]:
        """Every forward, as the control API shows it."""
        return [
            {
                "id": forward.move.hex(),
                "container": forward.container,
                "peer": forward.peer,
                "begun": forward.begun,
                "left_s": round(self._left_s(forward), 1),
                "ports": [
                    {
                        "port": str(port),
                        "open": self._owner.get(port) == forward.move,
                        "active": self._relays[port].active if self._owner.get(port) == forward.move else 0,
                    }
                    for port in forward.ports
                ],
            }
            for forward in self._known.values()
        ]

    def _left_s(self, forward: Forward) -> float:
        return max(0.0, forward.left(self._clock(), self._boot)) if forward.begun else forward.left_s

    def find(self, text: str) -> list[bytes]:
        """The moves of forwards whose ID begins so."""
        return [move for move in self._known if move.hex().startswith(text)]

    async def stop(self, move: bytes) -> None:
        """End a forward; its connections end, too.

        :raises sqlite3.Error: it would come back with the next daemon; nothing was done.
        """
        async with self._lock:
            await self._end(move)

    # -- the daemon's own ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take up what earlier daemons promised, and see to all forwards until cancelled."""
        while True:
            try:
                for forward in await in_worker(self._journal.forwards.all):
                    self._known.setdefault(forward.move, forward)
                break
            except sqlite3.Error as error:
                log.warning("the forwards cannot be read yet: %s", error)
                await asyncio.sleep(LOOK_S)
        try:
            while True:
                try:
                    async with self._lock:
                        await self.look()
                except sqlite3.Error as error:
                    log.warning("forwards: %s", error)
                await self._wait()
        finally:
            for port in list(self._relays):
                await self._close(port)

    async def _wait(self) -> None:
        """Until something changed; where there is anything to look after, not for long."""
        self._changed.clear()
        try:
            async with asyncio.timeout(LOOK_S if self._known else None):
                await self._changed.wait()
        except TimeoutError:
            return

    async def look(self) -> None:
        """Do for each forward what the journal and the clock say.

        :raises sqlite3.Error: the journal does not answer.
        """
        now = self._clock()
        note = now - self._noted_at >= NOTED_S
        for forward in list(self._known.values()):
            current = forward
            if not current.begun:
                if not await self._may_begin(current):
                    continue
                current = replace(current, begun=True, at_s=now, boot=self._boot)
                log.info("move %s: its ports are relayed to %s", current.move.hex()[:8], current.peer)
            if current.left(now, self._boot) <= 0:
                log.info("move %s: its ports are relayed no more", current.move.hex()[:8])
                await self._end(current.move)
                continue
            current = await self._settle_yielded(current)
            if not current.ports:
                await self._end(current.move)
                continue
            if note or current.boot != self._boot:
                current = replace(current, left_s=current.left(now, self._boot), at_s=now, boot=self._boot)
            if current != forward:
                await self._put(current)
            for port in current.open_ports:
                await self._open(port, current)
        if note:
            self._noted_at = now

    async def _may_begin(self, forward: Forward) -> bool:
        """Whether the container is gone; a forward of one that stays is forgotten."""
        if forward.move in self._under_way:
            return False
        record = await in_worker(self._journal.latest, forward.move, Role.SOURCE)
        if record is None or record.state is State.ABORTED:
            await self._end(forward.move)
            return False
        return record.state is State.DONE

    async def _settle_yielded(self, forward: Forward) -> Forward:
        """What became of the containers that ports were yielded to."""
        for port, move in forward.yielded:
            record = await in_worker(self._journal.latest, move, Role.TARGET)
            if record is not None and record.state in _HERE:
                forward = forward.without({port})
            elif record is None or record.state in _NOT_HERE:
                forward = replace(forward, yielded=tuple(entry for entry in forward.yielded if entry[0] != port))
        return forward

    async def _put(self, forward: Forward) -> None:
        await in_worker(self._journal.forwards.put, forward)
        self._known[forward.move] = forward
        self._changed.set()

    async def _end(self, move: bytes) -> None:
        await in_worker(self._journal.forwards.remove, move)
        self._known.pop(move, None)
        for port in [port for port, owner in self._owner.items() if owner == move]:
            await self._close(port)

    async def _open(self, port: Port, forward: Forward) -> None:
        owner = self._owner.get(port)
        if owner == forward.move or (owner is not None and owner in self._known):
            return
        relay = self._make_relay(port, forward.hosts)
        try:
            await relay.open()
        except OSError as error:
            # Docker may not have let go of it yet.
            log.debug("port %s cannot be relayed yet: %s", port, error)
            return
        self._relays[port], self._owner[port] = relay, forward.move

    async def _close(self, port: Port) -> None:
        self._owner.pop(port, None)
        relay = self._relays.pop(port, None)
        if relay is not None:
            await relay.close()
