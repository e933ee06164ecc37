"""Restores by the OCI runtime: the part that outlives the daemon, and the part that the daemon talks to.

As in :mod:`streamhop.engine.restores` and its supervisor: the connection between the two is the restore's life, until
GO; either end's death before it leaves nothing of the container.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamhop.engine.docker import EngineError
from streamhop.engine.restores import REFUSE_S_MAX, Bundle, RestoreFailed

from .loop import Process
from .service import Copy, Image
from .world import World

if TYPE_CHECKING:
    from .docker import Container, Docker


class Restore:
    """One restore as the runtime has it: a directory that announces it, and a supervisor from ``create`` on."""

    def __init__(self, daemon: Process, pending: Pending) -> None:
        self.daemon = daemon
        self.pending = pending
        self.announced = True
        self.supervisor: Process | None = None
        self.docker: Docker | None = None
        self.container: Container | None = None
        self.answer: asyncio.Future[str] | None = None
        """What ``docker start`` gets to hear: empty if it runs."""

        self.committed = False


class Runtime:
    """What of restores is on a host and not in its daemon.

    :param images: what is dumped or assembled where.
    """

    def __init__(self, world: World, host: str, images: dict[Path, Image]) -> None:
        self.world = world
        self.host = host
        self.images = images
        self.restores: dict[str, Restore] = {}
        self.let_go: set[str] = set()
        self.fail_next = False
        self._supervisors: list[Process] = []

    def power_lost(self) -> None:
        """Directory and supervisors are gone."""
        for supervisor in self._supervisors:
            supervisor.alive = False
        self.restores.clear()
        self.let_go.clear()

    def is_announced(self, container: str) -> bool:
        """Whether a start of the container has to wait for a daemon."""
        restore = self.restores.get(container)
        return restore is not None and restore.announced

    def over(self, container: str) -> bool:
        """Whether no supervisor is at it: it has cleared up, or died."""
        restore = self.restores.get(container)
        if restore is None or not restore.announced:
            return True
        return restore.supervisor is not None and not restore.supervisor.alive

    async def start(self, docker: Docker, container: Container) -> None:
        """``create`` and ``start`` of a pending restore, as dockerd calls them.

        :raises EngineError: it was not started.
        """
        restore = self.restores[container.id]
        await asyncio.sleep(self.world.lasts(0.02, 0.3))
        if not restore.daemon.alive or restore.pending.refusal is not None:
            self._clear(container.id, restore)
            raise EngineError("the daemon that restores this container cannot be asked", 500)
        if not restore.announced:
            raise EngineError("the restore was withdrawn", 500)
        answer: asyncio.Future[str] = self.world.loop.create_future()
        restore.supervisor = Process(f"{self.host}.supervisor")
        self._supervisors.append(restore.supervisor)
        restore.docker, restore.container, restore.answer = docker, container, answer
        restore.pending.connected(restore)
        reason = await answer
        if reason:
            raise EngineError(reason, 500)

    def order(self, restore: Restore, image: Path) -> None:
        """The daemon says what to restore."""
        assert restore.supervisor is not None
        if restore.supervisor.alive:
            self.world.loop.spawn(restore.supervisor, self._restore(restore, image))

    async def _restore(self, restore: Restore, image: Path) -> None:
        assert restore.docker is not None
        assert restore.container is not None
        await asyncio.sleep(self.world.lasts(0.1, 1.0))
        if self.fail_next:
            self.fail_next = False
            self.undo(restore, "runc restore failed with exit code 1")
            return
        found = self.images[image]
        copy = Copy(self.host, found.life, found.n, stopped=True)
        restore.docker.adopt_copy(restore.container, copy)
        self.world.trace(f"{self.host}: restored, stopped, n {copy.n}")
        if restore.daemon.alive:
            restore.pending.restored_there()

    def go(self, restore: Restore) -> None:
        """GO from the daemon, on its way."""

        async def commit() -> None:
            await asyncio.sleep(self.world.lasts(0.001, 0.05))
            container, docker = restore.container, restore.docker
            assert container is not None
            assert docker is not None
            if container.copy is None:
                self.undo(restore, "the restored container was killed while it waited for GO")
                return
            restore.committed = True
            self.let_go.add(container.id)
            self._clear(container.id, restore)
            container.gate_closed = False
            container.copy.stopped = False
            self.world.trace(f"{self.host}: {container.name} is let go, n {container.copy.n}")
            self.world.sink.update(container.copy, self.world.now_s)
            self.world.step(restore.daemon, "let go")
            await asyncio.sleep(self.world.lasts(0.001, 0.05))
            if restore.daemon.alive:
                restore.pending.running_there()
            if restore.answer is not None and not restore.answer.done():
                restore.answer.set_result("")

        assert restore.supervisor is not None
        if restore.supervisor.alive:
            self.world.loop.spawn(restore.supervisor, commit())

    def undo(self, restore: Restore, reason: str) -> None:
        """The supervisor leaves nothing of the container, and says why."""
        if restore.committed or restore.supervisor is None or not restore.supervisor.alive:
            return
        container, docker = restore.container, restore.docker
        assert container is not None
        assert docker is not None
        self.world.trace(f"{self.host}: the restore ends: {reason}")
        docker.destroy_copy(container)
        self._clear(container.id, restore)
        restore.supervisor.alive = False
        if restore.daemon.alive:
            restore.pending.ended_there(reason)
        if restore.answer is not None and not restore.answer.done():
            restore.answer.set_result(reason)

    def kill_supervisor(self, container: str) -> bool:
        """The runtime's process dies before GO; Docker's start notices, and has runc delete what there is."""
        restore = self.restores.get(container)
        if restore is None or restore.supervisor is None or not restore.supervisor.alive or restore.committed:
            return False
        restore.supervisor.alive = False
        assert restore.container is not None
        assert restore.docker is not None
        restore.docker.destroy_copy(restore.container)
        if restore.daemon.alive:
            restore.pending.ended_there("the runtime went away")
        if restore.answer is not None and not restore.answer.done():
            restore.answer.set_result("the restore's supervisor is gone; nothing was started")
        return True

    def daemon_died(self, daemon: Process) -> None:
        """Its connections end: what waits for its GO is undone."""
        for restore in list(self.restores.values()):
            if restore.daemon is daemon and restore.supervisor is not None:
                self.world.at_world(
                    self.world.lasts(0.02, 1.0), self.undo, restore, "the daemon went away before it said GO"
                )

    def abort(self, container: str) -> None:
        """Docker wants the container gone."""
        restore = self.restores.get(container)
        if restore is not None:
            self.undo(restore, "the container was killed or removed while its restore was pending")

    async def abort_and_wait(self, container: str) -> None:
        """As :meth:`abort`; returns when it is done."""
        await asyncio.sleep(self.world.lasts(0.01, 0.5))
        self.abort(container)

    def _clear(self, container: str, restore: Restore) -> None:
        restore.announced = False
        if self.restores.get(container) is restore:
            del self.restores[container]


class Pending:
    """What the handover takes for a :class:`streamhop.engine.restores.PendingRestore`."""

    def __init__(self, runtime: Runtime, process: Process, container: str) -> None:
        self.container = container
        self.refusal: str | None = None
        self._runtime = runtime
        self._process = process
        self._restore: Restore | None = None
        self._image = Path()
        self._failure: str | None = None
        self._created, self._restored, self._running, self._over = (asyncio.Event() for _ in range(4))

    async def bundle(self) -> Bundle:
        """See :meth:`PendingRestore.bundle`."""
        await self._reached(self._created)
        return Bundle(Path("/bundle"), Path("/bundle/rootfs"), {})

    async def get_ready(
        self, image: Path, work: Path, launchers: Path, tcp: str = "close", logs: Path | None = None
    ) -> None:
        """See :meth:`PendingRestore.get_ready`."""
        await self._reached(self._created)
        await self._step("order")
        self._image = image
        await asyncio.sleep(self._runtime.world.lasts(0.01, 0.2))

    async def fail(self) -> None:
        """See :meth:`PendingRestore.fail`."""
        await self._reached(self._over)

    async def begin(self, *, network_first: bool) -> None:
        """See :meth:`PendingRestore.begin`."""
        await self._reached(self._created)
        await self._step("begin")

    async def complete(self) -> None:
        """See :meth:`PendingRestore.complete`."""
        await self._reached(self._created)
        await self._step("complete")
        if self._restore is None or self._over.is_set():
            raise RestoreFailed("the runtime went away")
        self._runtime.order(self._restore, self._image)
        await self._step("ordered")

    async def restored(self) -> Mapping[str, float]:
        """See :meth:`PendingRestore.restored`."""
        await self._reached(self._restored)
        await self._step("restored")
        return {"restore_criu_s": 0.1}

    async def go(self) -> None:
        """See :meth:`PendingRestore.go`."""
        await self._reached(self._restored)
        await self._step("go")
        if self._restore is None or self._over.is_set():
            raise RestoreFailed("the runtime went away")
        self._runtime.go(self._restore)
        await self._step("gone")
        await self._reached(self._running)

    async def refuse(self, reason: str) -> None:
        """See :meth:`PendingRestore.refuse`."""
        await self._step("refuse")
        if self.refusal is None and not self._running.is_set():
            self.refusal = reason
            if self._restore is not None and not self._over.is_set():
                world = self._runtime.world
                world.at_world(world.lasts(0.03, 2.0), self._runtime.undo, self._restore, reason)
        if self._restore is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFUSE_S_MAX):
                    await self._over.wait()

    def discard(self) -> None:
        """See :meth:`PendingRestore.discard`."""
        self._runtime.restores.pop(self.container, None)
        if self._restore is not None:
            world = self._runtime.world
            world.at_world(0.001, self._runtime.undo, self._restore, "the daemon closed the connection")

    async def _reached(self, stage: asyncio.Event) -> None:
        await stage.wait()
        if self._failure is not None:
            raise RestoreFailed(self._failure)

    async def _step(self, what: str) -> None:
        self._runtime.world.step(self._process, what)
        if not self._process.alive:
            await self._runtime.world.loop.create_future()

    # -- the supervisor's messages ---------------------------------------------------------------------------------

    def connected(self, restore: Restore) -> None:
        """Docker has called ``create``."""
        self._restore = restore
        self._created.set()

    def restored_there(self) -> None:
        """Every task is there, stopped."""
        self._restored.set()

    def running_there(self) -> None:
        """It runs. The supervisor closes the connection, its work done."""
        self._running.set()
        self._over.set()

    def ended_there(self, reason: str) -> None:
        """It failed."""
        if not self._running.is_set():
            self._failure = reason
        for stage in (self._created, self._restored, self._running, self._over):
            stage.set()


class Restores:
    """What the handover takes for a :class:`streamhop.engine.restores.RestoreServer`."""

    def __init__(self, runtime: Runtime, process: Process) -> None:
        self._runtime = runtime
        self._process = process

    def expect(self, container: str) -> Any:
        """See :meth:`RestoreServer.expect`."""
        if container in self._runtime.restores:
            raise FileExistsError(17, "File exists")
        pending = Pending(self._runtime, self._process, container)
        self._runtime.restores[container] = Restore(self._process, pending)
        return pending

    async def ended(self, container: str, seconds: float) -> bool:
        """See :meth:`RestoreServer.ended`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._runtime.over(container):  # noqa: ASYNC110 - as there
                    await asyncio.sleep(0.05)
        return self._runtime.over(container)

    def forget(self, container: str) -> None:
        """See :meth:`RestoreServer.forget`."""
        self._runtime.restores.pop(container, None)
        self._runtime.let_go.discard(container)

    def was_let_go(self, container: str) -> bool:
        """See :meth:`RestoreServer.was_let_go`."""
        return container in self._runtime.let_go
