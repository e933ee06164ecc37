"""A container's health at the target, asked for until it is good or time is up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

import pytest
from handover_support import MOVE, FakeEngine, host_with

from streamhop.config import Address
from streamhop.handover import health
from streamhop.handover.health import health_at_target
from streamhop.handover.journal import Journal
from streamhop.net import SessionLost
from streamhop.peering import PeerDirectory, PeerTarget
from streamhop_protocol.messages import Message
from streamhop_protocol.messages import State as StateMessage

TARGET = PeerTarget("edge-b", (Address("127.0.0.1", 4711),))


class FakeTarget:
    """Says one thing after the other, and the last one for ever; ``None`` breaks the session."""

    def __init__(self, *says: str | None) -> None:
        self.says = list(says)

    async def dial(self, *_: Any, **__: Any) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def send(self, _message: Message) -> None:
        await asyncio.sleep(0)

    async def receive(self) -> Message:
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if said is None:
            raise SessionLost("gone")
        return StateMessage(move=MOVE, epoch=1, state="open", attributes={"health": said} if said else {})


@pytest.mark.parametrize(
    ("says", "found"),
    [
        (["healthy"], "healthy"),
        (["none"], "none"),
        (["starting", None, "starting", "healthy"], "healthy"),
        (["starting"], "starting"),
        (["unhealthy"], "unhealthy"),
        ([""], "unknown"),
        ([None], "unknown"),
    ],
)
async def test_what_is_heard_last_is_told(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: list[str | None], found: str
) -> None:
    monkeypatch.setattr(health, "ASK_AGAIN_S", 0.001)
    monkeypatch.setattr(PeerDirectory, "dial", FakeTarget(*says).dial)
    seconds = 10.0 if found in health.GOOD else 0.05
    host = host_with(FakeEngine("gone"), journal, tmp_path)
    async with asyncio.timeout(5):
        assert await health_at_target(host, TARGET, MOVE, seconds) == found
