"""Whether a container that was moved is healthy at the target, as Docker's health check of it there says."""

from __future__ import annotations

import asyncio
import logging

from streamhop.peering import PeerTarget
from streamhop_protocol.messages import Query
from streamhop_protocol.messages import State as StateMessage

from .failures import EXPECTED, plain
from .host import Host

log = logging.getLogger("streamhop.handover")

ASK_AGAIN_S = 0.5

GOOD = frozenset({"healthy", "none"})
"""``none``: the container has no health check."""

UNKNOWN = "unknown"


async def health_at_target(host: Host, peer: PeerTarget, move: bytes, seconds: float) -> str:
    """Wait until a moved container is healthy.

    :param seconds: how long to wait at most.
    :returns: ``healthy``, ``none``, or the last thing that was heard: ``starting``, ``unhealthy``, ``unknown``.
    """
    heard = UNKNOWN
    try:
        async with asyncio.timeout(seconds):
            while heard not in GOOD:
                try:
                    async with await host.peers.dial(peer, connections=1) as session:
                        while heard not in GOOD:
                            await session.send(Query(move=move))
                            answer = await session.receive()
                            if isinstance(answer, StateMessage) and answer.move == move:
                                heard = str(answer.attributes.get("health", UNKNOWN))
                            if heard not in GOOD:
                                await asyncio.sleep(ASK_AGAIN_S)
                except EXPECTED as error:
                    log.warning("move %s: its health cannot be asked for: %s", move.hex()[:8], plain(error))
                    await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        pass
    return heard
