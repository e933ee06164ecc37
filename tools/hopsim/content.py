"""What a move moves here: one number for a layer, one for memory. In place of :mod:`streamhop.handover.means`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from streamhop.content.container_config import CreationRequest
from streamhop.content.image_layers.description import ImageDescription, from_config
from streamhop.content.image_layers.documents import digest_of
from streamhop.engine.checkpoint import CheckpointFailed
from streamhop.engine.processes import ProcessRef
from streamhop.findings import Finding, found
from streamhop.handover.host import Host
from streamhop.handover.manifest import Manifest
from streamhop.handover.means import Intake, Means
from streamhop.handover.precopy import RoundSize
from streamhop.handover.preflight import SourceContainer
from streamhop.handover.surroundings import DEFAULT, Surroundings
from streamhop.handover.target_policy import TargetPolicy
from streamhop_protocol.errors import IntegrityError

from .docker import Client, Docker
from .loop import Process
from .network import End
from .service import Image
from .world import World

IMAGE_NAME = "counter:1"

MEMORY_BYTES = 1_000_000
"""All that the service has, as it is on the wire."""

MODERATE_GROWTH = 0.01
"""How many times as much as a round sent gets dirty meanwhile, usually."""


VFORKING = 0.3
"""So many services start programs all the time, and are caught at it so often."""

_VFORK = (ProcessRef(1, 1), ProcessRef(2, 2))


@functools.cache
def image() -> ImageDescription:
    """The image of the service."""
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "11" * 32]}}).encode()
    return from_config(digest_of(config), [IMAGE_NAME], config, {"sha256:" + "11" * 32: 1000})


def manifest(name: str, new_name: str | None, policy: Mapping[str, Any]) -> Manifest:
    """What the source says about the service's container."""
    body = {
        "Image": image().id,
        "Entrypoint": [""],
        "HostConfig": {
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "Runtime": "streamhop",
            "NetworkMode": "bridge",
        },
    }
    request = CreationRequest(new_name or name, body, dict(policy))
    return Manifest(name, "x86_64", 4096, 1 << 20, ("rootfs",), (), {"criu": "4.2"}, image(), IMAGE_NAME, request)


class SimulatedMeans(Means):
    """Means of one daemon.

    :param start_guard: makes the context of a guard.
    """

    def __init__(
        self,
        world: World,
        process: Process,
        docker: Docker,
        images: dict[Path, Image],
        start_guard: Any,
        faults: set[str],
    ) -> None:
        self._world = world
        self._process = process
        self._docker = docker
        self._images = images
        self._start_guard = start_guard
        self._faults = faults
        """``dump``: the next dump fails. ``corrupt``: the next image arrives as another."""

        self._chance = random.Random(world.seed ^ 0xF04C)  # noqa: S311 - the rest of the run is as it was
        self._vforks = self._chance.random() < VFORKING

    async def check_as_source(
        self, host: Host, found: dict[str, Any], new_name: str | None, wishes: Surroundings = DEFAULT
    ) -> SourceContainer:
        await self._step("preflight")
        name = found["Name"].removeprefix("/")
        policy = found["HostConfig"]["RestartPolicy"]
        described = manifest(name, new_name, policy)
        return SourceContainer(found["Id"], name, found["State"]["Pid"], "runc", policy, {}, described)

    def guarded(self, host: Host, move: bytes) -> AbstractAsyncContextManager[None]:
        return cast("AbstractAsyncContextManager[None]", self._start_guard(move))

    async def processes(self, init_pid: int) -> Sequence[Any]:
        return []

    async def sharing_memory(self, processes: Sequence[Any]) -> Sequence[tuple[Any, Any]]:
        await self._step("looked for vforks")
        return [_VFORK] if self._vforks and self._chance.random() < VFORKING else []

    @asynccontextmanager
    async def checkpoint_in_waiting(
        self, host: Host, container: SourceContainer, image: Path, work: Path
    ) -> AsyncIterator[Any]:
        await self._step("ready to dump")
        await asyncio.sleep(self._world.lasts(0.01, 0.1))
        yield _Checkpoint(functools.partial(self._dump, container, image))

    async def _dump(self, container: SourceContainer, image: Path) -> None:
        await self._step("dump")
        await asyncio.sleep(self._world.lasts(0.1, 0.5))
        found = self._docker.containers.get(container.id)
        if found is None or found.copy is None or "dump" in self._faults:
            self._faults.discard("dump")
            raise CheckpointFailed("the container could not be dumped")
        if not found.copy.frozen:
            self._world.violation("a container is dumped that is not frozen")
        self._images[image] = found.copy.image()
        await self._step("dumped")

    def sender(self, session: Any, engine: Any, seed: int, trees: Any, tally: Any, events: Any) -> Any:
        growth = self._docker.dirt_growth if self._docker.dirties_fast else lambda: MODERATE_GROWTH
        return _Sender(self._world, cast("End", session), self._images, self._faults, growth)

    async def check_as_target(self, host: Host, manifest: Manifest, policy: TargetPolicy) -> list[Finding]:
        await self._step("preflight")
        taken = any(c.name == manifest.request.name for c in self._docker.containers.values())
        return [found("target.name", "the name is taken")] if taken else []

    async def held_layers(self, engine: Any, manifest: Manifest) -> frozenset[str]:
        held = self._docker.images.get(manifest.image_name) == manifest.image.id
        return frozenset(layer.digest for layer in manifest.image.layers) if held else frozenset()

    def intake(self, spool: Path, manifest: Manifest, lacking: Sequence[str], bytes_max: int) -> Intake:
        receiver = _Receiver(self._world, bool(lacking))
        pages = _Pages(receiver, self._images)
        layers, nothing = cast("Any", _Layers(manifest)), cast("Any", ())
        return Intake(layers, cast("Any", pages), nothing, cast("Any", receiver), tuple(lacking), {}, holds=False)

    async def check_images(self, image: Path, bundle: Path, *, established: bool) -> bool:
        await self._step("images checked")
        return False

    async def sync(self) -> None:
        await self._step("sync")

    async def _step(self, what: str) -> None:
        self._world.step(self._process, what)
        if not self._process.alive:
            await self._world.loop.create_future()


class _Checkpoint:
    pages = None

    def __init__(self, dump: Callable[[], Awaitable[None]]) -> None:
        self._dump = dump

    async def run(self, timeout_s: float) -> None:
        await self._dump()


class _Sender:
    """Sends the service.

    :param growth: how many times as much as a round sent gets dirty meanwhile.
    """

    def __init__(
        self,
        world: World,
        session: End,
        images: Mapping[Path, Image],
        faults: set[str],
        growth: Callable[[], float],
    ) -> None:
        self._world = world
        self._session = session
        self._images = images
        self._faults = faults
        self._growth = growth
        self._left_bytes = MEMORY_BYTES
        self._link = asyncio.Lock()

    async def layers(self, _: ImageDescription, wanted: frozenset[str], offsets: Mapping[str, int]) -> None:
        if wanted:
            await self._session.transfer(("layer", None), self._world.lasts(0.5, 3.0))

    async def round(
        self, number: int, processes: Any, memory_bytes: int, group: asyncio.TaskGroup
    ) -> asyncio.Task[RoundSize]:
        await asyncio.sleep(self._world.lasts(0.01, 0.1))
        return group.create_task(self._round_arrives(number))

    async def _round_arrives(self, number: int) -> RoundSize:
        size = self._left_bytes
        steady = self._growth() > MODERATE_GROWTH
        usual_s = self._world.lasts(0.3 if number == 0 else 0.05)
        # The prediction looks at how long rounds take: these pass one after the other, at the same rate all the time.
        async with self._link if steady else contextlib.nullcontext():
            await self._session.transfer(("memory", None), 0.3 * size / MEMORY_BYTES if steady else usual_s)
        self._left_bytes = min(MEMORY_BYTES, max(1000, int(size * self._growth())))
        return RoundSize(10, 0, size, size)

    def cut_round(self) -> None:
        return

    def close(self) -> None:
        return

    async def final_trees(self, processes: Any) -> None:
        await self._session.transfer(("tree", None), self._world.lasts(0.02, 1.0))

    async def final_memory(
        self, dump: Callable[[], Awaitable[None]], pages: Any, image_dir: Path, group: asyncio.TaskGroup
    ) -> bytes:
        await dump()
        dumped = self._images[image_dir]
        sent = Image(dumped.life, dumped.n + 1) if "corrupt" in self._faults else dumped
        self._faults.discard("corrupt")
        group.create_task(self._session.transfer(("final", sent), self._world.lasts(0.05, 2.0)))
        await asyncio.sleep(self._world.lasts(0.05, 1.0))
        return dumped.digest


class _Receiver:
    def __init__(self, world: World, lacking: bool) -> None:
        self.files_dir = Path("/files")
        self.final: Image | None = None
        self._lacking = lacking
        self._trees = False
        self._changed = asyncio.Condition()
        self._world = world

    async def receive(self, session: End) -> None:
        while True:
            (kind, value), token = await session.accept()
            await asyncio.sleep(self._world.lasts(0.001, 0.1))
            if kind == "layer":
                self._lacking = False
            elif kind == "tree":
                self._trees = True
            elif kind == "final":
                self.final = value
            async with self._changed:
                self._changed.notify_all()
            session.taken(token)

    async def layers_complete(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._lacking)

    async def process_images_complete(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.final is not None)

    async def final_complete(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._trees and self.final is not None)

    async def apply_trees(self, roots: Any) -> None:
        await asyncio.get_running_loop().create_future()


class _Pages:
    def __init__(self, receiver: _Receiver, images: dict[Path, Image]) -> None:
        self._receiver = receiver
        self._images = images

    def place_process_images(self, image_dir: Path, files_dir: Path) -> None:
        pass

    def assemble(self, image_dir: Path, files_dir: Path) -> bytes:
        final = self._receiver.final
        if final is None:
            raise IntegrityError("the final stage is missing")
        self._images[image_dir] = final
        return final.digest

    def close(self) -> None:
        pass


class _Layers:
    names_kept: tuple[str, ...] = ()

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.brought: dict[str, str] = {}

    async def would_bring(self, engine: Client) -> dict[str, str]:
        name, identifier = self._manifest.image_name, self._manifest.image.id
        return {} if await _has(engine, name, identifier) else {name: identifier}

    async def load(self, engine: Client) -> str:
        name, identifier = self._manifest.image_name, self._manifest.image.id
        if not await _has(engine, name, identifier):
            self.brought = {name: identifier}
            await engine.load_image(name, identifier)
        return identifier


async def _has(engine: Client, name: str, identifier: str) -> bool:
    from streamhop.engine.docker import NotFound

    try:
        return bool((await engine.inspect_image(name))["Id"] == identifier)
    except NotFound:
        return False
