"""How a move gets at what it moves: content, processes, dumps. One object, so that something else can take its place.

The rules of the handover are in the other modules, and do not change with it: the simulator runs them with means of
its own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamhop.content.image_layers import ImageAssembler, held_layers
from streamhop.content.memory import PageStore
from streamhop.content.process_images import check_images, needs_network
from streamhop.content.trees import HeldBlocks
from streamhop.engine.checkpoint import Checkpoint, checkpoint_in_waiting
from streamhop.engine.docker import Engine, runc_root
from streamhop.engine.processes import ProcessRef, container_pids
from streamhop.engine.vforks import sharing_memory
from streamhop.findings import Finding
from streamhop.net import PeerSession
from streamhop.telemetry.events import EventLog
from streamhop_protocol.errors import ProtocolError

from .concurrency import in_worker
from .guard import guarded
from .host import Host
from .kept import BLOCKS, LAYERS, PAGES
from .manifest import Manifest
from .preflight import SourceContainer
from .receiving import Receiver
from .report import Tally
from .sending import Sender
from .source_checks import SourceCheck, check_as_source, inspect_as_source
from .surroundings import DEFAULT, Surroundings
from .target_checks import check_as_target
from .target_policy import TargetPolicy

log = logging.getLogger("streamhop.handover")


@dataclass(frozen=True, slots=True)
class Intake:
    """What takes the content of one move at the target."""

    layers: ImageAssembler
    pages: PageStore
    blocks: HeldBlocks
    receiver: Receiver
    lacking: tuple[str, ...]
    """Digests of the layers that have to come."""

    begun: Mapping[str, int]
    """Bytes of some of them that an earlier attempt has left."""

    holds: bool
    """Whether an earlier attempt has left pages, or blocks of files."""


class Means:
    """The means of a host that runs Linux, Docker and CRIU."""

    # -- source ----------------------------------------------------------------------------------------------------

    async def check_as_source(
        self, host: Host, found: dict[str, Any], new_name: str | None, wishes: Surroundings = DEFAULT
    ) -> SourceContainer:
        """See :func:`.source_checks.check_as_source`."""
        return await check_as_source(host, found, new_name, wishes)

    async def inspect_as_source(
        self, host: Host, found: dict[str, Any], new_name: str | None, wishes: Surroundings = DEFAULT
    ) -> SourceCheck:
        """See :func:`.source_checks.inspect_as_source`."""
        return await inspect_as_source(host, found, new_name, wishes)

    def guarded(self, host: Host, move: bytes) -> AbstractAsyncContextManager[None]:
        """See :func:`.guard.guarded`."""
        return guarded(host, move)

    async def processes(self, init_pid: int) -> Sequence[ProcessRef]:
        """The processes of the container whose first one is ``init_pid``."""
        return await asyncio.to_thread(container_pids, init_pid)

    async def sharing_memory(self, processes: Sequence[ProcessRef]) -> Sequence[tuple[ProcessRef, ProcessRef]]:
        """See :func:`streamhop.engine.vforks.sharing_memory`."""
        return await asyncio.to_thread(sharing_memory, processes)

    def checkpoint_in_waiting(
        self, host: Host, container: SourceContainer, image: Path, work: Path
    ) -> AbstractAsyncContextManager[Checkpoint]:
        """See :func:`streamhop.engine.checkpoint.checkpoint_in_waiting`."""
        return checkpoint_in_waiting(container.id, runc_root(container.runtime), image, work, host.launchers, host.logs)

    def sender(
        self, session: PeerSession, engine: Engine, seed: int, trees: Mapping[str, Path], tally: Tally, events: EventLog
    ) -> Sender:
        """What sends a container's content; see there."""
        return Sender(session, engine, seed, trees, tally, events)

    # -- target ----------------------------------------------------------------------------------------------------

    async def check_as_target(self, host: Host, manifest: Manifest, policy: TargetPolicy) -> list[Finding]:
        """See :func:`.target_checks.check_as_target`."""
        return await check_as_target(host, manifest, policy)

    async def held_layers(self, engine: Engine, manifest: Manifest) -> frozenset[str]:
        """See :func:`streamhop.content.image_layers.held_layers`."""
        return await held_layers(engine, manifest.image)

    def intake(self, spool: Path, manifest: Manifest, lacking: Sequence[str], bytes_max: int) -> Intake:
        """What takes the content of a move, below ``spool``, from what an earlier attempt has left there; blocks.

        :param lacking: digests of the layers that the engine does not have.
        :param bytes_max: of memory, and of all trees.
        :raises OSError: the places for it cannot be made.
        """
        layers = ImageAssembler(spool / LAYERS, manifest.image)
        whole, begun = layers.left_over()
        missing = tuple(digest for digest in lacking if digest not in whole)
        pages, holds_pages = _page_store(spool / PAGES, manifest.page_size, bytes_max)
        blocks = HeldBlocks(spool / BLOCKS, bytes_max=bytes_max)
        receiver = Receiver(
            layers,
            frozenset(missing),
            pages,
            manifest.trees,
            spool,
            tree_bytes_max=bytes_max,
            held_blocks=blocks,
        )
        begun = {digest: size for digest, size in begun.items() if digest in missing}
        return Intake(layers, pages, blocks, receiver, missing, begun, holds_pages or len(blocks) > 0)

    async def check_images(self, image: Path, bundle: Path, *, established: bool) -> bool:
        """See :func:`streamhop.content.process_images.check_images`.

        :param established: whether open connections are kept.
        :returns: see :func:`streamhop.content.process_images.needs_network`.
        """
        await in_worker(check_images, image, bundle)
        return await in_worker(functools.partial(needs_network, established=established), image)

    async def sync(self) -> None:
        """Return when everything written on this host is on disk."""
        await in_worker(os.sync)


def _page_store(directory: Path, page_size: int, bytes_max: int) -> tuple[PageStore, bool]:
    """A store of pages, and whether it goes on with what an earlier one has left."""
    if directory.exists():
        try:
            return PageStore(directory, page_size, quota_bytes=bytes_max, reopen=True), True
        except (ProtocolError, OSError) as error:
            log.warning("pages of an earlier attempt are of no use: %s", error)
            shutil.rmtree(directory)
    return PageStore(directory, page_size, quota_bytes=bytes_max), False
