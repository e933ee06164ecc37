"""The target's side of a move: decide, receive, restore behind the gate, start on GO and never otherwise.

The order of promises is that of :mod:`streamhop.handover.states`. Nothing on this side is started by a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from streamhop.content.container_config import pinned
from streamhop.content.image_layers import ImageAssembler
from streamhop.content.memory import PageStore
from streamhop.engine.docker import EngineError
from streamhop.engine.restores import PendingRestore
from streamhop.engine.runc_state import DESCRIPTORS_FILE
from streamhop.findings import findings_to_wire, refusing
from streamhop.net import PeerSession, SessionLost
from streamhop_protocol.errors import IntegrityError, ProtocolError, UnexpectedError
from streamhop_protocol.held_pages import HASH_SEED_BYTES
from streamhop_protocol.messages import (
    Abort,
    Aborted,
    Accept,
    Failed,
    MoveMessage,
    Offer,
    Prepare,
    Prepared,
    Query,
    Ready,
    Release,
    Started,
)
from streamhop_protocol.messages import State as StateMessage

from . import hooks
from .admitting import admit_offer
from .brought_images import layers_noted
from .concurrency import in_worker, uninterrupted
from .connections import Wish
from .errors import CancelledMoveError, MoveError, RefusedError
from .failures import EXPECTED, as_move_error, first_failure, plain
from .host import Host, MoveJournal
from .kept import Label
from .manifest import Manifest
from .means import Means
from .offering import FINDINGS, KEPT_S, STAGE, UNSTAGE
from .outcomes import WHY
from .receiving import tell_held
from .refusing import prose, refuse
from .settling_here import settle_here
from .states import STAGED, SYNCED, Role, State
from .target_actions import provisional_name
from .target_checks import published_ports
from .target_mounts import make_mounts, places_of
from .target_networks import make_networks
from .target_policy import policy_of

T = TypeVar("T")
M = TypeVar("M", bound=MoveMessage)

log = logging.getLogger("streamhop.handover")

INBOX_MAX = 64

DOCKER_ANSWER_S_MAX = 5.0
"""Longest that GO waits for Docker to show that it is there."""

CLEAN_UP_S_MAX = 30.0
"""How long Docker may take to let go of a container whose restore was refused."""


class AbortedByPeerError(MoveError):
    """The source ended the move, or this attempt of it.

    :param wanted: somebody decided that; nothing will come of the move.
    """

    def __init__(self, reason: str, *, wanted: bool) -> None:
        super().__init__(f"the source ended the move: {reason}")
        self.wanted = wanted


class IncomingMove:
    """One move to this host: :meth:`run` it; messages about it go through :meth:`take`.

    A message may come on another session than the one the move was offered on: after a broken link the source asks
    again on a new one.
    """

    def __init__(self, host: Host, session: PeerSession, offer: Offer, means: Means | None = None) -> None:
        self.id = offer.move
        self.epoch = offer.epoch
        self._peer_reference = session.peer_reference
        self._host = host
        self._means = means or Means()
        self._session = session
        self._offer = offer
        self._journal = MoveJournal(host.journal, offer.move, Role.TARGET, offer.epoch, trace=host.trace)
        self._inbox: asyncio.Queue[MoveMessage] = asyncio.Queue(INBOX_MAX)
        self._aborted: asyncio.Future[AbortedByPeerError] = asyncio.get_running_loop().create_future()
        self._spool = host.spool(offer.move)
        self._layers: ImageAssembler | None = None
        self._pending: PendingRestore | None = None
        self._starting: asyncio.Task[None] | None = None
        self._pages: PageStore | None = None
        self._seed: int | None = None
        """Of the hashes by which the source is told what pages are here; None if there are none."""
        self._staged = offer.attributes.get(STAGE) is True
        """Whether nothing will be started: what comes is kept."""
        self._makes_networks = False
        self._digest: bytes | None = None
        self._claimed = False
        self._went = False
        """Whether the restored container was told to go: from then on only Docker knows whether it runs."""
        self._timings: dict[str, float] = {}
        self._connections: Wish | None = None
        """The addresses that the container keeps, and its open connections with them; None: these are closed."""

    @property
    def state(self) -> State | None:
        """Where the move stands here, as the journal has it."""
        return self._journal.state

    def _is_open(self) -> bool:
        return self._journal.state is State.OPEN

    def take(self, session: PeerSession, message: MoveMessage) -> None:
        """A message about this move; see the class.

        :raises UnexpectedError: a lower epoch, another peer, or more messages than any honest peer sends.
        """
        if session.peer_reference != self._peer_reference:
            raise UnexpectedError(f"{type(message).__name__} of a move that another peer offered")
        if getattr(message, "epoch", self.epoch) < self.epoch:
            raise UnexpectedError(f"{type(message).__name__} of an epoch that is over")
        self._session = session
        if isinstance(message, Release) and self.state is not State.PREPARED and not self._journal.committed:
            raise UnexpectedError("RELEASE before PREPARED")
        if isinstance(message, Abort) and not self._journal.committed:
            self._abort(message.reason, wanted=message.code == CancelledMoveError.code)
            return
        try:
            self._inbox.put_nowait(message)
        except asyncio.QueueFull:
            raise UnexpectedError("too many messages about one move") from None

    def give_way(self, session: PeerSession, offer: Offer) -> None:
        """End this attempt, because the source makes another: it has aborted this one.

        :raises UnexpectedError: another peer says so, or the source has let go of the container already.
        """
        if session.peer_reference != self._peer_reference:
            raise UnexpectedError("OFFER of a move that another peer offered")
        if offer.epoch <= self.epoch or self._journal.committed:
            raise UnexpectedError("a move that is under way was offered again")
        self._abort("it tries once more", wanted=False)

    def _abort(self, reason: str, *, wanted: bool) -> None:
        if not self._aborted.done():
            self._aborted.set_result(AbortedByPeerError(reason, wanted=wanted))

    async def claim(self) -> None:
        """Start it without the source's word, which an operator has fenced off. The epoch rises: its word is void.

        What is here may be the only copy: where it cannot be started now it goes on waiting.

        :raises MoveError: it does not wait for GO, or Docker does not answer; nothing was done.
        """
        await self._check_docker_answers()
        if self.state is not State.PREPARED or self._digest is None:
            raise MoveError("only a container that waits for GO can be claimed", "see `streamhop handover ls`")
        self._claimed = True
        self.epoch += 1
        self._journal = MoveJournal(self._host.journal, self.id, Role.TARGET, self.epoch, self.state, self._host.trace)
        log.warning("move %s is claimed by an operator, epoch %d", self.id.hex()[:8], self.epoch)
        self._inbox.put_nowait(Release(move=self.id, epoch=self.epoch, image_digest=self._digest))

    # -- the whole of it -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """See the move through to its end; never raises what a peer or a full disk can cause."""
        try:
            manifest = await self._admit()
            pending, digest = await self._receive(manifest)
            while not self._went:
                await self._await_go(digest)
                await self._go(pending)
        except BaseException as error:
            failure = first_failure(error)
            # Also for a bug of ours or the daemon's shutdown: what was made here for the move has to go.
            await uninterrupted(self._end(failure))
            if not isinstance(failure, EXPECTED):
                raise
        if self._is_open():
            await self._after()

    # -- decide ----------------------------------------------------------------------------------------------------

    async def _admit(self) -> Manifest:
        manifest = Manifest.from_wire(self._offer.manifest)
        label = Label(self._peer_reference, manifest.container, manifest.image.id)
        if self._offer.attributes.get(UNSTAGE) is True:
            # Whatever would be in the way of a move: nobody may be made to keep what is not wanted.
            await in_worker(self._host.kept.drop, label.key)
            raise AbortedByPeerError("it is staged no more", wanted=True)
        policy = policy_of(self._host.config, self._session.peer_name)
        self._makes_networks = policy.makes_networks
        findings, judged = await admit_offer(
            self._host, self._means, manifest, policy, self._offer, staged=self._staged
        )
        self._connections = judged.kept
        if refusals := refusing(findings):
            raise RefusedError.of_several(refusals)
        await in_worker(self._host.kept.begin, self._spool, label)
        async with self._host.images:
            held = await self._means.held_layers(self._host.engine, manifest)
            await self._journal.enter(
                State.RECEIVING,
                peer=self._peer_reference,
                name=manifest.request.name,
                restart_policy=dict(manifest.request.restart_policy),
                kept=label.key,
                layers=layers_noted(manifest.image),
                **({STAGED: True} if self._staged else {}),
            )
        digests = [layer.digest for layer in manifest.image.layers]
        lacking = [digest for digest in dict.fromkeys(digests) if digest not in held]
        intake = await in_worker(self._means.intake, self._spool, manifest, lacking, policy.memory_bytes_max)
        self._layers, self._pages, self._receiver = intake.layers, intake.pages, intake.receiver
        self._blocks = intake.blocks
        seed = self._offer.attributes.get("hash_seed")
        if intake.holds and isinstance(seed, bytes) and len(seed) == HASH_SEED_BYTES:
            self._seed = int.from_bytes(seed)
        await self._session.send(
            Accept(
                move=self.id,
                epoch=self.epoch,
                lacks=list(intake.lacking),
                reused=sorted(held),
                attributes={
                    "begun": dict(intake.begun),
                    "held": self._seed is not None,
                    FINDINGS: findings_to_wire(findings),
                    **judged.attributes,
                    **({KEPT_S: self._host.config.kept_s_max} if self._staged else {}),
                },
            )
        )
        return manifest

    # -- receive and prepare ---------------------------------------------------------------------------------------

    async def _receive(self, manifest: Manifest) -> tuple[PendingRestore, bytes]:
        """Take everything, get warm, restore behind the gate.

        :returns: what waits for GO, and the digest of the image that it was restored from; PREPARED is said.
        """
        session = self._session
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._fail_when_aborted())
            lost = group.create_task(self._fail_when_lost(session))
            receiving = group.create_task(self._receiver.receive(session))
            if self._seed is not None and self._pages is not None:
                group.create_task(tell_held(session, self._pages, self._blocks, self._seed))
            if self._staged:
                # It ends with the source's word, as a move that is tried again later.
                await watching
            pending, roots = await self._warm_up(manifest)
            applying = group.create_task(self._receiver.apply_trees(roots))
            await self._get_ready(pending, manifest)
            await session.send(Ready(move=self.id, epoch=self.epoch))
            failing = group.create_task(pending.fail())
            beginning = group.create_task(self._begin_restore(pending))
            prepare = await self._next(Prepare)
            began = time.monotonic()
            await self._receiver.final_complete()
            self._timings["wait_for_final_s"] = time.monotonic() - began
            # A link that breaks from here on is the source's to judge: it says ABORT on its next connection.
            for task in (lost, receiving, applying):
                task.cancel()
            await beginning
            await self._prepare(pending, prepare)
            for task in (failing, watching):
                task.cancel()
        return pending, prepare.image_digest

    async def _get_ready(self, pending: PendingRestore, manifest: Manifest) -> None:
        """Let the restore come as far as it can without its images."""
        for directory in (self._image_dir, self._restore_log_dir):
            directory.mkdir(mode=0o700)
        announced = json.dumps(manifest.descriptors, separators=(",", ":"))
        await asyncio.to_thread(_write_private, self._image_dir / DESCRIPTORS_FILE, announced)
        tcp = "close" if self._connections is None else "established"
        await self._unless_start_fails(
            pending.get_ready(self._image_dir, self._restore_log_dir, self._host.launchers, tcp, self._host.logs)
        )

    async def _begin_restore(self, pending: PendingRestore) -> None:
        """Let the container's first process be made, and Docker wire its network, while memory is still coming."""
        assert self._pages is not None
        await self._receiver.process_images_complete()
        await in_worker(self._pages.place_process_images, self._image_dir, self._receiver.files_dir)
        network_first = await self._means.check_images(
            self._image_dir, (await pending.bundle()).path, established=self._connections is not None
        )
        await pending.begin(network_first=network_first)

    @property
    def _image_dir(self) -> Path:
        return self._spool / "image"

    @property
    def _restore_log_dir(self) -> Path:
        return self._spool / "restore-log"

    async def _fail_when_lost(self, session: PeerSession) -> None:
        await session.wait_closed()
        raise SessionLost("the source went away before the move was prepared")

    async def _fail_when_aborted(self) -> None:
        raise await asyncio.shield(self._aborted)

    async def _next(self, kind: type[M]) -> M:
        """The next message, which must be a ``kind``; questions in between are answered."""
        while True:
            message = await self._inbox.get()
            if isinstance(message, Query):
                await self._answer_query()
            elif isinstance(message, kind):
                return message
            else:
                raise UnexpectedError(f"{type(message).__name__} instead of {kind.__name__}")

    async def _answer_query(self) -> None:
        state = self.state
        name = state.value if state else "unknown"
        with contextlib.suppress(SessionLost):
            await self._session.send(StateMessage(move=self.id, epoch=self.epoch, state=name))

    async def _warm_up(self, manifest: Manifest) -> tuple[PendingRestore, dict[str, Path]]:
        """Get as far towards the start as is possible without the memory.

        :returns: the restore that waits for its images, and where each tree of the container is on this host.
        """
        await self._receiver.layers_complete()
        # What an end of the move meanwhile would lose sight of could not be removed.
        container = await uninterrupted(self._create(manifest))
        # Docker takes the ports as it starts it; if it is not to be, they are relayed again.
        await self._host.forwards.yield_ports(published_ports(manifest.request.body), self.id)
        self._pending = self._host.restores.expect(container)
        self._starting = asyncio.create_task(self._host.engine.start(container))
        # How it failed is asked for only by those who still wait for it.
        self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        bundle = await self._unless_start_fails(self._pending.bundle())
        return self._pending, places_of(manifest, bundle)

    async def _create(self, manifest: Manifest) -> str:
        """Load the image and make the container; the journal knows of each. Returns the container's ID."""
        engine, layers = self._host.engine, self._layers
        assert layers is not None
        async with self._host.image_loads:
            # Written down before: a daemon that ends in between must not leave an image that nobody knows of.
            await self._journal.note(image_loaded=await layers.would_bring(engine))
            image = await layers.load(engine)
            await self._journal.note(image=image, image_loaded=layers.brought)
        names = set(manifest.image.names) - set(layers.names_kept)
        known = {manifest.image_name, f"{manifest.image_name}:latest"} & names
        body = manifest.request.body_with(
            image=manifest.image_name if known else image, runtime=self._host.config.runtime_name
        )
        if self._connections is not None:
            body = pinned(body, self._connections.endpoints)
        await make_mounts(self._host, self._journal, self.id, manifest)
        await make_networks(self._host, self._journal, self.id, manifest, may_make=self._makes_networks)
        container = await engine.create_container(body, provisional_name(self.id))
        await self._journal.note(container=container)
        await engine.rename(container, manifest.request.name)
        return container

    async def _unless_start_fails(self, work: Coroutine[Any, Any, T]) -> T:
        """``work``'s result; if ``docker start`` ends before, its error."""
        starting = self._starting
        assert starting is not None
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, starting}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                starting.result()
                raise MoveError("Docker started the container without asking for its restore", "run `streamhop setup`")
            return task.result()
        finally:
            task.cancel()

    async def _prepare(self, pending: PendingRestore, prepare: Prepare) -> None:
        assert self._pages is not None
        began = time.monotonic()
        digest = await in_worker(self._pages.assemble, self._image_dir, self._receiver.files_dir)
        if digest != prepare.image_digest:
            raise IntegrityError("the image assembled here is not the one that was dumped")
        self._timings["assemble_s"] = time.monotonic() - began
        began = time.monotonic()
        await pending.complete()
        restored = await self._unless_start_fails(pending.restored())
        self._timings["restore_s"] = time.monotonic() - began
        self._timings.update({name: float(seconds) for name, seconds in restored.items()})
        self._digest = digest
        await self._journal.enter(State.PREPARED)
        attributes: dict[str, Any] = {name: round(seconds, 4) for name, seconds in self._timings.items()}
        with contextlib.suppress(SessionLost):
            await self._session.send(
                Prepared(move=self.id, epoch=self.epoch, image_digest=digest, attributes=attributes)
            )

    # -- start -----------------------------------------------------------------------------------------------------

    async def _await_go(self, digest: bytes) -> None:
        """Wait, for as long as it takes, for the source's word."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._fail_when_aborted())
            # Docker may give up on the start meanwhile, such as when it is restarted.
            release = await self._unless_start_fails(self._next(Release))
            watching.cancel()
        if release.image_digest != digest:
            raise IntegrityError("GO is for another image than the one prepared here")

    async def _go(self, pending: PendingRestore) -> None:
        """Start it; what was claimed waits for GO again if that cannot be tried."""
        try:
            await uninterrupted(self._open(pending))
        except EXPECTED as error:
            if not self._claimed or self._went or self.state is not State.PREPARED:
                raise
            log.error("move %s cannot be started yet, claim it again: %s", self.id.hex()[:8], plain(error))

    async def _open(self, pending: PendingRestore) -> None:
        """Start it. From OWNED on only what Docker sees tells whether it runs, see :meth:`_end`."""
        # A dockerd that is gone by now would never know of the container that runs. If GO is the source's, Docker is
        # asked as late as can be, and without an answer the source goes on. What was claimed must not be lost by that.
        if self._claimed:
            await self._check_docker_answers()
        await self._journal.enter(State.OWNED, boot=self._host.boot, claimed=self._claimed)
        if not self._claimed:
            await self._check_docker_answers()
        self._went = True
        await pending.go()
        await self._journal.enter(State.OPEN, owes_settling_in=True, **hooks.owed(self._host))
        await self._say_started()

    async def _check_docker_answers(self) -> None:
        try:
            async with asyncio.timeout(DOCKER_ANSWER_S_MAX):
                await self._host.engine.version()
        except TimeoutError:
            raise MoveError(f"Docker has not answered within {DOCKER_ANSWER_S_MAX:.0f} s") from None
        except EngineError as error:
            raise as_move_error(error) from error

    async def _say_started(self) -> None:
        with contextlib.suppress(SessionLost):
            await self._session.send(Started(move=self.id, epoch=self.epoch, attributes={}))

    async def _after(self) -> None:
        """It runs here: make it a container like any other; then the journal answers, see :meth:`leftovers`."""
        try:
            assert self._starting is not None
            assert self._pending is not None
            await asyncio.wait({self._starting})
            self._starting.result()
            self._pending.discard()
            await self._settle()
            await hooks.pay_hooks(self._host, self.id, Role.TARGET, lambda _: None)
            # What the container had synced at the source is not yet on this host's disk.
            await self._means.sync()
            await self._journal.note(**{SYNCED: True})
        except EXPECTED as error:
            log.warning("move %s: it runs here, but: %s", self.id.hex()[:8], plain(error))

    def leftovers(self) -> Iterator[tuple[PeerSession, MoveMessage]]:
        """Messages that came when it was over, or as good as over, to be answered by the journal."""
        while not self._inbox.empty():
            yield self._session, self._inbox.get_nowait()

    # -- when it fails ---------------------------------------------------------------------------------------------

    async def _end(self, failure: BaseException) -> None:
        """Take away what was made here, promise never to start it, and tell the source.

        Unless it runs, which a failure around GO leaves open: then it is kept, and the source told that.
        """
        if self._is_open():
            log.warning("move %s: it runs here, but: %s", self.id.hex()[:8], failure)
            return
        error = as_move_error(failure)
        before = self.state
        log.info("move %s failed here: %s", self.id.hex()[:8], error.reason)
        try:
            await self._end_restore(error.reason)
            if self._pages is not None:
                await in_worker(self._pages.close)
            if not _worth_keeping(failure) and before is not State.OWNED:
                await in_worker(self._host.kept.give_up, self._spool)
            await self._settle()
            if self._pending is not None and not self._is_open():
                self._pending.discard()
            await self._note_why(error)
        except EXPECTED as trouble:
            # What is said to the source must be on disk. It asks again, and this host goes on clearing up.
            log.error("move %s: clearing up failed: %s", self.id.hex()[:8], plain(trouble))
            if before in (State.PREPARED, State.OWNED):
                return
        if self._is_open():
            await self._say_started()
            return
        with contextlib.suppress(SessionLost):
            await self._session.send(self._last_word(before, failure, error))

    async def _note_why(self, error: MoveError) -> None:
        """For whoever asks this host; without it the move is as over as with it."""
        if self.state in (State.ABORTED, State.REFUSED):
            with contextlib.suppress(sqlite3.Error):
                await self._journal.note(**{WHY: error.as_json()})

    async def _settle(self) -> None:
        if self.state is None:
            # Whatever the journal has, or says that it has: a move that got no further has no use for it.
            await in_worker(self._host.kept.end, self._spool)
        record = await self._journal.latest()
        if record is None:
            return
        try:
            await settle_here(self._host, record)
        finally:
            await self._journal.latest()

    async def _end_restore(self, reason: str) -> None:
        """Make sure that no restore is under way, and that Docker has given up on the start if it can."""
        if self._pending is not None:
            await self._pending.refuse(reason[:200])
        if self._starting is not None:
            # One that takes longer finds the restore refused, and its container gone.
            await asyncio.wait({self._starting}, timeout=CLEAN_UP_S_MAX)
            if self._starting.done() and (failure := self._starting.exception()) is not None:
                log.info("move %s: %s", self.id.hex()[:8], failure)

    def _last_word(self, state: State | None, failure: BaseException, error: MoveError) -> MoveMessage:
        move, epoch = self.id, self.epoch
        if isinstance(failure, AbortedByPeerError):
            return Aborted(move=move, epoch=epoch)
        if state is State.OWNED:
            return StateMessage(move=move, epoch=epoch, state=State.REFUSED.value)
        if state is not None:
            return Failed(move=move, epoch=epoch, code=error.code, reason=prose(error.reason), fix=prose(error.fix))
        return refuse(move, epoch, error)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _worth_keeping(failure: BaseException) -> bool:
    """Whether another attempt may use what came: not if it was wrong, had no room here, or nobody wants it."""
    if isinstance(failure, AbortedByPeerError):
        return not failure.wanted
    blame = failure.__cause__ if isinstance(failure, SessionLost) else failure
    return not isinstance(blame, ProtocolError | RefusedError | OSError)
