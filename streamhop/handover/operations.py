"""Moves away from this host that users asked for: each an operation, under the ID of its move, until it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from streamhop.findings import found
from streamhop.net.relaying import Port
from streamhop.peering import NoAddressError, NotPairedError, PeerTarget
from streamhop.telemetry.events import EventLog

from .background import Background
from .concurrency import concluded
from .connections import TcpChoice, Wish, wish
from .converging import ROUNDS_MAX as CONVERGING_ROUNDS_MAX
from .errors import InDoubtError, MoveError, PreflightError, StillFrozenError
from .failures import EXPECTED, as_move_error, of_cancel, plain
from .health import GOOD, UNKNOWN, health_at_target
from .host import Host
from .means import Means
from .move_ids import new_move_id
from .operation_log import KeptOperation
from .outgoing import OutgoingMove
from .policy import Costs, PolicyOptions, learn_factor
from .preflight import SourceContainer, check_cpu_quota, find_container
from .reconnecting import move_with_reconnects
from .report import Tally, tell_warnings
from .settlements import Settlements
from .staging import Staging
from .states import Role, State
from .surroundings import DEFAULT, Surroundings
from .target_checks import published_ports

log = logging.getLogger("streamhop.handover")

OPERATIONS_KEPT_MAX = 100
"""Finished operations whose events are kept in memory."""

OUTCOMES_KEPT_MAX = 1000
"""Operations whose outcome is kept on disk."""

IN_DOUBT_PATIENCE_S = 30.0
"""How long a user waits for a move in doubt to settle before being told so; the daemon goes on asking for ever."""

THAW_PATIENCE_S = 3.0
"""How long the user of a move that failed waits to hear that the container is thawed, if it was not at once."""


UNHEALTHY_EXIT_CODE = 22
"""The exit code of a move after which the container was not healthy in time; it runs at the target."""


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """What a user asked for. None means the default."""

    container: str
    peer: str
    new_name: str | None = None
    downtime_s_max: float | None = None
    rounds_max: int | None = None
    on_no_converge: str | None = None
    auto_converge: bool = False
    """Whether the container may be slowed down so that it can be moved at all."""
    limit_bytes_per_s: float | None = None
    reconnect_s: float | None = None
    surroundings: Surroundings = DEFAULT
    healthy_s_max: float | None = None
    """How long to wait for the container's health check at the target; None: not at all."""
    tcp: TcpChoice = TcpChoice.AUTO
    """What becomes of the container's open connections."""
    forward_s: float | None = None
    """How long the ports published here are relayed to the target afterwards; None: not at all."""

    def policy(self, seconds_max: float) -> PolicyOptions:
        """The policy's options: a target the user named is kept or the move ends; the default one is only aimed at."""
        default = PolicyOptions()
        unmet = self.on_no_converge or ("go" if self.downtime_s_max is None else "abort")
        return PolicyOptions(
            downtime_s_max=self.downtime_s_max or default.downtime_s_max,
            rounds_max=self.rounds_max or (CONVERGING_ROUNDS_MAX if self.auto_converge else default.rounds_max),
            seconds_max=seconds_max,
            abort_if_unmet=unmet == "abort",
            auto_converge=self.auto_converge,
        )


@dataclass(slots=True)
class Operation:
    """One move away from this host. The ID is there before anything is done."""

    request: MoveRequest
    move: bytes = field(default_factory=new_move_id)
    log: EventLog = field(default_factory=EventLog)
    result: dict[str, Any] | None = None
    task: asyncio.Task[None] | None = None
    outgoing: OutgoingMove | None = None
    unwanted: bool = False
    """Whether somebody wants it to end, or the daemon ends."""

    def cancel(self) -> bool:
        """Ask for its end; returns False if it has ended."""
        self.unwanted = True
        return self.task is not None and self.task.cancel()

    @property
    def id(self) -> str:
        """The move's ID, as people write it."""
        return self.move.hex()

    def end(self, result: dict[str, Any]) -> None:
        """Note how it ended and let the followers of its events go; only the first call counts."""
        if self.result is not None:
            return
        self.result = result
        self.log.emit("finished", result=result)
        self.log.close()


class Operations:
    """Every operation of this daemon.

    :param tasks: owns every task started here; leaving it waits for them.
    """

    def __init__(
        self,
        host: Host,
        tasks: asyncio.TaskGroup,
        background: Background,
        settlements: Settlements,
        staging: Staging,
        means: Means,
    ) -> None:
        self._host = host
        self._means = means
        self._tasks = tasks
        self._background = background
        self._settlements = settlements
        self._staging = staging
        self._operations: dict[bytes, Operation] = {}
        self._leaving: set[str] = set()

    def __iter__(self) -> Iterator[Operation]:
        """Oldest first."""
        return iter(self._operations.values())

    def get(self, move: bytes) -> Operation | None:
        """The operation of that ID, None if this daemon has none or has forgotten it."""
        return self._operations.get(move)

    async def start(self, request: MoveRequest) -> Operation:
        """Begin to move a container; returns as soon as the ID cannot be lost any more.

        :raises ConfigError: in the clear, the peer is neither a known name nor an address.
        :raises MoveError: the peer is not paired, nobody knows where it is, or the daemon is stopping.
        :raises sqlite3.Error: the journal cannot be written; nothing was begun.
        """
        self._refuse_when_stopping()
        try:
            peer = self._host.peers.find(request.peer)
        except (NotPairedError, NoAddressError) as error:
            raise as_move_error(error) from error
        operation = Operation(request)
        kept = self._host.journal.operations
        await asyncio.to_thread(kept.begin, operation.move, request.container, request.peer)
        self._refuse_when_stopping()
        self._operations[operation.move] = operation
        finished = [key for key, old in self._operations.items() if old.result is not None]
        for key in finished[: max(0, len(self._operations) - OPERATIONS_KEPT_MAX)]:
            del self._operations[key]
        operation.task = self._tasks.create_task(self._carry_out(operation, peer))
        # One that is cancelled before its first step ends without a word of its own.
        operation.task.add_done_callback(lambda _: operation.end(self._of_cancel()))
        return operation

    def _refuse_when_stopping(self) -> None:
        if self._background.stopping:
            raise MoveError("the daemon is stopping", "start it again")

    def cancel(self, move: bytes) -> bool:
        """Abort an operation.

        :returns: False if it is too late: the move is past the point of commitment, or has ended.
        """
        operation = self.get(move)
        if operation is None or operation.task is None or operation.task.done():
            return False
        if operation.outgoing is not None and operation.outgoing.committed:
            return False
        return operation.cancel()

    def stop(self) -> None:
        """End everything that may be ended: moves not committed are aborted, the others are left to the journal."""
        for operation in self:
            operation.cancel()

    # -- one operation ---------------------------------------------------------------------------------------------

    async def _carry_out(self, operation: Operation, peer: PeerTarget) -> None:
        try:
            result = await self._move_away(operation, peer)
            result |= await self._health(operation, peer)
        except asyncio.CancelledError:
            result = self._of_cancel()
        except EXPECTED as error:
            result = as_move_error(error).as_json()
        except Exception as error:
            log.exception("a bug ended a move of %s", operation.request.container)
            result = MoveError(f"internal error: {error!r}", "report this, with the daemon's log").as_json()
        await concluded(self._conclude(operation, result))

    def _of_cancel(self) -> dict[str, Any]:
        return of_cancel(stopping=self._background.stopping).as_json()

    async def _conclude(self, operation: Operation, result: dict[str, Any]) -> None:
        """Keep the result, then tell it: what a user was told is not forgotten by a daemon that ends right after."""
        journal = self._host.journal
        try:
            await asyncio.to_thread(journal.operations.end, operation.move, result)
            await asyncio.to_thread(journal.operations.forget, OUTCOMES_KEPT_MAX)
            await asyncio.to_thread(journal.forget_ended, OUTCOMES_KEPT_MAX)
        except EXPECTED as error:
            log.warning("move %s: how it ended could not be written down: %s", operation.id[:8], plain(error))
        operation.end(result)

    async def _move_away(self, operation: Operation, peer: PeerTarget) -> dict[str, Any]:
        request, events = operation.request, operation.log
        events.emit("phase", phase="preflight")
        tally = Tally()
        tally.timeline.mark("preflight")
        details = await find_container(self._host, request.container)
        if details["Id"] in self._leaving:
            raise PreflightError("it is being moved already", "wait for that move, or cancel it")
        self._leaving.add(details["Id"])
        try:
            container = await self._means.check_as_source(self._host, details, request.new_name, request.surroundings)
            tell_warnings(events, "source", container.warnings)
            if request.auto_converge:
                await check_cpu_quota(self._host, container)
            connections, why_not = await wish(self._host.engine, details, request.tcp)
            if why_not:
                events.emit("remark", text=f"open connections will be closed at the target: {why_not}")
            async with self._staging.held_back(container.id, peer):
                return await self._hand_over(operation, container, peer, tally, connections)
        finally:
            self._leaving.discard(details["Id"])

    async def _hand_over(
        self,
        operation: Operation,
        container: SourceContainer,
        peer: PeerTarget,
        tally: Tally,
        connections: Wish | None = None,
    ) -> dict[str, Any]:
        request, events = operation.request, operation.log
        policy = request.policy(self._host.config.precopy_s_max)

        limit = request.limit_bytes_per_s or self._host.config.limit
        told = await asyncio.to_thread(self._host.journal.operations.all)
        costs = Costs(factor=learn_factor(list(_earlier_costs(told, peer.name))))

        def begin(epoch: int) -> OutgoingMove:
            operation.outgoing = OutgoingMove(
                self._host,
                operation.move,
                container,
                peer,
                policy,
                events,
                tally,
                self._means,
                limit,
                costs,
                epoch=epoch,
                connections=connections,
            )
            return operation.outgoing

        patience_s = request.reconnect_s if request.reconnect_s is not None else self._host.config.reconnect_s_max
        try:
            await self._promise_forward(operation, container, peer)
            return await move_with_reconnects(begin, patience_s, events, tally, unwanted=lambda: operation.unwanted)
        except InDoubtError as error:
            assert operation.outgoing is not None
            return await self._resolve_doubt(operation.outgoing, error, events)
        except StillFrozenError as error:
            raise await self._unless_thawed(operation.move, error) from error
        finally:
            self._settlements.settle(operation.move, Role.SOURCE)
            self._host.forwards.ended(operation.move)

    async def _promise_forward(self, operation: Operation, container: SourceContainer, peer: PeerTarget) -> None:
        """Before the move: a daemon that ends just after it must know of it."""
        seconds = operation.request.forward_s
        if seconds is None:
            return
        ports = [Port(*entry) for entry in published_ports(container.manifest.request.body)]
        if not ports:
            raise _no_forward("it publishes no port that could be relayed", "move it without --forward")
        if operation.request.surroundings.publish:
            # A relay goes on to the port of its own number, and what is published at the target is another.
            raise _no_forward(
                "a forward leads to the same ports, and --publish gives it others", "leave out one of them"
            )
        hosts = list(dict.fromkeys(address.host for address in peer.addresses))
        await self._host.forwards.promise(operation.move, container.name, peer.name, hosts, ports, seconds)

    async def _unless_thawed(self, move: bytes, error: StillFrozenError) -> MoveError:
        """What to tell: often it is thawed a moment later, when Docker is back."""
        settling = self._settlements.settle(move, Role.SOURCE)
        if settling is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({settling}, timeout=THAW_PATIENCE_S)
        try:
            record = await asyncio.to_thread(self._host.journal.latest, move, Role.SOURCE)
        except sqlite3.Error:
            return error
        thawed = record is not None and record.state is State.ABORTED and not record.details.get("owes_thaw")
        return error.why if thawed and error.why is not None else error

    async def _health(self, operation: Operation, peer: PeerTarget) -> dict[str, Any]:
        """What the report says about the container's health, if the user asked."""
        seconds = operation.request.healthy_s_max
        if seconds is None:
            return {}
        if operation.unwanted:
            return {"health": UNKNOWN, "exit_code": UNHEALTHY_EXIT_CODE}
        operation.log.emit("phase", phase="health check")
        try:
            health = await health_at_target(self._host, peer, operation.move, seconds)
        except asyncio.CancelledError:
            # The daemon stops; the move is done whatever comes of this.
            health = UNKNOWN
        if health == "none":
            operation.log.emit("remark", text="the container has no health check: its health is not known")
        return {"health": health} if health in GOOD else {"health": health, "exit_code": UNHEALTHY_EXIT_CODE}

    async def _resolve_doubt(self, outgoing: OutgoingMove, error: InDoubtError, events: EventLog) -> dict[str, Any]:
        """Most doubts are a short break of the link: ask again before the user is told."""
        events.emit("remark", text="in doubt: asking the peer what became of it")
        settling = self._settlements.settle(outgoing.id, Role.SOURCE)
        if settling is None:
            raise error
        try:
            await asyncio.wait({settling}, timeout=IN_DOUBT_PATIENCE_S)
        except asyncio.CancelledError:
            raise error from None
        # The journal, not the task's result: what is left to tell the peer makes no difference to where it runs.
        try:
            record = await asyncio.to_thread(self._host.journal.latest, outgoing.id, Role.SOURCE)
        except sqlite3.Error:
            raise error from None
        if record is not None and record.state is State.DONE:
            return outgoing.report()
        if record is not None and record.state is State.ABORTED:
            if record.details.get("owes_thaw"):
                raise StillFrozenError(
                    "the target could not start it after GO, and here it is not given back whole yet"
                )
            raise MoveError("the target could not start it after GO", "look at the target's log; it runs on here")
        raise error


def _no_forward(reason: str, fix: str) -> PreflightError:
    return PreflightError.of_several([found("container.forward", reason, fix)])


def _earlier_costs(told: Iterable[KeptOperation], target: str) -> Iterator[tuple[float, float]]:
    """What :func:`learn_factor` needs of the moves to ``target`` that were told of, oldest first."""
    for operation in told:
        result = operation.result or {}
        said_s, took_s = result.get("usual_fixed_s"), result.get("fixed_s")
        if result.get("target") == target and said_s and took_s:
            yield float(said_s), float(took_s)
