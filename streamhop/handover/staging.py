"""Copies of running containers that wait at other hosts, so that a move there finds most of its work done.

A copy is what an attempt of a move leaves that ended before the freeze: layers, memory, files, kept at the target for a
while and sent again only where they have changed. Nothing of the container is touched, and nothing is started there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streamhop.engine.docker import EngineError, NotFound
from streamhop.net import PeerSession
from streamhop.peering import NoAddressError, NotPairedError, PeerTarget
from streamhop.telemetry.events import EventLog
from streamhop_protocol.messages import Abort, Aborted

from .background import Background
from .concurrency import concluded, uninterrupted
from .dialogue import Dialogue
from .errors import MoveError, NotRunningError, UnreachableError
from .failures import EXPECTED, as_move_error, first_failure
from .host import Host
from .manifest import Manifest
from .means import Means
from .move_ids import new_move_id
from .offering import Accepted, offer, unstage
from .outgoing import FIRST_EPOCH
from .preflight import SourceContainer, check_still_runs, find_container
from .reaching import reach
from .report import Tally

log = logging.getLogger("streamhop.handover")

COPIES_MAX = 64
"""Of one daemon."""

AT_ONCE_MAX = 2
"""Copies that are sent at the same time: each reads all memory of its container."""

FAILED_SHOWN_S = 60.0
"""How long a copy that could not be sent is still listed, if it was to be sent once."""

ENDED_ANSWER_S = 10.0
"""How long the target may take to put away what it has got."""

OFFER_ANSWER_S = 60.0
"""How long it may take to say whether it takes a copy."""

STALLED_S = 60.0
"""A copy of which nothing has left for so long ends: others wait for its place."""

NAMED_DIGITS_MIN = 12
"""Of a container's ID, as Docker itself shortens it."""

STAGED_CODE = "staged"
"""The code of the ABORT that ends the sending of a copy: it is kept."""


@dataclass(frozen=True, slots=True)
class StageRequest:
    """What a user asked for.

    :param refresh_s: seconds from the end of one copy to the next; None: one copy, until it expires.
    """

    container: str
    peers: tuple[str, ...]
    refresh_s: float | None = None
    limit_bytes_per_s: float | None = None


@dataclass(slots=True, eq=False)
class StagedCopy:
    """What is kept of one container at one peer."""

    container: str
    """Its ID."""

    name: str
    peer: PeerTarget
    refresh_s: float | None
    limit_bytes_per_s: float | None
    manifest: Manifest
    """What was last offered."""

    times: int = 0
    """How often it was sent."""

    wire_bytes: int = 0
    """What the last time took, and"""

    seconds: float = 0.0
    """how long that lasted."""

    staged_at: float | None = None
    """When that ended, in seconds since the epoch."""

    kept_s: float = 0.0
    """How long the target keeps it."""

    failure: MoveError | None = None
    """Why it could not be sent when that was last tried."""

    sending: asyncio.Future[None] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever has to do with the copy: its sender, or a move of the container."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Look again: something is different."""

    task: asyncio.Task[None] | None = None


class Staging:
    """Every copy that this host keeps at others. Known to this daemon alone: the copies expire, whatever becomes of it.

    :param background: owns the tasks that send them.
    """

    def __init__(self, host: Host, background: Background, means: Means) -> None:
        self._host = host
        self._background = background
        self._means = means
        self._copies: dict[tuple[str, str], StagedCopy] = {}
        self._leaving: set[str] = set()
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)

    def copies(self) -> list[StagedCopy]:
        """All of them, in the order in which they were asked for."""
        return list(self._copies.values())

    # -- what users ask for ----------------------------------------------------------------------------------------

    async def stage(self, request: StageRequest) -> list[StagedCopy]:
        """Begin to keep copies of a container; those that are kept already are sent anew.

        :returns: them; they are not there yet.
        :raises ConfigError: in the clear, a peer is neither a known name nor an address.
        :raises MoveError: the container cannot be moved, a peer is unknown, or there are too many copies.
        """
        try:
            peers = [self._host.peers.find(name) for name in dict.fromkeys(request.peers)]
        except (NotPairedError, NoAddressError) as error:
            raise as_move_error(error) from error
        container = await self._check(request.container)
        if self._background.stopping:
            raise MoveError("the daemon is stopping", "start it again")
        if container.id in self._leaving:
            raise MoveError("it is being moved", "wait for that move, or cancel it")
        new = [peer for peer in peers if (container.id, peer.reference) not in self._copies]
        if len(self._copies) + len(new) > COPIES_MAX:
            raise MoveError(f"more than {COPIES_MAX} copies would be kept", "end some with `streamhop unstage`")
        return [self._begin(container, peer, request) for peer in peers]

    def _begin(self, container: SourceContainer, peer: PeerTarget, request: StageRequest) -> StagedCopy:
        key = container.id, peer.reference
        copy = self._copies.get(key)
        if copy is None:
            copy = StagedCopy(
                container.id, container.name, peer, request.refresh_s, request.limit_bytes_per_s, container.manifest
            )
            self._copies[key] = copy
            kept = copy
            copy.task = self._background.own(lambda: self._keep(kept))
        else:
            copy.refresh_s, copy.limit_bytes_per_s = request.refresh_s, request.limit_bytes_per_s
            copy.times, copy.failure = 0, None
            copy.changed.set()
        return copy

    async def unstage(self, container: str, peers: Iterable[str] = ()) -> list[StagedCopy]:
        """End copies of a container and have the peers drop them, as far as these can be reached: else they expire.

        :param container: its name or ID, or as much of that as Docker shows.
        :param peers: whose; all if there are none.
        :returns: the copies that ended; ``failure`` says which of them stay until they expire.
        :raises MoveError: there is none, or none at one of ``peers``.
        """
        wanted = set(peers)
        is_id = len(container) >= NAMED_DIGITS_MIN
        found = [
            copy for copy in self.copies() if copy.name == container or (is_id and copy.container.startswith(container))
        ]
        if missing := wanted - {copy.peer.name for copy in found}:
            raise MoveError(f"no copy of {container!r} is kept at {min(missing)}", "see `streamhop staged`")
        if not found:
            raise MoveError(f"no copy of {container!r} is kept anywhere", "see `streamhop staged`")
        ending = [copy for copy in found if not wanted or copy.peer.name in wanted]
        await asyncio.gather(*(self._end(copy) for copy in ending))
        return ending

    async def _end(self, copy: StagedCopy) -> None:
        if copy.task is not None:
            copy.task.cancel()
            await asyncio.wait({copy.task})
        async with copy.turn:
            await self._drop(copy)

    @asynccontextmanager
    async def held_back(self, container: str, peer: PeerTarget) -> AsyncIterator[None]:
        """Send no copy of a container while the context is open: it is moved, and takes over what ``peer`` keeps."""
        self._leaving.add(container)
        copies = [copy for copy in self.copies() if copy.container == container]
        try:
            for copy in copies:
                if copy.sending is not None:
                    copy.sending.cancel()
            async with contextlib.AsyncExitStack() as stack:
                # What the others are about does not concern the move.
                for copy in copies:
                    if copy.peer.reference == peer.reference:
                        await stack.enter_async_context(copy.turn)
                yield
        finally:
            self._leaving.discard(container)
            for copy in copies:
                copy.changed.set()

    # -- one copy --------------------------------------------------------------------------------------------------

    async def _keep(self, copy: StagedCopy) -> None:
        """Send a copy whenever it is time, until the container is gone or the copy has expired."""
        try:
            while True:
                copy.changed.clear()
                try:
                    async with copy.turn:
                        await self._send_once(copy)
                except NotRunningError as error:
                    if await self._is_gone(copy.container):
                        log.info("%s does not run here any more: its copy at %s goes", copy.name, copy.peer.name)
                        await self._drop(copy)
                        return
                    copy.failure = error
                cut_short = not copy.times and copy.failure is None
                pause_s = copy.refresh_s or (FAILED_SHOWN_S if copy.failure else copy.kept_s)
                with contextlib.suppress(TimeoutError):
                    # Whoever cut it short says when to go on.
                    async with asyncio.timeout(None if cut_short else pause_s):
                        await copy.changed.wait()
                if not copy.changed.is_set() and copy.refresh_s is None:
                    return
        finally:
            self._copies.pop((copy.container, copy.peer.reference), None)

    async def _send_once(self, copy: StagedCopy) -> None:
        """:raises NotRunningError: there is nothing to send any more."""
        if copy.container in self._leaving:
            return
        if copy.times and copy.refresh_s is None and copy.failure is None:
            try:
                await self._check(copy.container)
            except NotRunningError:
                raise
            except EXPECTED as error:
                log.info("%s cannot be looked at: %s", copy.name, error)
            return
        copy.sending = asyncio.ensure_future(self._send(copy))
        try:
            await asyncio.wait({copy.sending})
        finally:
            sent, copy.sending = copy.sending, None
            sent.cancel()
            await uninterrupted(_settled(sent))
        if sent.cancelled():
            return
        failure = sent.exception()
        if failure is None:
            copy.failure = None
            return
        cause = first_failure(failure)
        if not isinstance(cause, EXPECTED):
            raise failure
        if isinstance(cause, NotRunningError):
            raise cause
        copy.failure = as_move_error(cause)
        log.warning("no copy of %s at %s: %s", copy.name, copy.peer.name, copy.failure.reason)

    async def _send(self, copy: StagedCopy) -> None:
        container = await self._check(copy.container)
        copy.manifest = container.manifest
        async with self._at_once, self._session(copy) as (session, dialogue):
            began = time.monotonic()
            try:
                async with asyncio.timeout(OFFER_ANSWER_S):
                    accepted = await offer(dialogue, container.manifest, stage=True)
                await check_still_runs(self._host.engine, container.id, container.init_pid)
                await self._send_content(session, container, accepted)
            except asyncio.CancelledError:
                # A move may be what ended it: it is to find what has come so far.
                with contextlib.suppress(*EXPECTED):
                    await concluded(_say_abort(dialogue))
                raise
            await _say_abort(dialogue)
            copy.kept_s = accepted.kept_s
            copy.times += 1
            copy.staged_at, copy.seconds = time.time(), time.monotonic() - began
            copy.wire_bytes = session.wire_bytes_sent

    async def _send_content(self, session: PeerSession, container: SourceContainer, accepted: Accepted) -> None:
        sender = self._means.sender(session, self._host.engine, accepted.seed, container.trees, Tally(), EventLog())
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_fail_when_stalled(session))
                layers = group.create_task(sender.layers(container.manifest.image, accepted.wanted, accepted.offsets))
                if accepted.holds:
                    await sender.learn_held(container.manifest.page_size)
                processes = await self._means.processes(container.init_pid)
                await (await sender.round(0, processes, container.manifest.memory_bytes, group))
                await layers
                watching.cancel()
        finally:
            sender.close()

    async def _drop(self, copy: StagedCopy) -> None:
        """Have the target remove its copy, if it can be reached."""
        copy.failure = None
        try:
            async with asyncio.timeout(ENDED_ANSWER_S), self._session(copy) as (_, dialogue):
                await unstage(dialogue, copy.manifest)
        except TimeoutError:
            copy.failure = UnreachableError(f"{copy.peer.name} has not answered within {ENDED_ANSWER_S:.0f} s")
        except (*EXPECTED, BaseExceptionGroup) as error:
            cause = first_failure(error)
            if not isinstance(cause, EXPECTED):
                raise
            copy.failure = as_move_error(cause)
            log.info("the copy of %s at %s stays until it expires: %s", copy.name, copy.peer.name, cause)

    @asynccontextmanager
    async def _session(self, copy: StagedCopy) -> AsyncIterator[tuple[PeerSession, Dialogue]]:
        session = await reach(self._host, copy.peer, copy.limit_bytes_per_s or self._host.config.limit)
        try:
            dialogue = Dialogue(session, new_move_id(), FIRST_EPOCH)
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(dialogue.listen())
                yield session, dialogue
                listening.cancel()
        finally:
            await concluded(session.close())

    async def _is_gone(self, container: str) -> bool:
        """Whether the container has ended: one that is only paused will go on."""
        try:
            return not (await self._host.engine.inspect_container(container))["State"]["Running"]
        except NotFound:
            return True
        except EngineError:
            return False

    async def _check(self, container: str) -> SourceContainer:
        """:raises MoveError: it cannot be moved, or not now."""
        return await self._means.check_as_source(self._host, await find_container(self._host, container), None)


async def _fail_when_stalled(session: PeerSession) -> None:
    """Runs until cancelled.

    :raises UnreachableError: nothing leaves any more.
    """
    while True:
        sent = session.wire_bytes_sent
        await asyncio.sleep(STALLED_S)
        if session.wire_bytes_sent == sent:
            raise UnreachableError(f"nothing has left for the peer for {STALLED_S:.0f} s", "check the link")


async def _say_abort(dialogue: Dialogue) -> None:
    """Nothing more comes; returns when the target has put away what it has got."""
    abort = Abort(move=dialogue.move, epoch=dialogue.epoch, code=STAGED_CODE, reason="it is staged")
    try:
        async with asyncio.timeout(ENDED_ANSWER_S):
            await dialogue.session.send(abort)
            await dialogue.answer(Aborted)
    except TimeoutError:
        reason = f"the peer has not answered within {ENDED_ANSWER_S:.0f} s"
        raise MoveError(reason, "look at its load and log") from None


async def _settled(future: asyncio.Future[None]) -> None:
    await asyncio.wait({future})
