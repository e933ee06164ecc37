"""Every move of this host, outgoing and incoming: starts them, finds them, routes peers' messages to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streamhop import __version__
from streamhop.engine.capabilities import host_capabilities
from streamhop.engine.processes import container_pids, resident_bytes
from streamhop.net import PeerSession, SessionLost
from streamhop.peering import NotPairedError, PeerTarget
from streamhop.telemetry.events import EventLog
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.messages import MoveMessage, Offer, Refuse

from .answering import answer_from_journal
from .concurrency import in_worker
from .errors import CancelledMoveError, InDoubtError, MoveError, PreflightError
from .failures import EXPECTED, as_move_error, plain
from .host import Host
from .incoming import IncomingMove
from .journal import Record
from .outgoing import OutgoingMove
from .policy import PolicyOptions
from .preflight import SourceContainer, check_as_source, find_container
from .report import Tally
from .settling import settle
from .states import Role, State

T = TypeVar("T")

log = logging.getLogger("streamhop.handover")

INCOMING_MAX = 8
"""Moves to this host at once; each holds a spool and a Docker start open."""

OPERATIONS_KEPT_MAX = 100
"""Finished operations that can still be asked about."""

ENDED_KEPT_MAX = 1000
"""Ended moves kept in the journal, so that a peer's late question is answered."""

IN_DOUBT_PATIENCE_S = 30.0
"""How long a user waits for a move in doubt to settle before being told so; the daemon goes on asking for ever."""


class UnknownMoveError(Exception):
    """No operation of that ID."""


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """What a user asked for. None means the default."""

    container: str
    peer: str
    new_name: str | None = None
    downtime_s_max: float | None = None
    rounds_max: int | None = None
    on_no_converge: str | None = None
    limit_bytes_per_s: float | None = None

    def policy(self, seconds_max: float) -> PolicyOptions:
        """The policy's options: a target the user named is kept or the move ends; the default one is only aimed at."""
        default = PolicyOptions()
        unmet = self.on_no_converge or ("go" if self.downtime_s_max is None else "abort")
        return PolicyOptions(
            downtime_s_max=self.downtime_s_max or default.downtime_s_max,
            rounds_max=self.rounds_max or default.rounds_max,
            seconds_max=seconds_max,
            abort_if_unmet=unmet == "abort",
        )


@dataclass(slots=True)
class Operation:
    """One outgoing move, as the control API shows it."""

    request: MoveRequest
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    log: EventLog = field(default_factory=EventLog)
    result: dict[str, Any] | None = None
    task: asyncio.Task[None] | None = None
    move: OutgoingMove | None = None

    def as_json(self) -> dict[str, Any]:
        """What ``GET /v1/moves/ID`` answers."""
        return {
            "id": self.id,
            "container": self.request.container,
            "peer": self.request.peer,
            "running": self.result is None,
            "result": self.result,
        }

    def end(self, result: dict[str, Any]) -> None:
        """Note how it ended and let the followers of its events go; only the first call counts."""
        if self.result is not None:
            return
        self.result = result
        self.log.emit("finished", result=result)
        self.log.close()


class Moves:
    """All moves of one host.

    :param tasks: owns every task started here; leaving it waits for them.
    """

    def __init__(self, host: Host, tasks: asyncio.TaskGroup) -> None:
        self._host = host
        self._tasks = tasks
        self._operations: dict[str, Operation] = {}
        self._leaving: set[str] = set()
        self._incoming: dict[bytes, IncomingMove] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._settling: dict[tuple[bytes, Role], asyncio.Task[State | None]] = {}
        self._stopping = False

    # -- this host -------------------------------------------------------------------------------------------------

    async def versions(self) -> dict[str, str]:
        """Versions of this daemon and of what it works with."""
        found = await host_capabilities(self._host.engine)
        return {
            "streamhop": __version__,
            "docker": found.docker,
            "containerd": found.containerd,
            "runc": found.runc,
            "criu": found.criu,
            "kernel": found.kernel,
            "images": found.image_store,
        }

    async def containers(self) -> list[dict[str, Any]]:
        """Running containers: name, image, status, resident memory in MiB."""
        rows = []
        for found in await self._host.engine.list_containers():
            details = await self._host.engine.inspect_container(found["Id"])
            processes = await asyncio.to_thread(container_pids, details["State"]["Pid"])
            memory = await asyncio.to_thread(resident_bytes, processes)
            rows.append(
                {
                    "name": details["Name"].removeprefix("/"),
                    "image": details["Config"]["Image"],
                    "status": found["Status"],
                    "memory": f"{memory / 1e6:.1f} MB",
                    "memory_bytes": memory,
                }
            )
        return rows

    async def peers(self) -> list[dict[str, Any]]:
        """The known peers and whether they answer."""
        return list(await asyncio.gather(*(self._ask_peer(target) for target in self._host.peers.all())))

    async def _ask_peer(self, target: PeerTarget) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": target.name,
            "id": str(target.peer.id) if target.peer is not None else None,
            "address": ", ".join(map(str, target.addresses)),
        }
        try:
            async with await self._host.peers.dial(target, connections=1) as session:
                rtt_s = session.rtt_s
                return {**row, "status": "answers", "rtt_ms": None if rtt_s is None else round(rtt_s * 1000, 1)}
        except EXPECTED as error:
            return {**row, "status": f"does not answer: {plain(error)}", "rtt_ms": None}

    # -- outgoing --------------------------------------------------------------------------------------------------

    def list(self) -> list[dict[str, Any]]:
        """Operations, oldest first."""
        return [operation.as_json() for operation in self._operations.values()]

    def get(self, identifier: str) -> Operation:
        """One operation.

        :raises UnknownMoveError:
        """
        try:
            return self._operations[identifier]
        except KeyError:
            raise UnknownMoveError(f"there is no move {identifier}") from None

    def start(self, request: MoveRequest) -> Operation:
        """Begin to move a container; returns at once.

        :raises ConfigError: in the clear, the peer is neither a known name nor an address.
        :raises MoveError: the peer is not paired, or the daemon is stopping.
        """
        if self._stopping:
            raise MoveError("the daemon is stopping", "start it again")
        try:
            peer = self._host.peers.find(request.peer)
        except NotPairedError as error:
            raise as_move_error(error) from error
        operation = Operation(request)
        self._operations[operation.id] = operation
        finished = [key for key, old in self._operations.items() if old.result is not None]
        for key in finished[: max(0, len(self._operations) - OPERATIONS_KEPT_MAX)]:
            del self._operations[key]
        operation.task = self._tasks.create_task(self._carry_out(operation, peer))
        # One that is cancelled before its first step ends without a word of its own.
        operation.task.add_done_callback(lambda _: operation.end(CancelledMoveError("it was cancelled").as_json()))
        return operation

    def cancel(self, identifier: str) -> bool:
        """Abort an operation.

        :returns: False if it is too late: the move is past the point of commitment, or has ended.
        :raises UnknownMoveError:
        """
        operation = self.get(identifier)
        committed = operation.move is not None and operation.move.committed
        if operation.task is None or operation.task.done() or committed:
            return False
        return operation.task.cancel()

    async def _carry_out(self, operation: Operation, peer: PeerTarget) -> None:
        try:
            operation.end(await self._move_away(operation, peer))
        except asyncio.CancelledError:
            operation.end(CancelledMoveError("it was cancelled").as_json())
        except EXPECTED as error:
            operation.end(as_move_error(error).as_json())
        except Exception as error:
            log.exception("a bug ended a move of %s", operation.request.container)
            operation.end(MoveError(f"internal error: {error!r}", "report this, with the daemon's log").as_json())
        finally:
            await asyncio.to_thread(self._host.journal.forget_ended, ENDED_KEPT_MAX)

    async def _move_away(self, operation: Operation, peer: PeerTarget) -> dict[str, Any]:
        request, events = operation.request, operation.log
        events.emit("phase", phase="preflight")
        tally = Tally()
        tally.timeline.mark("preflight")
        found = await find_container(self._host, request.container)
        if found["Id"] in self._leaving:
            raise PreflightError("it is being moved already", "wait for that move, or cancel it")
        self._leaving.add(found["Id"])
        try:
            container = await check_as_source(self._host, found, request.new_name)
            return await self._hand_over(operation, container, peer, tally)
        finally:
            self._leaving.discard(found["Id"])

    async def _hand_over(
        self, operation: Operation, container: SourceContainer, peer: PeerTarget, tally: Tally
    ) -> dict[str, Any]:
        request, events = operation.request, operation.log
        policy = request.policy(self._host.config.precopy_s_max)
        limit = request.limit_bytes_per_s or self._host.config.limit
        move = OutgoingMove(self._host, container, peer, policy, events, tally, limit)
        operation.move = move
        try:
            return await move.run()
        except InDoubtError as error:
            return await self._resolve_doubt(move, error, events)
        finally:
            self.settle(move.id, Role.SOURCE)

    async def _resolve_doubt(self, move: OutgoingMove, error: InDoubtError, events: EventLog) -> dict[str, Any]:
        """Most doubts are a short break of the link: ask again before the user is told."""
        events.emit("remark", text=f"in doubt, asking the peer: {error.reason}")
        settling = self.settle(move.id, Role.SOURCE)
        if settling is None:
            raise error
        try:
            await asyncio.wait({settling}, timeout=IN_DOUBT_PATIENCE_S)
        except asyncio.CancelledError:
            raise error from None
        # The journal, not the task's result: what is left to tell the peer makes no difference to where it runs.
        record = await asyncio.to_thread(self._host.journal.latest, move.id, Role.SOURCE)
        if record is not None and record.state is State.DONE:
            return move.report()
        if record is not None and record.state is State.ABORTED and not record.details.get("owes_thaw"):
            raise MoveError("the target could not start it after GO", "look at the target's log; it runs on here")
        raise error

    def settle(self, move: bytes, role: Role) -> asyncio.Task[State | None] | None:
        """Do, ask and tell in the background what is left of a move; nothing is, of one that ended as planned.

        :returns: the task; None if the daemon is stopping: the journal keeps it for the next start.
        """
        if self._stopping:
            return None
        running = self._settling.get((move, role))
        if running is None:
            running = self._own(lambda: settle(self._host, move, role))
            self._settling[move, role] = running
            running.add_done_callback(lambda _: self._settling.pop((move, role), None))
        return running

    # -- what an operator decides ----------------------------------------------------------------------------------

    async def handovers(self) -> Sequence[Record]:
        """Every move that the journal remembers, oldest first."""
        return await asyncio.to_thread(self._host.journal.all)

    async def claim(self, move: bytes) -> None:
        """Start a container here that waits for GO. Two copies run unless the source is fenced off.

        :raises MoveError: it does not wait for GO here.
        """
        incoming = self._incoming.get(move)
        if incoming is None:
            raise MoveError("no such move waits for GO here", "see `streamhop handover ls`")
        incoming.claim()

    async def reclaim(self, move: bytes) -> None:
        """Let a container go on here that was released. Two copies run unless the target is fenced off.

        :raises MoveError: it is not in doubt here.
        :raises sqlite3.Error: the decision could not be made durable; nothing was done.
        """
        running = self._settling.get((move, Role.SOURCE))
        if running is not None:
            running.cancel()
            await asyncio.wait({running})
        record = await asyncio.to_thread(self._host.journal.latest, move, Role.SOURCE)
        if record is None or record.state is not State.RELEASED:
            self.settle(move, Role.SOURCE)
            raise MoveError("only a container whose move is in doubt can be reclaimed", "see `streamhop handover ls`")
        await in_worker(
            self._host.journal.record,
            move,
            Role.SOURCE,
            record.epoch + 1,
            State.ABORTED,
            owes_thaw=True,
            owes_abort=True,
            reclaimed=True,
        )
        log.warning("move %s is reclaimed by an operator, epoch %d", move.hex()[:8], record.epoch + 1)
        self.settle(move, Role.SOURCE)

    def _own(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        task = self._tasks.create_task(_survived(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def stop(self) -> None:
        """End everything that may be ended: moves not committed are aborted, the others are left to the journal."""
        self._stopping = True
        for operation in self._operations.values():
            if operation.task is not None:
                operation.task.cancel()
        for task in self._background:
            task.cancel()

    # -- incoming --------------------------------------------------------------------------------------------------

    async def on_session(self, session: PeerSession) -> None:
        """Serve one peer's session until it ends.

        :raises ProtocolError: the peer broke the protocol; the session is of no more use.
        """
        with contextlib.suppress(SessionLost):
            while True:
                message = await session.receive()
                if not isinstance(message, MoveMessage):
                    raise UnexpectedError(f"{type(message).__name__} does not belong to a move")
                await self._dispatch(session, message)

    async def _dispatch(self, session: PeerSession, message: MoveMessage) -> None:
        incoming = self._incoming.get(message.move)
        if incoming is not None:
            incoming.take(session, message)
        elif isinstance(message, Offer):
            await self._offered(session, message)
        else:
            await answer_from_journal(self._host, session, message)

    async def _offered(self, session: PeerSession, offer: Offer) -> None:
        known = await asyncio.to_thread(self._host.journal.latest, offer.move, Role.TARGET)
        if known is not None:
            raise UnexpectedError("a move that is over was offered again")
        full = f"{INCOMING_MAX} moves to this host are under way" if len(self._incoming) >= INCOMING_MAX else ""
        if reason := "the daemon is stopping" if self._stopping else full:
            await session.send(
                Refuse(move=offer.move, epoch=offer.epoch, code="refused", reason=reason, fix="try again later")
            )
            return
        if offer.move in self._incoming:
            raise UnexpectedError("a move that is under way was offered again")
        move = IncomingMove(self._host, session, offer)
        self._incoming[offer.move] = move
        self._own(lambda: self._take_in(move))

    async def _take_in(self, move: IncomingMove) -> None:
        try:
            await move.run()
        except Exception:
            log.exception("a bug ended move %s", move.id.hex()[:8])
        finally:
            # From here on the journal answers for the move.
            del self._incoming[move.id]
            self.settle(move.id, Role.TARGET)
        await asyncio.to_thread(self._host.journal.forget_ended, ENDED_KEPT_MAX)


async def _survived(work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    """``work``'s result; None if a bug ended it, which is logged: one move must not end the daemon."""
    try:
        return await work()
    except Exception:
        log.exception("a bug ended a background task")
        return None


__all__ = ["MoveRequest", "Moves", "Operation", "UnknownMoveError"]
