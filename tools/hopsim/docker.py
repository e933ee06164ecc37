"""A Docker engine, as far as the handover can tell it from a real one: containers, images, a daemon that can die.

What dockerd believes (``status``, ``started``) and what the kernel has (``copy``) are two things here, too: they differ
for a moment around each change, and for longer when dockerd dies in between.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from streamhop.engine.docker import Conflict, EngineError, NotFound
from streamhop.engine.netgate import GateError

from .loop import Process
from .restores import Runtime
from .service import Copy
from .world import World

NEVER, ONCE = "0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
OURS = "streamhop"

BEFORE, AFTER = "before", "after"

OWN_QUOTA_US = 150_000
"""What every container may run in 100 ms, when nobody has slowed it down."""


class Container:
    """One container of one host."""

    def __init__(self, identifier: str, name: str, image: str, runtime: str, restart: str) -> None:
        self.id = identifier
        self.name = name
        self.image = image
        self.runtime = runtime
        self.restart = restart
        self.status = "created"
        self.started = False
        self.copy: Copy | None = None
        self.pid = 0
        self.gate_closed = False
        self.paused_by_user = False
        self.stopped_by_user = False
        self.frozen_at_s = 0.0
        """Since when, in the world's time, if it is frozen."""
        self.quota_us: int | None = None
        """What the kernel has, while there is a copy; the container's own is :data:`OWN_QUOTA_US`."""


class Docker:
    """One host's dockerd, with the containers that it and the kernel have.

    :param runtime: the OCI runtime's part of restores.
    """

    def __init__(self, world: World, host: str, runtime: Runtime, *, live_restore: bool) -> None:
        self.world = world
        self.host = host
        self.runtime = runtime
        self.live_restore = live_restore
        self.containers: dict[str, Container] = {}
        self.dirties_fast = False
        """Whether the services dirty memory faster than the link carries it, as long as nobody slows them down."""

        self.images: dict[str, str] = {}
        """ID by name."""

        self.process: Process | None = None
        self.faults: list[str] = []
        """For the next calls: fail before they took effect, or after."""

        self._asking: list[asyncio.Future[Any]] = []
        self._numbers = itertools.count(1)

    # -- dockerd itself --------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether it answers."""
        return self.process is not None and self.process.alive

    def start_daemon(self) -> None:
        """dockerd starts: what the kernel still has is ended or adopted, what has to restart is started."""
        self.process = Process(f"{self.host}.dockerd")
        self.world.trace(f"{self.host}: dockerd starts")
        for container in list(self.containers.values()):
            self._restore(container)

    def _restore(self, container: Container) -> None:
        was_running = container.status in ("running", "paused")
        copy = container.copy
        if copy is not None and (copy.stopped or not self.live_restore):
            # One that waits for GO is no container yet for dockerd, and never kept.
            self.runtime.abort(container.id)
            self.lose_copy(container)
        if container.copy is not None:
            container.status, container.started = "running", True
            if container.copy.frozen:
                container.status = "paused"
            return
        if was_running:
            container.status = "exited"
        restarts = container.restart == "always" or (
            container.restart == "unless-stopped" and not container.stopped_by_user
        )
        if container.started and restarts:
            self.cold_start(container)

    def kill_daemon(self) -> None:
        """dockerd dies; containers stay, calls break."""
        assert self.process is not None
        self.process.alive = False
        self.world.trace(f"{self.host}: dockerd is killed")
        asking, self._asking = self._asking, []
        for answer in asking:
            self.world.at_world(0.001, _break_off, answer)

    def power_lost(self) -> None:
        """Every process is gone, dockerd's too."""
        if self.up:
            self.kill_daemon()
        for container in self.containers.values():
            if container.copy is not None:
                self.lose_copy(container)

    # -- containers in the kernel ----------------------------------------------------------------------------------

    def add(self, name: str, image: str, runtime: str, restart: str) -> Container:
        """A container that never ran."""
        identifier = f"{ord(self.host[0]):02x}{next(self._numbers):062x}"
        container = Container(identifier, name, image, runtime, restart)
        self.containers[identifier] = container
        return container

    def cold_start(self, container: Container) -> None:
        """Its service starts from what is on disk."""
        self.adopt_copy(container, self.world.sink.cold_start(self.host))
        container.status, container.started = "running", True
        self.world.trace(f"{self.host}: {container.name} starts from disk")

    def note_start(self, container: Container) -> None:
        """dockerd has heard that the container runs, if it still does."""
        if container.copy is not None:
            container.status, container.started = "running", True

    def adopt_copy(self, container: Container, copy: Copy) -> None:
        """The container's processes are there."""
        container.copy = copy
        container.quota_us = OWN_QUOTA_US
        container.pid = ord(self.host[0]) * 1000 + next(self._numbers)
        container.gate_closed = copy.stopped
        self.world.sink.update(copy, self.world.now_s)

    def lose_copy(self, container: Container) -> None:
        """A crash, or a user's hand."""
        if container.copy is not None and not container.copy.stopped:
            self.world.memory_lost = True
        self._end_copy(container)

    def destroy_copy(self, container: Container) -> None:
        """The handover destroys the container's processes: some other copy must be as good."""
        copy, sink = container.copy, self.world.sink
        if copy is None:
            return
        if not self.world.memory_lost and sink.is_newest(copy) and not self.world.others_as_good(copy):
            self.world.violation(f"{self.host}: the last complete copy of the service is destroyed")
        self._end_copy(container)

    def _end_copy(self, container: Container) -> None:
        if container.copy is not None:
            self.world.sink.update(container.copy, self.world.now_s, alive=False)
        container.copy = None
        container.pid = 0
        container.gate_closed = False

    def dirt_growth(self) -> float:
        """How many times as much as the link carries the services dirty."""
        quotas = [c.quota_us for c in self.containers.values() if c.copy is not None and c.quota_us is not None]
        return 2.0 * min(quotas, default=OWN_QUOTA_US) / OWN_QUOTA_US

    def by_pid(self, pid: int) -> Container | None:
        """The container that has ``pid``."""
        return next((c for c in self.containers.values() if c.pid == pid and pid), None)

    def set_gate(self, pid: int, *, closed: bool) -> bool:
        """Close or open the gate of a process; False if it is no container's of this host.

        :raises GateError: seldom, for no reason.
        """
        container = self.by_pid(pid)
        if container is None:
            return False
        container.gate_closed = closed
        return True

    # -- the API ---------------------------------------------------------------------------------------------------

    async def call(self, process: Process, what: str, act: Callable[[], Any | Awaitable[Any]]) -> Any:
        """One call of the API by ``process``: it takes effect in dockerd's time, whether or not the caller waits."""
        world = self.world
        await self._step(process, f"call {what}")
        if not self.up:
            await asyncio.sleep(0.001)
            raise EngineError("the Docker engine cannot be reached: Connection refused")
        answer: asyncio.Future[Any] = world.loop.create_future()
        self._asking.append(answer)
        assert self.process is not None
        world.loop.spawn(self.process, self._serve(process, what, act, answer))
        try:
            result = await answer
        finally:
            if answer in self._asking:
                self._asking.remove(answer)
        await self._step(process, f"called {what}")
        return result

    async def _step(self, process: Process, what: str) -> None:
        self.world.step(process, what)
        if not process.alive:
            await self.world.loop.create_future()

    async def _serve(self, process: Process, what: str, act: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        world = self.world
        await asyncio.sleep(world.lasts(0.002, 0.2))
        fault = self.faults.pop() if self.faults else None
        result: Any = None
        error: Exception | None = EngineError(f"{what}: something is wrong", 500) if fault else None
        if fault != BEFORE:
            try:
                result = act()
                if asyncio.iscoroutine(result):
                    result = await result
            except EngineError as raised:
                error = raised
        world.step(process, f"done {what}")
        await asyncio.sleep(world.lasts(0.002, 0.2))
        if error is not None:
            world.trace(f"{self.host}: {what} for {process.name} fails: {error}")
        if not answer.done():
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

    def find(self, name: str) -> Container:
        """By ID or name.

        :raises NotFound:
        """
        found = self.containers.get(name)
        if found is None:
            found = next((c for c in self.containers.values() if c.name == name), None)
        if found is None:
            raise NotFound(f"no container {name}", 404)
        return found


def _break_off(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(EngineError("the connection to the Docker engine broke"))


class Client:
    """What the handover takes for a :class:`streamhop.engine.docker.Engine`."""

    def __init__(self, docker: Docker, process: Process) -> None:
        self._docker = docker
        self._process = process

    async def _call(self, what: str, act: Callable[[], Any]) -> Any:
        return await self._docker.call(self._process, what, act)

    async def inspect_container(self, name: str) -> dict[str, Any]:
        """See :meth:`Engine.inspect_container`."""

        def act() -> dict[str, Any]:
            found = self._docker.find(name)
            return {
                "Id": found.id,
                "Name": f"/{found.name}",
                "Image": found.image,
                "State": {
                    "Status": found.status,
                    "Running": found.status in ("running", "paused"),
                    "Paused": found.status == "paused",
                    "StartedAt": ONCE if found.started else NEVER,
                    "Pid": found.pid if found.status in ("running", "paused") else 0,
                },
                "HostConfig": {
                    "Runtime": found.runtime,
                    "RestartPolicy": {"Name": found.restart, "MaximumRetryCount": 0},
                },
            }

        result: dict[str, Any] = await self._call("inspect", act)
        return result

    async def version(self) -> dict[str, Any]:
        """See :meth:`Engine.version`."""
        result: dict[str, Any] = await self._call("version", dict)
        return result

    async def create_container(self, body: dict[str, Any], name: str) -> str:
        """See :meth:`Engine.create_container`."""
        docker = self._docker

        def act() -> str:
            if any(c.name == name for c in docker.containers.values()):
                raise Conflict(f"the name {name} is in use", 409)
            host_config = body["HostConfig"]
            restart = host_config["RestartPolicy"]["Name"]
            made = docker.add(name, body["Image"], host_config["Runtime"], restart)
            docker.world.trace(f"{docker.host}: container {name} is created")
            return made.id

        return str(await self._call("create", act))

    async def rename(self, container: str, name: str) -> None:
        """See :meth:`Engine.rename`."""

        def act() -> None:
            found = self._docker.find(container)
            if any(c.name == name for c in self._docker.containers.values() if c is not found):
                raise Conflict(f"the name {name} is in use", 409)
            found.name = name

        await self._call("rename", act)

    async def start(self, container: str) -> None:
        """See :meth:`Engine.start`."""
        docker = self._docker

        async def act() -> None:
            found = docker.find(container)
            if found.copy is not None:
                return
            if found.runtime == OURS and docker.runtime.is_announced(found.id):
                await docker.runtime.start(docker, found)
                await asyncio.sleep(docker.world.lasts(0.01, 0.2))
                if found.id not in docker.containers:
                    raise NotFound("it was removed", 404)
                docker.note_start(found)
            else:
                docker.cold_start(found)

        await self._call("start", act)

    async def pause(self, container: str) -> None:
        """See :meth:`Engine.pause`."""
        docker = self._docker

        def act() -> None:
            found = docker.find(container)
            if found.status == "paused":
                raise Conflict("it is already paused", 409)
            if found.status != "running" or found.copy is None:
                raise Conflict("it is not running", 409)
            set_frozen(docker, found, frozen=True)

        await self._call("pause", act)

    async def unpause(self, container: str) -> None:
        """See :meth:`Engine.unpause`."""
        docker = self._docker

        def act() -> None:
            found = docker.find(container)
            if found.status != "paused":
                raise EngineError("it is not paused", 500)
            set_frozen(docker, found, frozen=False)

        await self._call("unpause", act)

    async def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """See :meth:`Engine.kill`."""
        docker = self._docker

        def act() -> None:
            found = docker.find(container)
            if found.status in ("running", "paused"):
                docker.destroy_copy(found)
                found.status = "exited"
                docker.world.trace(f"{docker.host}: {found.name} is killed")

        await self._call(f"kill {signal}", act)

    async def remove(self, container: str, force: bool = True, v: bool = False) -> None:
        """See :meth:`Engine.remove`."""
        docker = self._docker

        async def act() -> None:
            found = docker.find(container)
            await docker.runtime.abort_and_wait(found.id)
            docker.destroy_copy(found)
            docker.containers.pop(found.id, None)
            docker.world.trace(f"{docker.host}: {found.name} is removed")

        await self._call("remove", act)

    async def was_asked_to_end(self, container: str, _state: object) -> bool:
        """See :meth:`Engine.was_asked_to_end`."""
        return bool(await self._call("events", lambda: self._docker.find(container).stopped_by_user))

    async def update_restart_policy(self, container: str, policy: dict[str, Any]) -> None:
        """See :meth:`Engine.update_restart_policy`."""
        docker = self._docker

        def act() -> None:
            docker.find(container).restart = str(policy["Name"])
            docker.world.trace(f"{docker.host}: restart policy is {policy['Name']}")

        await self._call("update", act)

    async def inspect_image(self, reference: str) -> dict[str, Any]:
        """See :meth:`Engine.inspect_image`."""

        def act() -> dict[str, Any]:
            if reference not in self._docker.images:
                raise NotFound(f"no image {reference}", 404)
            return {"Id": self._docker.images[reference]}

        result: dict[str, Any] = await self._call("inspect image", act)
        return result

    async def remove_image(self, reference: str, force: bool = False, noprune: bool = False) -> None:
        """See :meth:`Engine.remove_image`."""
        docker = self._docker

        def act() -> None:
            if reference not in docker.images:
                raise NotFound(f"no image {reference}", 404)
            identifier = docker.images[reference]
            if any(c.image == identifier for c in docker.containers.values()):
                raise Conflict("it is in use", 409)
            del docker.images[reference]

        await self._call("remove image", act)

    async def load_image(self, name: str, identifier: str) -> None:
        """What the assembler of image layers makes Docker do."""

        def act() -> None:
            self._docker.images[name] = identifier

        await self._call("load image", act)


def set_frozen(docker: Docker, container: Container, *, frozen: bool) -> None:
    """The kernel freezes or thaws a container, and dockerd knows."""
    assert container.copy is not None
    if frozen and not container.copy.frozen:
        container.frozen_at_s = docker.world.now_s
    container.copy.frozen = frozen
    container.status = "paused" if frozen else "running"
    docker.world.sink.update(container.copy, docker.world.now_s)
    docker.world.trace(f"{docker.host}: {container.name} is {'frozen' if frozen else 'thawed'}, n {container.copy.n}")


__all__ = ["AFTER", "BEFORE", "Client", "Container", "Docker", "GateError", "set_frozen"]
