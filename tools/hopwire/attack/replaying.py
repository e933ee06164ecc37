"""Plays the dialer's side of a recorded session to a daemon, with a fault."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hopwire.errors import WireError
from hopwire.events import FrameSeen
from hopwire.roster import Roster
from streamhop.config import Address
from streamhop_protocol.connection import encode_body
from streamhop_protocol.frames import FrameType, encode_head
from streamhop_protocol.messages import MOVE_ID_BYTES, MoveMessage, encode_message
from streamhop_protocol.signals import Done, Hello, Join, Reset, Welcome
from streamhop_protocol.windows import frame_cost_bytes

from .faults import Action, Close, Culprit, Pause, Write
from .outcomes import Outcome
from .speaker import Speaker
from .surveying import Survey

CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Manner:
    """How to play.

    :param patience_s: how long to wait for what the daemon did when this was recorded.
    :param linger_s: how long to listen after the last frame.
    :param keep_move: whether moves keep their IDs; else each gets a new one, so that the daemon does not know it.
    """

    patience_s: float = 10.0
    linger_s: float = 3.0
    keep_move: bool = False


class Player:
    """Plays one session. Use once: :meth:`play`."""

    def __init__(
        self, target: Address, tls: ssl.SSLContext | None, survey: Survey, culprit: Culprit, manner: Manner
    ) -> None:
        self._speaker = Speaker(target, tls)
        self._survey = survey
        self._culprit = culprit
        self._manner = manner
        self._names: dict[int, str] = {}
        self._moves: dict[bytes, bytes] = {}
        self._answers = 0
        """That the acceptor had given by now, when this was recorded."""
        self._outcome = Outcome(did=survey.shown)

    async def play(self, frames: Iterator[tuple[FrameSeen, Roster]]) -> Outcome:
        """Send what the dialer has sent, each frame once the daemon has answered as much as it had then.

        :raises WireError: the daemon cannot be reached, or the recording is damaged.
        """
        async with self._speaker:
            number = 0
            for seen, _ in frames:
                if not seen.from_dialer:
                    self._expect(seen)
                    continue
                if not await self._step(seen, chosen=number == self._survey.chosen):
                    break
                number += 1
            if (left := self._culprit.left()) is not None:
                await self._speaker.write(*left)
            await self._speaker.until(lambda: self._speaker.over, self._manner.linger_s)
            return self._finish()

    def _expect(self, seen: FrameSeen) -> None:
        if seen.received is not None and isinstance(seen.received.body, MoveMessage | Done | Reset):
            self._answers += 1

    def _finish(self) -> Outcome:
        outcome, speaker = self._outcome, self._speaker
        outcome.sent_frames, outcome.sent_bytes = speaker.sent_frames, speaker.sent_bytes
        outcome.seconds = speaker.now_s
        outcome.heard, outcome.heard_left_out = speaker.heard, speaker.heard_left_out
        outcome.counts = dict(speaker.counts)
        return outcome

    async def _step(self, seen: FrameSeen, *, chosen: bool) -> bool:
        """One frame; returns False if there is no going on."""
        body = seen.received.body if seen.received is not None else None
        if isinstance(body, Hello):
            await self._open(seen.connection, CONTROL)
        elif isinstance(body, Join):
            if not await self._until(lambda: self._speaker.welcome is not None, "WELCOME"):
                return False
            await self._open(seen.connection, f"payload {len(self._names)}")
        else:
            expected = self._answers
            if not await self._until(lambda: self._speaker.answers >= expected, f"answer {expected}"):
                return False
        name = self._names.get(seen.connection)
        if name is None:
            raise WireError(f"connection {seen.connection} does not begin in the recording")
        if seen.prefix.type == FrameType.DATA and not await self._credit(seen):
            return False
        actions = self._culprit.chosen if chosen else self._culprit.other
        for action in actions(name, self._frame(seen)):
            if not await self._act(name, action):
                return False
        self._speaker.sent_frames += 1
        if isinstance(body, Join):
            # As the dialer did: nothing is said on it before JOINED.
            return await self._until(lambda: self._speaker.counts["JOINED"] >= len(self._names) - 1, "JOINED")
        return True

    async def _open(self, connection: int, name: str) -> None:
        self._names[connection] = name
        await self._speaker.connect(name)

    async def _credit(self, seen: FrameSeen) -> bool:
        stream, cost = seen.prefix.stream, frame_cost_bytes(seen.prefix.wire_bytes)
        return await self._until(lambda: self._speaker.take_credit(stream, cost), f"credit for stream {stream}")

    async def _until(self, condition: Callable[[], bool], what: str) -> bool:
        if await self._speaker.until(condition, self._manner.patience_s):
            return True
        self._outcome.gave_up = f"no {what}" + ("" if self._speaker.over else f" in {self._manner.patience_s:g} s")
        return False

    async def _act(self, name: str, action: Action) -> bool:
        match action:
            case Write(data):
                if not await self._speaker.write(name, data):
                    self._outcome.gave_up = f"it closed {name}"
                    return False
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Close():
                self._speaker.close(name)
        return True

    # -- frames ----------------------------------------------------------------------------------------------------

    def _frame(self, seen: FrameSeen) -> bytes:
        """The frame as it is sent now: with the session's own token, and IDs of moves that the daemon does not know."""
        body = seen.received.body if seen.received is not None else None
        welcome = self._speaker.welcome
        if isinstance(body, Join) and isinstance(welcome, Welcome):
            return encode_body(Join(welcome.session, welcome.token))
        header, payload = seen.header or b"", bytes(seen.payload or b"")
        if isinstance(body, MoveMessage) and not self._manner.keep_move:
            move = self._moves.setdefault(body.move, secrets.token_bytes(MOVE_ID_BYTES))
            _, header, payload = encode_message(replace(body, move=move))
        prefix = seen.prefix
        head = encode_head(prefix.type, header, payload_bytes=len(payload), flags=prefix.flags, stream=prefix.stream)
        return head + payload
