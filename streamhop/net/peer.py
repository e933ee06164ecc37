"""A session with one peer, from the end of the handshake to its own end.

Everything here happens in callbacks of the event loop. Frames leave when a connection has room for them and never
wait in user space behind others, so that the most urgent one can always go first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from streamhop_protocol.errors import CODES, LimitError, ProtocolError
from streamhop_protocol.limits import STREAMS_DEFAULT
from streamhop_protocol.messages import Message, StreamKind
from streamhop_protocol.session import (
    ChunkArrived,
    CreditArrived,
    MessageArrived,
    PeerLeft,
    PongArrived,
    Session,
    SessionEvent,
    StreamDone,
    StreamEnded,
    StreamOpened,
    StreamReset,
)

from .channel import Channel
from .config import NetConfig
from .errors import SessionLost
from .limit import RateLimit
from .link import (
    SAMPLE_S_MIN,
    CodecPace,
    GoodputEstimate,
    RttWindow,
    fragment_bytes,
    grown_fragment_bytes,
    unsent_bytes,
)
from .packing import CodecThreads
from .security import KnownPeer
from .sockets import limit_unsent, read_tcp_info, use_congestion_control
from .streams import IncomingStream, OutgoingStream
from .waking import Waker

log = logging.getLogger("streamhop.net")

STREAMS_UNACCEPTED_MAX = 4 * STREAMS_DEFAULT
"""Streams that wait for :meth:`PeerSession.accept_stream`. The bound on open ones does not bound these: the peer may
reset those and open more."""


class PeerSession:
    """One session. An async context manager: leaving it closes the session.

    Every method that waits may be cancelled. Methods raise :class:`SessionLost` once the session is over, but messages
    that had arrived before are still given out.
    """

    def __init__(
        self,
        config: NetConfig,
        session: Session,
        channels: tuple[Channel, list[Channel]],
        peer: KnownPeer,
        rtt_s: float | None,
    ) -> None:
        """Take over channels whose handshake is done.

        :param channels: the control connection, the payload connections.
        :param peer: who is at the other end.
        :param rtt_s: round trip seen in the handshake, if this side saw one.
        """
        self.session = session
        self.peer_name = peer.name
        self.peer_reference = peer.reference
        """Stays the same when this side calls the peer otherwise; in the clear it is what the peer calls itself."""
        self.threads = CodecThreads(config.codec_threads)
        self.trace = None if config.trace is None else config.trace.trace
        self._config = config
        self._control, self._payloads = channels
        self._channels = [self._control, *self._payloads]
        self.peer_address = self._control.peer_address
        """Host and port of the other end of the control connection."""
        self._loop = asyncio.get_running_loop()
        self._changed = Waker()
        self._over: SessionLost | None = None
        self._messages: deque[MessageArrived] = deque()
        self._messages_bytes = 0
        self._accepted: deque[IncomingStream] = deque()
        self._outgoing: dict[int, OutgoingStream] = {}
        self._incoming: dict[int, IncomingStream] = {}
        self._goodput = GoodputEstimate()
        self._pace = CodecPace()
        self._rtt = RttWindow()
        self._starved = True
        self._fragment_bytes = fragment_bytes(None)
        self._unsent_bytes = 0
        limit = config.limit_bytes_per_s
        self._limit = None if limit is None else RateLimit(limit, time.monotonic())
        self._limit_timer: asyncio.TimerHandle | None = None
        """There while the limit holds frames back."""
        self._pinged_at = 0.0
        if rtt_s is not None:
            self._rtt.add(time.monotonic(), rtt_s)
        for channel in self._channels:
            channel.owner = self
        for channel in self._payloads:
            channel.carry_payload()
            use_congestion_control(channel.socket, config.congestion_control)
        self._timer = self._loop.call_soon(self._tick)
        for channel in self._channels:
            if channel.lost:
                self.on_lost(channel, None)
            elif channel.inbox or channel.connection.error is not None:
                self.on_received(channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ProtocolError):
            self.fail(error)
        await self.close()

    # -- messages --------------------------------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Send a message; if this is cancelled or raises, it was not sent.

        :raises SessionLost: the session is over.
        :raises ProtocolError: a field that the peer would refuse.
        """
        while self._over is None and not self._control.writable:
            await self._changed.wait()
        if self._over is not None:
            raise self._over
        self.session.send(message)
        self.flush_control()

    async def receive(self) -> Message:
        """The next message.

        :raises SessionLost: the session is over and all messages were given out.
        """
        while not self._messages:
            if self._over is not None:
                raise self._over
            await self._changed.wait()
        arrived = self._messages.popleft()
        self._messages_bytes -= arrived.wire_bytes
        return arrived.message

    # -- streams ---------------------------------------------------------------------------------------------------

    async def open_stream(self, kind: StreamKind, attributes: Mapping[str, Any]) -> OutgoingStream:
        """Begin a stream; waits while the peer allows no more at once.

        :raises SessionLost: the session is over.
        :raises ProtocolError: attributes that no frame can hold.
        """
        while self._over is None and not self.session.may_open:
            await self._changed.wait()
        if self._over is not None:
            raise self._over
        number = self.session.open_stream(kind, attributes)
        stream = self._outgoing[number] = OutgoingStream(self, number, kind)
        self.pump()
        return stream

    async def accept_stream(self) -> IncomingStream:
        """The next stream that the peer began.

        :raises SessionLost: the session is over.
        """
        while not self._accepted:
            if self._over is not None:
                raise self._over
            await self._changed.wait()
        return self._accepted.popleft()

    # -- the link --------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Ask for a sign of life now."""
        if self._over is None:
            self._pinged_at = time.monotonic()
            self.session.ping(self._pinged_at)
            self.flush_control()

    @property
    def silence_s(self) -> float:
        """Seconds since anything was heard of the peer."""
        return time.monotonic() - max(channel.heard_at for channel in self._channels)

    @property
    def rtt_s(self) -> float | None:
        """Round trip of the link without queues: the least of the last minute. None before anything was answered."""
        return self._rtt.minimum_s(time.monotonic())

    @property
    def goodput_bytes_per_s(self) -> float | None:
        """What the link delivers, measured while it was the bottleneck; None if it never was.

        A limit is the bottleneck, and known before anything was measured, unless the link turns out to be slower.
        """
        return self._within_limit(self._goodput.bytes_per_s)

    @property
    def codec_rate_bytes_per_s(self) -> float | None:
        """What to choose a codec by: the link's rate, unless the link waits for the codec."""
        return self._pace.bytes_per_s(self._at_least_bytes_per_s)

    @property
    def _at_least_bytes_per_s(self) -> float | None:
        """The link's rate or the limit, or what the link is known to do at least."""
        return self._within_limit(self._goodput.at_least_bytes_per_s)

    def _within_limit(self, bytes_per_s: float | None) -> float | None:
        if self._limit is None:
            return bytes_per_s
        return self._limit.bytes_per_s if bytes_per_s is None else min(bytes_per_s, self._limit.bytes_per_s)

    @property
    def wire_bytes_sent(self) -> int:
        """Bytes given to TCP on all connections, with all framing."""
        return sum(channel.wire_bytes_sent for channel in self._channels)

    # -- the end ---------------------------------------------------------------------------------------------------

    @property
    def over(self) -> SessionLost | None:
        """Why the session is over, or None."""
        return self._over

    async def wait_closed(self) -> None:
        """Return when the session is over, for whatever reason."""
        while self._over is None:
            await self._changed.wait()

    async def close(self) -> None:
        """End the session: what was sent on the control connection still arrives, unfinished streams do not.

        Waits a little for the peer to have read it. Cut short if cancelled, but always closed afterwards.
        """
        if self._over is None:
            self.session.bye()
            self._end(SessionLost("the session was closed here"))
        try:
            async with asyncio.timeout(self._config.close_s_max):
                for channel in self._channels:
                    while not channel.lost:
                        await channel.changed.wait()
        except TimeoutError:
            pass
        finally:
            self._abort_all()

    def fail(self, error: ProtocolError) -> None:
        """End the session because of ``error``, and tell the peer."""
        if self._over is None:
            self.session.fail(error)
            lost = SessionLost(f"the session was ended here: {error}")
            lost.__cause__ = error
            self._end(lost)

    def _end(self, lost: SessionLost, *, peer_reads: bool = True) -> None:
        """The session is over.

        :param peer_reads: the peer gets what waits for the control connection, and closes when it has read it. Until
            then nothing is closed here: that could destroy what is under way.
        """
        self._flush_control_now()
        self._over = lost
        self._timer.cancel()
        if self._limit_timer is not None:
            self._limit_timer.cancel()
        self.threads.close()
        if peer_reads:
            self._timer = self._loop.call_later(self._config.close_s_max, self._abort_all)
        else:
            self._control.close()
            for channel in self._payloads:
                channel.abort()
        self._changed.wake()
        for outgoing in self._outgoing.values():
            outgoing.on_over()
        for incoming in self._incoming.values():
            incoming.on_over()

    def _abort_all(self) -> None:
        self._timer.cancel()
        for channel in self._channels:
            channel.abort()

    # -- callbacks of the channels ---------------------------------------------------------------------------------

    def on_made(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""

    def on_received(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""
        now = time.monotonic()
        while channel.inbox:
            self.session.receive(channel.inbox.popleft(), now)
        for event in self.session.events():
            if self._over is None or isinstance(event, MessageArrived):
                self._on_event(event)
            elif isinstance(event, PeerLeft):
                self._abort_all()  # both said BYE at once: nobody waits for anything
        error = self.session.error or channel.connection.error
        if error is not None and self._over is None:
            self.session.fail(error)
            lost = SessionLost(f"the peer broke the protocol: {error}")
            lost.__cause__ = error
            log.warning("session with %s: the peer broke the protocol: %s", self.peer_name, error)
            self._end(lost)
        self.flush_control()
        self.pump()
        if channel is self._control:
            self._changed.wake()  # whatever it was, it may allow one more stream

    def on_writable(self, channel: Channel) -> None:
        """See :class:`.ChannelOwner`."""
        if channel is self._control:
            self.flush_control()
            self._changed.wake()
        else:
            if self._at_least_bytes_per_s is None:
                left_in_s = time.monotonic() - channel.wrote_at
                self._fragment_bytes = grown_fragment_bytes(self._fragment_bytes, left_in_s)
            self.pump()

    def on_lost(self, channel: Channel, error: Exception | None, /) -> None:
        """See :class:`.ChannelOwner`."""
        if self._over is None:
            why = channel.connection.error or error
            self._end(SessionLost(f"the connection was lost: {why or 'the peer closed it'}"), peer_reads=False)
        elif channel is self._control:
            self._abort_all()

    def _on_event(self, event: SessionEvent) -> None:
        match event:
            case MessageArrived():
                self._on_message(event)
            case PongArrived():
                self._rtt.add(time.monotonic(), event.rtt_s)
            case PeerLeft(error=None):
                self._end(SessionLost("the peer ended the session"), peer_reads=False)
            case PeerLeft(error=error) if error is not None:
                log.warning("session with %s: the peer ended it (%s): %s", self.peer_name, error.code, error.reason)
                lost = SessionLost(f"the peer ended the session ({error.code}): {error.reason}")
                lost.__cause__ = CODES.get(error.code, ProtocolError)(error.reason)
                self._end(lost, peer_reads=False)
            case _:
                self._on_stream_event(event)

    def _on_message(self, arrived: MessageArrived) -> None:
        if len(self._messages) >= self._config.messages_unread_max:
            self.fail(LimitError(f"more than {self._config.messages_unread_max} messages that nobody has read"))
            return
        if self._messages_bytes + arrived.wire_bytes > self._config.messages_unread_bytes_max:
            allowed = self._config.messages_unread_bytes_max
            self.fail(LimitError(f"more than {allowed} bytes of messages that nobody has read"))
            return
        self._messages.append(arrived)
        self._messages_bytes += arrived.wire_bytes
        self._changed.wake()

    def _on_stream_event(self, event: SessionEvent) -> None:
        match event:
            case StreamOpened() if len(self._accepted) >= STREAMS_UNACCEPTED_MAX:
                self.fail(LimitError(f"more than {STREAMS_UNACCEPTED_MAX} streams that nobody has taken"))
            case StreamOpened():
                stream = self._incoming[event.stream] = IncomingStream(self, event)
                self._accepted.append(stream)
                self._changed.wake()
            case ChunkArrived() if event.stream in self._incoming:
                self._incoming[event.stream].on_chunk(event)
            case StreamEnded() if event.stream in self._incoming:
                # done() and iteration go on by the application's reference
                self._incoming.pop(event.stream).on_ended(event)
            case StreamReset(outgoing=False) if event.stream in self._incoming:
                self._incoming.pop(event.stream).on_reset(event)
            case StreamReset(outgoing=True) if event.stream in self._outgoing:
                self._outgoing.pop(event.stream).on_reset(event)
                self._changed.wake()
            case StreamDone() if event.stream in self._outgoing:
                self._outgoing.pop(event.stream).on_done(event.attributes)
                self._changed.wake()
            case CreditArrived():
                self.pump()

    # -- what leaves -----------------------------------------------------------------------------------------------

    def flush_control(self) -> None:
        """Send what waits for the control connection, if that has room."""
        if self._over is None and self._control.writable:
            self._flush_control_now()

    def _flush_control_now(self) -> None:
        data = self.session.control_to_send()
        if data:
            self._control.write((data,))

    def pump(self) -> None:
        """Let frames leave as long as a payload connection has room and there are any."""
        if self._over is not None:
            return
        for channel in self._payloads:
            while channel.writable:
                if self._held_back():
                    return
                frame = self.session.next_frame(self._fragment_bytes)
                if frame is None:
                    self._starved = True
                    return
                channel.write((frame.head, frame.payload))
                if self._limit is not None:
                    self._limit.take(frame.wire_bytes)
                stream = self._outgoing.get(frame.stream)
                if stream is not None:
                    stream.on_sent(frame)

    def _held_back(self) -> bool:
        """Whether the limit allows no frame now; if so, they leave once it does."""
        if self._limit is None:
            return False
        if self._limit_timer is None:
            delay_s = self._limit.delay_s(time.monotonic())
            if delay_s == 0:
                return False
            self._limit_timer = self._loop.call_later(delay_s, self._let_go)
        return True

    def _let_go(self) -> None:
        self._limit_timer = None
        self.pump()

    # -- upkeep ----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        silence_s = self.silence_s
        if silence_s > self._config.silence_s_max:
            lost = SessionLost(f"nothing was heard of the peer for {silence_s:.0f} s")
            self._end(lost, peer_reads=False)
            self._abort_all()
            return
        if now - self._pinged_at >= self._config.ping_interval_s:
            self.ping()
        self._measure(now)
        self._timer = self._loop.call_later(SAMPLE_S_MIN, self._tick)

    def _measure(self, now: float) -> None:
        acked_bytes = 0
        for channel in self._payloads:
            info = read_tcp_info(channel.socket)
            if info is None:
                return
            acked_bytes += info.acked_bytes
            if info.rtt_s_min is not None:
                self._rtt.add(now, info.rtt_s_min)
        # Whatever may leave leaves at once: a connection that has room means that there is nothing to send, unless a
        # limit holds it back.
        idle = self._limit_timer is None and any(channel.writable for channel in self._payloads)
        limited = not self._starved and not idle
        self._goodput.update(now, acked_bytes, limited=limited)
        self._pace.update(link_limited=limited, packing_share=self.threads.packing_share())
        self._starved = idle
        if self._at_least_bytes_per_s is not None:
            self._fragment_bytes = fragment_bytes(self._at_least_bytes_per_s)
        rate = self.goodput_bytes_per_s
        if rate is not None:
            allowed = unsent_bytes(rate)
            if abs(allowed - self._unsent_bytes) > self._unsent_bytes // 4:
                self._unsent_bytes = allowed
                for channel in self._payloads:
                    limit_unsent(channel.socket, allowed)
