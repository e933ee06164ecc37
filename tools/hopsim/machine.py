"""A host: power, a disk, dockerd, the daemon under test with its guards, and what restarts them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from streamhop.config import Address, Config
from streamhop.handover.concurrency import concluded
from streamhop.handover.failures import EXPECTED
from streamhop.handover.host import Host, kept_content
from streamhop.handover.journal import Journal, Record
from streamhop.handover.moves import Moves
from streamhop.handover.operations import MoveRequest, Operation
from streamhop.handover.settling import recover
from streamhop.handover.taking_over import keep_taking_over
from streamhop.net import PeerSession
from streamhop.peering import PeerTarget

from .content import SimulatedMeans
from .cpu import SimulatedCpuQuotas
from .disk import new_database
from .docker import Client, Docker
from .loop import PROCESS, Process
from .network import Network
from .restores import Restores, Runtime
from .service import Image
from .world import World

T = TypeVar("T")
P = ParamSpec("P")


class Peers:
    """What the handover takes for a :class:`streamhop.peering.PeerDirectory`; peers are called as their hosts."""

    def __init__(self, network: Network, process: Process, here: str) -> None:
        self._network = network
        self._process = process
        self._here = here

    def find(self, text: str) -> PeerTarget:
        """See :meth:`PeerDirectory.find`."""
        host = text.partition(":")[0]
        return PeerTarget(host, (Address(host),))

    def name_of(self, reference: str) -> str:
        """See :meth:`PeerDirectory.name_of`."""
        return reference

    async def dial(self, target: PeerTarget, connections: int, limit: float | None = None) -> PeerSession:
        """See :meth:`PeerDirectory.dial`."""
        return cast("PeerSession", await self._network.dial(self._process, self._here, target.name))


class Daemon(Process):
    """One incarnation of the daemon."""

    moves: Moves | None = None
    stop: asyncio.Event


class Guard(Process):
    """Watches over one move of a daemon."""

    def __init__(self, name: str, daemon: Process, move: bytes) -> None:
        super().__init__(name)
        self.daemon = daemon
        self.move = move


class Machine:
    """See the module.

    :param directory: of its own; empty.
    """

    def __init__(self, world: World, network: Network, name: str, directory: Path, *, live_restore: bool) -> None:
        self.world = world
        self.network = network
        self.name = name
        self.on = True
        self.database = new_database()
        self.database.written = self._written
        self.config = replace(
            Config(), name=name, state_dir=directory / "state", run_dir=directory / "run", plaintext=True
        )
        for place in (self.config.state_dir, self.config.run_dir):
            place.mkdir(parents=True, exist_ok=True)
        self.images: dict[Path, Image] = {}
        self.runtime = Runtime(world, name, self.images)
        self.docker = Docker(world, name, self.runtime, live_restore=live_restore)
        self.daemon: Daemon | None = None
        self.guards: list[Guard] = []
        self.disk_full = False
        self.slow_disk = False
        self.content_faults: set[str] = set()
        self.states: dict[str, str] = {"source": "-", "target": "-"}
        """The state that the journal's newest record has, by role."""

        self.on_record: Callable[[str, str], None] = lambda *_: None
        """Told the role and state of each record that got into the journal."""

        self.boots = 0
        self._seen: tuple[int, list[Record]] = (-1, [])
        self._incarnations = 0

    def _written(self, role: str, state: str) -> None:
        self.states[role] = state
        self.world.trace(f"{self.name}: journal: {role} is {state}")
        self.on_record(role, state)
        if self.world.on_record is not None:
            self.world.on_record(self.name, role, state)

    @property
    def records(self) -> list[Record]:
        """What the journal says, to somebody who looks from outside."""
        writes = self.database.writes
        if self._seen[0] != writes:
            self._seen = writes, self.journal().all()
        return self._seen[1]

    def journal(self) -> Journal:
        """The journal, as whoever opens it finds it."""
        return Journal(self.config.state_dir / "journal.sqlite", self.database)

    # -- the daemon ------------------------------------------------------------------------------------------------

    def _new_process(self, process: Process) -> None:
        world = self.world

        def blocking(name: str) -> float | Exception:
            if self.disk_full and ("mkdir" in name or "open" in name):
                return OSError(28, "No space left on device")
            usual_s = 0.004 if name in ("Journal.record", "Journal.note") else 0.0005
            return world.lasts(usual_s, 1.0 if self.slow_disk else 0.05, 0.3 if self.slow_disk else 0.02)

        process.blocking = blocking
        process.stepped = lambda what: world.step(process, what)

    def start_daemon(self) -> None:
        """The daemon starts, unless it runs or the power is off."""
        if not self.on or (self.daemon is not None and self.daemon.alive):
            return
        self._incarnations += 1
        daemon = self.daemon = Daemon(f"{self.name}#{self._incarnations}")
        self._new_process(daemon)
        self.world.trace(f"{daemon.name} starts")
        self.world.loop.spawn(daemon, self._run(daemon))

    def _host(self, process: Process) -> Host:
        fakes: Any = (
            Client(self.docker, process),
            Restores(self.runtime, process),
            Peers(self.network, process, self.name),
        )
        boot = f"{self.name}, boot {self.boots}"
        kept, cpu = kept_content(self.config), SimulatedCpuQuotas(self.docker, self.content_faults)
        return Host(self.config, fakes[0], self.journal(), fakes[1], fakes[2], kept, boot=boot, cpu=cpu)

    async def _run(self, daemon: Daemon) -> None:
        """As :mod:`streamhop.daemon` runs it."""
        daemon.stop = asyncio.Event()
        host = self._host(daemon)
        unsettled = await recover(host)
        self._remove_stray_files()
        means = SimulatedMeans(
            self.world,
            daemon,
            self.docker,
            self.images,
            lambda move: self._guarded(daemon, move),
            self.content_faults,
        )
        async with asyncio.TaskGroup() as tasks:
            moves = Moves(host, tasks, means)
            for record in unsettled:
                moves.settle(record.move, record.role)
            daemon.moves = moves
            self.network.listeners[self.name] = daemon, moves.on_session
            await daemon.stop.wait()
            self.world.trace(f"{daemon.name} is told to stop")
            moves.stop()
        self._exited(daemon)

    def _remove_stray_files(self) -> None:
        for directory in (self.config.state_dir / "spool", self.config.run_dir / "dumps"):
            shutil.rmtree(directory, ignore_errors=True)

    def _exited(self, process: Process) -> None:
        if not process.alive:
            return
        process.alive = False
        self.world.trace(f"{process.name} is dead")
        self.network.process_died(process)
        self.runtime.daemon_died(process)
        for guard in self.guards:
            if guard.daemon is process:
                self.world.loop.spawn(guard, self._take_over(guard))

    def kill_daemon(self) -> bool:
        """SIGKILL."""
        if self.daemon is None or not self.daemon.alive:
            return False
        self._exited(self.daemon)
        return True

    def move(self, request: MoveRequest, begun: Callable[[Operation], None]) -> Daemon | None:
        """A user asks for a move; returns the daemon that is asked, which calls ``begun``; None if nobody answers."""
        daemon = self.daemon
        if daemon is None or not daemon.alive or daemon.moves is None:
            return None
        moves = daemon.moves

        async def start() -> None:
            with contextlib.suppress(*EXPECTED):
                begun(await moves.start(request))

        self.world.loop.spawn(daemon, start())
        return daemon

    def in_daemon(self, act: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Call ``act`` as the daemon does what its control API is asked for."""
        context = contextvars.Context()
        context.run(PROCESS.set, self.daemon)
        return context.run(act, *args, **options)

    # -- guards ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _guarded(self, daemon: Daemon, move: bytes) -> AsyncIterator[None]:
        """As :func:`streamhop.handover.guard.guarded`: a process that acts when the daemon is gone without a word."""
        guard = Guard(f"{self.name}.guard", daemon, move)
        self._new_process(guard)
        await asyncio.sleep(self.world.lasts(0.003, 0.05))
        self.guards.append(guard)
        try:
            yield
        finally:
            await concluded(self._dismiss(guard))

    async def _dismiss(self, guard: Guard) -> None:
        self.guards.remove(guard)
        guard.alive = False
        await asyncio.sleep(self.world.lasts(0.002, 0.05))

    async def _take_over(self, guard: Guard) -> None:
        await asyncio.sleep(self.world.lasts(0.2, 2.0))
        self.world.trace(f"{guard.name} looks after what the daemon left")
        await keep_taking_over(self._host(guard), guard.move)
        self.world.trace(f"{guard.name} is done")
        guard.alive = False
        if guard in self.guards:
            self.guards.remove(guard)

    def kill_guards(self) -> None:
        """SIGKILL for each."""
        for guard in self.guards:
            guard.alive = False
        self.guards.clear()

    # -- power -----------------------------------------------------------------------------------------------------

    def power_off(self) -> bool:
        """Everything that is not on disk is gone."""
        if not self.on:
            return False
        self.on = False
        self.world.trace(f"{self.name}: the power is off")
        self.network.power_lost(self.name)
        if self.daemon is not None:
            self.daemon.alive = False
        self.kill_guards()
        self.docker.power_lost()
        self.database.power_lost()
        self.runtime.power_lost()
        shutil.rmtree(self.config.run_dir, ignore_errors=True)
        self.config.run_dir.mkdir()
        return True

    def power_on(self) -> None:
        """It boots: dockerd, then the daemon."""
        if self.on:
            return
        self.on = True
        self.boots += 1
        self.world.trace(f"{self.name}: boots")
        self.network.power_back(self.name)
        self.docker.start_daemon()
        self.world.at_world(self.world.lasts(1.0, 5.0), self.start_daemon)

    def restart_docker(self) -> None:
        """dockerd starts, unless it runs or the power is off."""
        if self.on and not self.docker.up:
            self.docker.start_daemon()
