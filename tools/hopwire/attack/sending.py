"""Carries a script out against a daemon."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from streamhop.config import Address
from streamhop_protocol.connection import VERSION_MAX, VERSION_MIN, encode_body
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.limits import STREAMS_DEFAULT
from streamhop_protocol.signals import Hello, Join

from .outcomes import Outcome
from .scripts import WAIT_S_DEFAULT, Names, Step, bytes_of, frame_of, seconds
from .speaker import Speaker

CONTROL = "control"
_ENDED = frozenset({"closed", "lost"})


class Sending:
    """One run of a script. Use once: :meth:`run`.

    :param linger_s: how long to listen after the last step.
    """

    def __init__(self, target: Address, tls: ssl.SSLContext | None, linger_s: float) -> None:
        self._speaker = Speaker(target, tls)
        self._linger_s = linger_s
        self._names = Names()
        self._outcome = Outcome()
        self._waited: dict[str, int] = {}
        """How many of each type were waited for."""

    async def run(self, steps: list[Step]) -> Outcome:
        """Carry out every step, or as many as the daemon lets.

        :raises WireError: the daemon cannot be reached, or a step cannot be carried out.
        """
        async with self._speaker as speaker:
            for step in steps:
                if not await self._step(step):
                    break
            await speaker.until(lambda: speaker.over, self._linger_s)
            outcome = self._outcome
            outcome.sent_frames, outcome.sent_bytes, outcome.seconds = (
                speaker.sent_frames, speaker.sent_bytes, speaker.now_s,
            )  # fmt: skip
            outcome.heard, outcome.heard_left_out = speaker.heard, speaker.heard_left_out
            outcome.counts = dict(speaker.counts)
            return outcome

    async def _step(self, step: Step) -> bool:
        """One step; returns False if there is no going on."""
        self._names.welcome = self._speaker.welcome
        match step.kind:
            case "session":
                return await self._session(step)
            case "connect":
                await self._speaker.connect(step.value, preamble=step.more.get("preamble", True) is True)
            case "type":
                return await self._write(step, frame_of(step, self._names))
            case "raw":
                return await self._write(step, bytes_of(step, step.value, self._names))
            case "wait":
                return await self._wait(step, step.value, seconds(step, step.more.get("seconds", WAIT_S_DEFAULT)))
            case "pause":
                await asyncio.sleep(seconds(step, step.value))
            case "close":
                self._speaker.close(step.value)
        return True

    async def _write(self, step: Step, data: bytes) -> bool:
        name = str(step.more.get("on", CONTROL))
        self._speaker.sent_frames += step.kind == "type"
        if await self._speaker.write(name, data):
            return True
        self._outcome.gave_up = f"step {step.number}: it has closed {name}"
        return False

    async def _wait(self, step: Step, what: str, seconds_max: float) -> bool:
        speaker, wanted = self._speaker, what.upper()
        before = self._waited.get(wanted, 0)

        def come() -> bool:
            if what in _ENDED:
                return speaker.over
            return speaker.counts[wanted] > before

        if not await speaker.until(come, seconds_max):
            self._outcome.gave_up = f"step {step.number}: no {what}" + (
                "" if speaker.over else f" in {seconds_max:g} s"
            )
            return False
        self._waited[wanted] = before + 1
        return True

    async def _session(self, step: Step) -> bool:
        """What an honest dialer does before it sends anything else."""
        hello = _hello(step, step.value)
        await self._speaker.connect(CONTROL)
        await self._speaker.write(CONTROL, encode_body(hello))
        if not await self._wait(step, "WELCOME", WAIT_S_DEFAULT):
            return False
        welcome = self._speaker.welcome
        assert welcome is not None
        for number in range(1, hello.connections + 1):
            await self._speaker.connect(f"p{number}")
            await self._speaker.write(f"p{number}", encode_body(Join(welcome.session, welcome.token)))
            if not await self._wait(step, "JOINED", WAIT_S_DEFAULT):
                return False
        self._speaker.sent_frames += 1 + hello.connections
        return True


def _hello(step: Step, value: dict[str, Any]) -> Hello:
    hello = Hello(value.get("name", "hopwire"), VERSION_MIN, VERSION_MAX, value.get("connections", 1), STREAMS_DEFAULT)
    try:
        encode_body(hello)
    except ProtocolError as error:
        raise step.fail(str(error)) from error
    return hello
