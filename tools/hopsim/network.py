"""Links between hosts, and sessions over them as the handover sees them: messages and content in order, or an end.

What is under way when a link is blocked comes later, as TCP sends it again; what is under way when a session breaks is
lost. Nothing comes twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from streamhop.net import SessionLost
from streamhop.net.waking import Waker
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.messages import Message

from .loop import Process
from .world import World

SILENCE_S_MAX = 10.0
"""After so long without a sign of life a session ends by itself; as :class:`streamhop.net.NetConfig` has it."""

PING_S = 2.0
CLOSE_S_MAX = 1.0
HANDSHAKE_S_MAX = 5.0


class Direction:
    """From one host to another."""

    def __init__(self) -> None:
        self.blocked_since: float | None = None
        self.stalled: list[Callable[[], None]] = []
        """What is under way while it is blocked."""


class End:
    """One side of a session; what the handover takes for a :class:`streamhop.net.PeerSession`."""

    wire_bytes_sent = 1000
    goodput_bytes_per_s = 1e6

    def __init__(self, network: Network, process: Process, here: str, there: str) -> None:
        self._network = network
        self.process = process
        self.here = here
        self.peer_name = self.peer_reference = there
        self.other: End
        self.over: SessionLost | None = None
        self._messages: deque[Message] = deque()
        self._content: deque[tuple[Any, asyncio.Future[None]]] = deque()
        self._awaited: list[asyncio.Future[None]] = []
        self._changed = Waker()
        self._last_arrival = 0.0
        self._closed_there = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ProtocolError):
            self.fail(error)
        await self.close()

    # -- as PeerSession --------------------------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """See :meth:`PeerSession.send`."""
        await self._network.step(self.process, f"send {type(message).__name__}")
        if self.over is not None:
            raise self.over
        self._network.world.trace(f"{self.process.name} says {_short(message)}")
        self._transmit(lambda: self.other.arrived(message))
        await self._network.step(self.process, f"sent {type(message).__name__}")

    async def receive(self) -> Message:
        """See :meth:`PeerSession.receive`."""
        while not self._messages:
            if self.over is not None:
                raise self.over
            await self._changed.wait()
        message = self._messages.popleft()
        await self._network.step(self.process, f"received {type(message).__name__}")
        return message

    def ping(self) -> None:
        """See :meth:`PeerSession.ping`; what pings bring is in :attr:`silence_s`."""

    @property
    def silence_s(self) -> float:
        """See :attr:`PeerSession.silence_s`; both ends are taken to ping."""
        now = self._network.world.loop.time()
        to_here = self._network.direction(self.peer_name, self.here).blocked_since
        from_here = self._network.direction(self.here, self.peer_name).blocked_since
        silence_s = 0.0
        if to_here is not None:
            silence_s = now - to_here
        elif from_here is not None:
            silence_s = min(now - from_here, PING_S)
        mute_since = self._network.mute_since(self.other)
        return max(silence_s, now - mute_since if mute_since is not None else 0.0)

    @property
    def rtt_s(self) -> float:
        """See :attr:`PeerSession.rtt_s`."""
        return 2 * self._network.latency_s

    async def wait_closed(self) -> None:
        """See :meth:`PeerSession.wait_closed`."""
        while self.over is None:
            await self._changed.wait()

    async def close(self) -> None:
        """See :meth:`PeerSession.close`."""
        if self.over is None:
            self.end("the session was closed here")
            self._transmit(self.other.closed_by_peer)
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                while not self._closed_there:
                    await self._changed.wait()
        except TimeoutError:
            return

    def fail(self, error: ProtocolError) -> None:
        """See :meth:`PeerSession.fail`."""
        if self.over is None:
            self._network.world.trace(f"{self.process.name} ends the session: {error}")
            self.end(f"the session was ended here: {error}")
            self._transmit(self.other.closed_by_peer)

    # -- content ---------------------------------------------------------------------------------------------------

    async def transfer(self, content: Any, seconds: float) -> None:
        """Send ``content``, which takes ``seconds`` of the link; returns when the peer has taken all of it."""
        await self._network.step(self.process, "transfer")
        if self.over is not None:
            raise self.over
        taken: asyncio.Future[None] = self._network.world.loop.create_future()
        self._awaited.append(taken)
        self._transmit(lambda: self.other.content_arrived(content, taken), seconds)
        try:
            await taken
        finally:
            self._awaited.remove(taken)

    async def accept(self) -> tuple[Any, asyncio.Future[None]]:
        """The next content; to be given to :meth:`taken` when it is stored."""
        while not self._content:
            if self.over is not None:
                raise self.over
            await self._changed.wait()
        return self._content.popleft()

    def taken(self, token: asyncio.Future[None]) -> None:
        """Tell the peer that content was taken."""
        if self.over is not None:
            raise self.over

        def arrived() -> None:
            if not token.done():
                token.set_result(None)

        self._transmit(arrived)

    # -- the network -----------------------------------------------------------------------------------------------

    def _transmit(self, arrive: Callable[[], None], seconds: float = 0.0) -> None:
        network, world = self._network, self._network.world
        now = world.loop.time()
        # In order; content and messages have connections of their own.
        due = now + seconds + world.lasts(network.latency_s, 10 * network.latency_s)
        if not seconds:
            due = self._last_arrival = max(due, self._last_arrival + 1e-6)
        way = network.direction(self.here, self.peer_name)

        def try_to_arrive() -> None:
            if way.blocked_since is not None or (way.stalled and not seconds):
                way.stalled.append(arrive)
            else:
                arrive()

        world.at_world(due - now, try_to_arrive)

    def arrived(self, message: Message) -> None:
        """A message is here."""
        if self.over is None:
            self._messages.append(message)
            self._changed.wake()

    def content_arrived(self, content: Any, token: asyncio.Future[None]) -> None:
        """Content is here."""
        if self.over is None:
            self._content.append((content, token))
            self._changed.wake()

    def closed_by_peer(self) -> None:
        """The peer has closed the session, or its host says that there is none any more."""
        self._closed_there = True
        if self.over is None:
            self.end("the peer ended the session")
        if self.process.alive:
            self._transmit(self.other.closed_there)
        self._changed.wake()

    def closed_there(self) -> None:
        """The peer has read everything."""
        self._closed_there = True
        self._changed.wake()

    def end(self, why: str) -> None:
        """The session is over here."""
        self.over = SessionLost(why)
        for waiting in self._awaited:
            if not waiting.done():
                waiting.set_exception(SessionLost(why))
        self._network.forget(self)
        self._changed.wake()


def _short(message: Message) -> str:
    detail = getattr(message, "state", getattr(message, "reason", ""))
    epoch = getattr(message, "epoch", "")
    return f"{type(message).__name__}({epoch}{' ' if detail else ''}{detail})"


class Network:
    """All links and sessions of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.latency_s = world.rng.choice((0.001, 0.01, 0.025, 0.1))
        self.listeners: dict[str, tuple[Process, Callable[[Any], Awaitable[None]]]] = {}
        """By host: the daemon that accepts sessions, and what serves one."""

        self.powered_off: dict[str, float] = {}
        """Hosts that are off, with since when."""

        self.refusing: set[str] = set()
        self._ends: list[End] = []
        self._directions: dict[tuple[str, str], Direction] = {}

    async def step(self, process: Process, what: str) -> None:
        """A point where ``process`` can be killed; then this never returns."""
        self.world.step(process, what)
        if not process.alive:
            await self.world.loop.create_future()

    def direction(self, here: str, there: str) -> Direction:
        """The way from ``here`` to ``there``."""
        found = self._directions.get((here, there))
        if found is None:
            found = self._directions[here, there] = Direction()
        return found

    def forget(self, end: End) -> None:
        """A session is over at one end."""
        if end in self._ends:
            self._ends.remove(end)

    def mute_since(self, end: End) -> float | None:
        """Since when nothing can come from that end, whatever the link does."""
        off_since = self.powered_off.get(end.here)
        if off_since is not None:
            return off_since
        now = self.world.loop.time()
        return end.process.stalled_since if end.process.stalled_until > now else None

    # -- sessions --------------------------------------------------------------------------------------------------

    async def dial(self, process: Process, here: str, there: str) -> End:
        """A session with the daemon at ``there``.

        :raises OSError: nobody listens. :raises SessionLost: no answer.
        """
        world = self.world
        await self.step(process, "dial")
        await asyncio.sleep(world.lasts(4 * self.latency_s + 0.005))
        ways = self.direction(here, there), self.direction(there, here)
        if there in self.powered_off or any(way.blocked_since is not None for way in ways):
            await asyncio.sleep(HANDSHAKE_S_MAX)
            raise SessionLost(f"no answer from {there} within {HANDSHAKE_S_MAX:g} s")
        listening = self.listeners.get(there)
        if listening is None or not listening[0].alive or there in self.refusing:
            raise ConnectionRefusedError(111, "Connection refused")
        acceptor, serve = listening
        mine, theirs = End(self, process, here, there), End(self, acceptor, there, here)
        mine.other, theirs.other = theirs, mine
        self._ends += [mine, theirs]
        world.loop.spawn(acceptor, _serve(world, theirs, serve))
        await self.step(process, "dialed")
        return mine

    def process_died(self, process: Process) -> None:
        """Its kernel closes its sessions; what it had sent arrives, unless there was more for it to read."""
        for end in [end for end in self._ends if end.process is process]:
            end.end("the process is dead")
            if self.world.rng.random() < 0.3:
                self.world.at_world(self.latency_s / 2, end.other.closed_by_peer)
            else:
                end._transmit(end.other.closed_by_peer)  # noqa: SLF001 - the kernel's part of it

    def power_lost(self, host: str) -> None:
        """Nothing is said: peers notice by the silence, or when the host is back and knows of no session."""
        now = self.world.loop.time()
        self.powered_off[host] = now
        for end in [end for end in self._ends if end.here == host]:
            self.forget(end)
            end.over = SessionLost("the power is off")
            self.world.at_world(SILENCE_S_MAX * (1 + 0.05 * self.world.rng.random()), self._silent, end.other)

    def power_back(self, host: str) -> None:
        """The host answers again: whoever still has a session with it is told that there is none."""
        del self.powered_off[host]
        for end in [end for end in self._ends if end.peer_name == host]:
            if end.other.over is not None:
                self.world.at_world(self.world.lasts(PING_S), end.closed_by_peer)

    def _silent(self, end: End) -> None:
        if end.over is None:
            end.end(f"nothing was heard of the peer for {SILENCE_S_MAX:.0f} s")

    def cut(self, one: str, other: str) -> None:
        """Every connection between two hosts breaks at once; what was under way is lost."""
        for end in [end for end in self._ends if {end.here, end.peer_name} == {one, other}]:
            end.end("the connection was lost: Connection reset by peer")

    def block(self, here: str, there: str) -> None:
        """From now on nothing passes from ``here`` to ``there``."""
        way = self.direction(here, there)
        if way.blocked_since is not None:
            return
        since = way.blocked_since = self.world.loop.time()

        def silent() -> None:
            if way.blocked_since == since:
                for end in [end for end in self._ends if end.here == there and end.peer_name == here]:
                    self._silent(end)
                    end._transmit(end.other.closed_by_peer)  # noqa: SLF001 - a reset

        self.world.at_world(SILENCE_S_MAX + 0.05, silent)

    def unblock(self, here: str, there: str) -> None:
        """What waited passes now, in order, as TCP tries again."""
        way = self.direction(here, there)
        if way.blocked_since is None:
            return
        way.blocked_since = None
        if way.stalled:
            self.world.at_world(self.world.lasts(0.2, 2.0, 0.3), self._flush, way)

    def _flush(self, way: Direction) -> None:
        if way.blocked_since is None:
            stalled, way.stalled = way.stalled, []
            for arrive in stalled:
                arrive()


async def _serve(world: World, end: End, serve: Callable[[Any], Awaitable[None]]) -> None:
    """As :class:`streamhop.net.listening.Listener` serves one session."""
    try:
        async with end:
            await serve(end)
    except ProtocolError as error:
        world.trace(f"{end.process.name}: a session was ended: {error}")
    except Exception as error:  # noqa: BLE001 - a finding
        world.loop.bugs.append(f"a session's handler failed: {error!r}")
