"""The source's side of a move: send the container, freeze it, let go of it.

The order of promises is that of :mod:`streamhop.handover.states`. Until RELEASED is in the journal any failure ends
with the container running here as it was; from then on only the target's word ends the move.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from streamhop.engine.checkpoint import Checkpoint
from streamhop.net import PeerSession
from streamhop.peering import PeerTarget
from streamhop.telemetry.events import EventLog
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import (
    Finish,
    Prepare,
    Prepared,
    Query,
    Ready,
    Release,
    Started,
)
from streamhop_protocol.messages import State as StateMessage

from . import hooks
from .braking import Brake
from .concurrency import concluded, uninterrupted
from .connections import Answer, Wish, told
from .dialogue import Dialogue
from .errors import (
    ContentError,
    MoveError,
    NoConvergenceError,
    UnreachableError,
)
from .freezing import freeze_to_dump
from .host import Host, MoveJournal
from .means import Means
from .moved_volumes import VOLUMES, end_volumes, owed_volumes
from .offering import offer
from .policy import Costs, Decision, PolicyOptions, RoundResult, Verdict, decide, predict_downtime, release_s_max
from .policy import predict_final_wire_bytes as predict_bytes
from .precopy import PreCopy
from .preflight import SourceContainer, check_still_runs, paused_by_others
from .reaching import reach
from .report import Tally, tell_warnings
from .retreating import Retreat
from .sending import Sender
from .settling_here import remove_tree
from .source_actions import forbid_restart, remove_moved, stays_frozen
from .states import KEEPS_CONNECTIONS, OWES_HOOKS, RUNS_THERE, SYNCED, Role, State
from .traced import Inputs, tell_verdict

log = logging.getLogger("streamhop.handover")

FIRST_EPOCH = 1
"""Each further attempt of a move has the next one, and so has an operator's claim or reclaim."""

SILENCE_S_MAX = 1.0
"""While the container is frozen, a peer not heard of for this long (and some round trips) ends the move."""

SILENCE_LOOKED_AT_S = 0.1

DUMP_S_MAX = 120.0

FROZEN_GRACE_S = 10.0
FROZEN_PREDICTIONS_MAX = 3.0
"""Longest that the container stays frozen without a target that is ready: the grace and this many predictions."""

FINISH_ANSWER_S = 2.0
"""How long a finished move waits to hear that the target knows it."""

STARTED_S_MAX = 10.0
"""How long the source waits for STARTED before it asks what became of GO."""

DOCKER_ANSWER_S_MAX = 10.0
"""How long Docker may take to say, just before the commitment, whether the container is still frozen."""

READY_S_MAX = 600.0
"""How long the target may take to load an image that it has whole, and to get ready to start the container."""


class OutgoingMove:
    """One attempt to move a container away from this host. Use once: :meth:`run`.

    :param move: the move's ID, 16 bytes.
    :param epoch: which attempt this is, counted from :data:`FIRST_EPOCH`; all earlier ones are aborted.
    """

    def __init__(
        self,
        host: Host,
        move: bytes,
        container: SourceContainer,
        peer: PeerTarget,
        options: PolicyOptions,
        events: EventLog,
        tally: Tally,
        means: Means | None = None,
        limit_bytes_per_s: float | None = None,
        costs: Costs | None = None,
        *,
        epoch: int = FIRST_EPOCH,
        connections: Wish | None = None,
    ) -> None:
        self.id = move
        self.epoch = epoch
        self._host = host
        self._container = container
        self._peer = peer
        self._options = options
        self._events = events
        self._tally = tally
        self._means = means or Means()
        self._limit_bytes_per_s = limit_bytes_per_s
        self._costs = costs or Costs()
        self._connections = connections
        self._journal = MoveJournal(host.journal, self.id, Role.SOURCE, epoch, trace=host.trace)
        self._retreat = Retreat(host, self._journal, self.id, epoch, container.id, events)
        self._brake = Brake(host, self._journal, container, options, events, tally)
        self.connected = False
        """Whether the peer was reached."""

    async def run(self) -> dict[str, Any]:
        """Move the container; returns the report.

        Cancelling the task before the point of commitment aborts the move.

        :raises MoveError: it was not moved. Unless it is :class:`InDoubtError` the container runs here as before.
        """
        self._phase("connect")
        session = await reach(self._host, self._peer, self._limit_bytes_per_s)
        self.connected = True
        try:
            await self._see_through(session)
        finally:
            # How it ended is known: a cancel that comes now must not take the place of that.
            await concluded(session.close())
            self._tally.wire_bytes += session.wire_bytes_sent
        return self.report()

    async def _see_through(self, session: PeerSession) -> None:
        dialogue = Dialogue(session, self.id, self.epoch)
        # The guard stays until what went wrong is undone.
        async with self._means.guarded(self._host, self.id):
            try:
                async with asyncio.TaskGroup() as group:
                    listening = group.create_task(dialogue.listen())
                    await self._move(session, dialogue)
                    listening.cancel()
            except BaseException as error:
                # Whatever went wrong, a bug or a cancel too: the container must not stay frozen.
                ended_with = await concluded(self._retreat.give_up(dialogue, error))
                await concluded(self._pay_hooks())
                if ended_with is not None:
                    raise ended_with from error

    @property
    def committed(self) -> bool:
        """Whether it is too late to cancel."""
        return self._journal.committed

    @property
    def may_be_repeated(self) -> bool:
        """Whether, after it failed, the container runs here as before and another attempt can be made."""
        return self._journal.state in (None, State.ABORTED) and self._retreat.complete

    def report(self) -> dict[str, Any]:
        """What a finished move tells the user."""
        there = self._container.manifest.request.name
        return self._tally.report((self._container.name, there), self._host.config.name, self._peer.name)

    def _phase(self, name: str) -> None:
        self._tally.timeline.mark(name)
        self._events.emit("phase", phase=name)
        if self._host.trace is not None:
            self._host.trace.emit("move:phase", move=self.id, phase=name)

    async def _move(self, session: PeerSession, dialogue: Dialogue) -> None:
        container = self._container
        self._phase("offer")
        accepted = await offer(dialogue, container.manifest, connections=self._connections)
        if self.epoch == FIRST_EPOCH:
            tell_warnings(self._events, "target", accepted.findings)
        self._tell_of_connections(accepted.connections)
        await self._journal.enter(
            State.PRECOPY,
            container=container.id,
            name=container.name,
            peer=self._peer.reference,
            new_name=container.manifest.request.name,
            restart_policy=dict(container.restart_policy),
            **({VOLUMES: dict(container.volumes)} if container.volumes else {}),
            **({KEEPS_CONNECTIONS: True} if accepted.connections.keep else {}),
        )
        self._phase("pre-copy")
        sender = self._means.sender(
            session, self._host.engine, accepted.seed, container.trees, self._tally, self._events
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(sender.close)
            self._tally.layers_sent = len(accepted.wanted)
            self._tally.layers_reused = len(container.manifest.image.layers) - len(accepted.wanted)
            async with asyncio.TaskGroup() as group:
                layers = group.create_task(sender.layers(container.manifest.image, accepted.wanted, accepted.offsets))
                if accepted.holds:
                    await sender.learn_held(container.manifest.page_size)
                checkpoint = await self._precopy(session, sender, dialogue, layers, stack)
            digest = await self._freeze_and_send(session, sender, dialogue, checkpoint)
            await self._release(session, dialogue, digest)
            await self._finish(session, dialogue)

    def _tell_of_connections(self, answer: Answer) -> None:
        if self._connections is None:
            return
        if not answer.keep and self._connections.must:
            raise UnexpectedError("the peer closes connections that must be kept, and has not refused")
        self._events.emit("remark", text=told(self._connections, answer))

    # -- pre-copy --------------------------------------------------------------------------------------------------

    async def _precopy(
        self,
        session: PeerSession,
        sender: Sender,
        dialogue: Dialogue,
        layers: asyncio.Task[None],
        stack: contextlib.AsyncExitStack,
    ) -> Checkpoint:
        """Rounds until the policy says freeze and the target is ready.

        :returns: the dump, which waits for the freeze; ``stack`` ends it.
        """
        began = time.monotonic()
        rounds: list[RoundResult] = []
        warm = asyncio.ensure_future(dialogue.answer(Ready))
        hooks_ran = not hooks.wanted(self._host)
        list_processes = functools.partial(self._means.processes, self._container.init_pid)
        try:
            async with PreCopy(sender, list_processes, self._container.manifest.memory_bytes) as precopy:
                while True:
                    rounds.append(await precopy.round())
                    await check_still_runs(self._host.engine, self._container.id, self._container.init_pid)
                    verdict = self._judge(session, rounds, time.monotonic() - began, alone=layers.done())
                    await self._brake.apply()
                    if verdict.decision is Decision.GIVE_UP:
                        raise _unmet(verdict, self._options.downtime_s_max)
                    if verdict.decision is Decision.FREEZE:
                        if layers.done() and warm.done() and not hooks_ran:
                            # What the container changes meanwhile is for another round.
                            hooks_ran = True
                            if await self._run_hooks():
                                continue
                        if layers.done() and warm.done():
                            precopy.cut()
                            checkpoint = await self._get_ready_to_dump(stack)
                            await precopy.settled()
                            return checkpoint
                        await self._await_target(layers, warm)
        finally:
            warm.cancel()

    async def _run_hooks(self) -> int:
        """Those before the freeze; from here on the later ones are owed. Returns how many ran."""
        self._phase("hooks")
        await self._journal.note(**{OWES_HOOKS: True})
        record = await self._journal.latest()
        assert record is not None
        return await hooks.before_freeze(self._host, record)

    async def _pay_hooks(self) -> None:
        await hooks.pay_hooks(self._host, self.id, Role.SOURCE, lambda text: self._events.emit("remark", text=text))

    async def _await_target(self, layers: asyncio.Future[None], warm: asyncio.Future[Ready]) -> None:
        """Memory is there: wait until the rest of what is needed for a start is."""
        lacking = "the target to get ready" if layers.done() else "the image layers"
        self._events.emit("remark", text=f"memory is ahead; waiting for {lacking}")
        awaited: set[asyncio.Future[Any]] = {layers, warm}
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if warm.done():
            warm.result()
        await layers
        await _ready(warm)

    def _judge(self, session: PeerSession, rounds: Sequence[RoundResult], elapsed_s: float, *, alone: bool) -> Verdict:
        manifest = self._container.manifest
        bandwidth = session.goodput_bytes_per_s or 0.0
        final_wire_bytes = predict_bytes(rounds, manifest.page_size)
        predicted = predict_downtime(
            final_wire_bytes,
            bandwidth,
            session.rtt_s or 0.0,
            manifest.memory_bytes,
            self._costs,
        )
        self._tally.link_bytes_per_s = bandwidth
        self._tally.transfer_s = predicted.transfer_s
        self._tally.usual_fixed_s = predict_downtime(
            0.0, bandwidth, session.rtt_s or 0.0, manifest.memory_bytes, Costs()
        ).fixed_s
        verdict = self._brake.judge(decide(rounds, predicted, self._options, elapsed_s), rounds, alone=alone)
        if self._host.trace is not None:
            inputs = Inputs(elapsed_s, bandwidth, session.rtt_s, manifest.memory_bytes, final_wire_bytes)
            tell_verdict(self._host.trace, self.id, verdict, rounds, inputs, self._options, self._costs)
        number = len(rounds) - 1
        self._tally.add_round(number, rounds[-1], verdict)
        self._events.emit("round", **self._tally.rounds[-1], link_bytes_per_s=round(bandwidth))
        return verdict

    # -- freeze, release, finish -----------------------------------------------------------------------------------

    @property
    def _image_dir(self) -> Path:
        return self._host.dump_dir(self.id) / "image"

    async def _get_ready_to_dump(self, stack: contextlib.AsyncExitStack) -> Checkpoint:
        work_dir = self._host.dump_dir(self.id) / "work"
        for directory in (self._image_dir, work_dir):
            directory.mkdir(parents=True, mode=0o700)
        return await stack.enter_async_context(
            self._means.checkpoint_in_waiting(self._host, self._container, self._image_dir, work_dir)
        )

    async def _freeze_and_send(
        self, session: PeerSession, sender: Sender, dialogue: Dialogue, checkpoint: Checkpoint
    ) -> bytes:
        """Freeze, dump, send the difference; returns the image's digest once the target is prepared."""
        container, engine = self._container, self._host.engine
        await check_still_runs(engine, container.id, container.init_pid)
        await self._journal.enter(State.FREEZING, boot=self._host.boot)
        if container.restart_policy.get("Name") not in (None, "", "no"):
            # Before the freeze: a host that goes down must not start it by itself, it may be claimed at the target.
            await uninterrupted(forbid_restart(engine, container.id))
        self._events.emit("phase", phase="freeze")
        async with self._frozen_no_longer_than_bearable(session) as limit, asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch_silence(session))
            async with self._brake.released():
                processes = await freeze_to_dump(
                    engine, container, self._means, self._events, functools.partial(self._note_freeze, session, limit)
                )
                if processes is None:
                    await self._journal.note(paused_by_others=True)
                    raise paused_by_others()
            # Attempts before the one that holds are pre-copy: the container went on.
            self._tally.timeline.mark("freeze", self._retreat.frozen_at)
            self._phase("dump")
            async with asyncio.TaskGroup() as frozen:
                frozen.create_task(sender.final_trees(processes))
                digest = await sender.final_memory(
                    functools.partial(self._dump, checkpoint), checkpoint.pages, self._image_dir, frozen
                )
                await session.send(Prepare(move=self.id, epoch=self.epoch, image_digest=digest))
            self._phase("restore at the target")
            prepared = await dialogue.answer(Prepared)
            watch.cancel()
        if prepared.image_digest != digest:
            raise ContentError("the target prepared another image than the one that was sent", "report this")
        self._tally.target_timings = {
            str(name): float(seconds) for name, seconds in prepared.attributes.items() if isinstance(seconds, float)
        }
        return digest

    async def _dump(self, checkpoint: Checkpoint) -> None:
        await checkpoint.run(DUMP_S_MAX)
        self._phase("final difference")

    @property
    def _grace_s(self) -> float:
        """How long the container may stay frozen without a target that is ready, whatever the user allows."""
        return FROZEN_GRACE_S + FROZEN_PREDICTIONS_MAX * (self._tally.predicted_downtime_s or 0.0)

    def _release_s_max(self, session: PeerSession) -> float:
        return release_s_max(self._options, session.rtt_s or 0.0)

    def _note_freeze(self, session: PeerSession, limit: asyncio.Timeout, frozen: bool) -> None:
        """The container is about to be frozen, or to go on for a moment: only a freeze that holds is downtime."""
        if frozen:
            self._retreat.frozen_at = time.monotonic()
        bearable_s = min(self._grace_s, self._release_s_max(session))
        limit.reschedule(asyncio.get_running_loop().time() + bearable_s if frozen else None)

    @asynccontextmanager
    async def _frozen_no_longer_than_bearable(self, session: PeerSession) -> AsyncIterator[asyncio.Timeout]:
        """A target that answers but does not get ready must not hold the container for ever, nor too long (P6)."""
        try:
            async with asyncio.timeout(min(self._grace_s, self._release_s_max(session))) as limit:
                yield limit
        except TimeoutError:
            if not limit.expired():
                raise
            if self._release_s_max(session) <= self._grace_s:
                raise self._too_late() from None
            raise NoConvergenceError(
                f"the target was not ready after {self._grace_s:.0f} s with the container frozen; "
                f"{self._tally.predicted_downtime_s or 0.0:.1f} s were predicted",
                "look at the target's load and log, and at the link",
            ) from None

    def _check_in_time(self, session: PeerSession) -> None:
        """P6: a container whose first instruction at the target would come too late goes on here.

        :raises NoConvergenceError: the downtime asked for, if it is more than an aim, cannot be kept any more.
        """
        if time.monotonic() - self._retreat.frozen_at > self._release_s_max(session):
            raise self._too_late()

    def _too_late(self) -> NoConvergenceError:
        return NoConvergenceError(
            f"after {time.monotonic() - self._retreat.frozen_at:.3g} s with the container frozen the "
            f"{self._options.downtime_s_max:g} s asked for could not be kept any more; "
            f"{self._tally.predicted_downtime_s or 0.0:.3g} s were predicted",
            "try again, allow a longer --max-downtime, or say --on-no-converge go",
        )

    async def _watch_silence(self, session: PeerSession) -> None:
        """A frozen container cannot wait for the link's own time-outs.

        While this daemon got no processor it heard nothing: that is not the peer's silence.
        """
        late_s = 0.0
        while True:
            patience_s = SILENCE_S_MAX + 4 * (session.rtt_s or 0.0) + late_s
            silent_s = session.silence_s
            if silent_s > patience_s:
                raise UnreachableError(
                    f"nothing was heard of the peer for {silent_s:.1f} s while the container was frozen",
                    "check the link, then try again",
                )
            session.ping()
            slept_at = time.monotonic()
            await asyncio.sleep(SILENCE_LOOKED_AT_S)
            late_s = time.monotonic() - slept_at - SILENCE_LOOKED_AT_S

    async def _release(self, session: PeerSession, dialogue: Dialogue, digest: bytes) -> None:
        """The point of commitment."""
        self._phase("release")
        try:
            async with asyncio.timeout(DOCKER_ANSWER_S_MAX):
                frozen = await stays_frozen(self._host.engine, self._container.id, self._container.init_pid)
        except TimeoutError:
            raise MoveError(f"Docker has not answered within {DOCKER_ANSWER_S_MAX:.0f} s while it was frozen") from None
        if not frozen:
            raise MoveError("it was started or unpaused here by somebody else while it was frozen", "try again")
        self._check_in_time(session)
        await self._journal.enter(State.RELEASED, image_digest=digest.hex())
        await session.send(Release(move=self.id, epoch=self.epoch, image_digest=digest))
        try:
            async with asyncio.timeout(STARTED_S_MAX):
                await dialogue.answer(Started)
                self._retreat.runs_there = True
        except TimeoutError:
            # It may run there or not: from here on only the answer to a question ends the move.
            raise UnreachableError(f"the peer has not said within {STARTED_S_MAX:.0f} s that it runs there") from None
        # STARTED has been under way for half a round trip since the first instruction.
        self._tally.downtime_s = time.monotonic() - self._retreat.frozen_at - (session.rtt_s or 0.0) / 2

    async def _finish(self, session: PeerSession, dialogue: Dialogue) -> None:
        self._phase("finish")
        # Before the copy here goes: nobody may take it back from now on.
        await self._journal.note(**{RUNS_THERE: True})
        await remove_moved(self._host.engine, self._container.id, silently=await self._keeps_connections())
        await self._journal.enter(State.DONE, owes_finish=True, **owed_volumes(self._container.volumes))
        await remove_tree(self._host.dump_dir(self.id))
        await session.send(Finish(move=self.id, epoch=self.epoch))
        await session.send(Query(move=self.id))
        # Without the answer the move is as good: the debt stays, and the peer is told until it has heard.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_ANSWER_S):
                while (answer := await dialogue.answer(StateMessage)).state != State.DONE.value:
                    continue
                synced = answer.attributes.get(SYNCED) is True
                await self._journal.note(owes_finish=False, **{SYNCED: synced})
                await end_volumes(self._host, self._journal, self._container.volumes, synced=synced)
        await self._pay_hooks()

    async def _keeps_connections(self) -> bool:
        record = await self._journal.latest()
        return record is not None and bool(record.details.get(KEEPS_CONNECTIONS))

    async def forgo(self) -> None:
        """See :meth:`.Retreat.forgo`."""
        await self._retreat.forgo()


def _unmet(verdict: Verdict, asked_s: float) -> NoConvergenceError:
    return NoConvergenceError(
        f"the predicted downtime is {verdict.predicted_downtime_s:.3g} s ({verdict.predicted.fixed_s:.3g} s of it "
        f"without sending a byte), more than the {asked_s:g} s asked for, and {verdict.reason}",
        "allow a longer --max-downtime, or say --on-no-converge go",
    )


async def _ready(warm: asyncio.Future[Ready]) -> None:
    """Wait for a target that has all layers.

    :raises NoConvergenceError: it does not get ready.
    """
    try:
        async with asyncio.timeout(READY_S_MAX):
            await warm
    except TimeoutError:
        raise NoConvergenceError(
            f"the target has all layers and was not ready to start the container after {READY_S_MAX:.0f} s",
            "look at the target's load and log",
        ) from None
