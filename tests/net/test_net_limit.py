"""The limit of what leaves: on virtual time, and on real connections."""

from __future__ import annotations

import asyncio
import os
import time
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.net_helpers import two_peers
from support.net_security import Device

from streamhop.config import LIMIT_BYTES_PER_S_MIN
from streamhop.net.limit import RateLimit
from streamhop.net.link import GoodputEstimate, fragment_bytes
from streamhop_protocol.frames import PREFIX_BYTES
from streamhop_protocol.messages import Query, StreamKind

WINDOW_S = 10.0
TOLERANCE = 0.05


def sent(rate: float, seconds: float, pauses: list[tuple[float, float]], late_s: float) -> list[tuple[float, int]]:
    """When how much leaves of a sender that always has more, but for ``pauses``, and wakes up ``late_s`` too late."""
    limit, now, frames = RateLimit(rate, 0.0), 0.0, []
    size = fragment_bytes(rate) + PREFIX_BYTES + 64
    while now < seconds:
        for begins, length in pauses:
            if begins <= now < begins + length:
                now = begins + length
        delay = limit.delay_s(now)
        if delay:
            now += delay + late_s
            continue
        limit.take(size)
        frames.append((now, size))
    return frames


def most_in_a_window(frames: list[tuple[float, int]]) -> int:
    total, first, most = 0, 0, 0
    for now, size in frames:
        total += size
        while frames[first][0] <= now - WINDOW_S:
            total -= frames[first][1]
            first += 1
        most = max(most, total)
    return most


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(st.just(float(LIMIT_BYTES_PER_S_MIN)), st.floats(LIMIT_BYTES_PER_S_MIN, 2e7)),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 15)), max_size=4),
    st.floats(0, 0.02),
)
def test_never_more_than_the_limit_in_ten_seconds(
    rate: float, pauses: list[tuple[float, float]], late_s: float
) -> None:
    """P8: within 5 % over any 10 s, also right after pauses."""
    frames = sent(rate, 30.0, pauses, late_s)
    assert most_in_a_window(frames) <= rate * WINDOW_S * (1 + TOLERANCE)


@pytest.mark.parametrize("rate", [LIMIT_BYTES_PER_S_MIN, 2.5e6, 1.25e8])
@pytest.mark.parametrize("late_s", [0.0, 0.005])
def test_who_always_has_more_to_send_gets_all_of_the_limit(rate: float, late_s: float) -> None:
    """P8: the limit is used, not only kept; a timer that is late costs nothing."""
    frames = sent(rate, 40.0 if rate < 1e8 else 11.0, [], late_s)
    end = frames[-1][0]
    total = list(accumulate(size for _, size in frames))[-1]
    assert total == pytest.approx(rate * end, rel=TOLERANCE)


def test_a_limit_too_low_for_a_frame_is_refused() -> None:
    for rate in (LIMIT_BYTES_PER_S_MIN - 1, 0, -1, float("nan")):
        with pytest.raises(ValueError, match="limit"):
            RateLimit(rate, 0.0)


def test_the_estimate_of_a_limited_sender_converges_to_the_limit() -> None:
    """P8: the limit is the bottleneck, so what is acknowledged tells the rate that a prediction has to count with."""
    rate, estimate = 2.5e6, GoodputEstimate()
    frames = sent(rate, 3.0, [], 0.002)
    for tick in range(30):
        now = tick / 10
        estimate.update(now, sum(size for at, size in frames if at <= now), limited=True)
    assert estimate.bytes_per_s == pytest.approx(rate, rel=0.05)


async def test_a_session_keeps_its_limit_reports_it_and_still_talks(a: Device, b: Device) -> None:
    """P8: over real connections, with a generous bound for a busy machine; control frames are not held back."""
    rate, size = 4e6, 8 << 20
    async with (
        two_peers(security=(a.client(b), b.server(a)), limit_bytes_per_s=rate) as (dialer, acceptor),
        asyncio.TaskGroup() as group,
    ):
        assert dialer.goodput_bytes_per_s == rate

        async def take() -> None:
            stream = await acceptor.accept_stream()
            async for _ in stream:
                pass
            await stream.done({})

        async def talk() -> float:
            longest = 0.0
            for _ in range(20):
                began = time.monotonic()
                await dialer.send(Query(move=bytes(16)))
                await acceptor.receive()
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(0.05)
            return longest

        group.create_task(take())
        began = time.monotonic()
        stream = await dialer.open_stream(StreamKind.MEMORY, {})
        talking = group.create_task(talk())
        content = os.urandom(1 << 20)
        for _ in range(size >> 20):
            await stream.write(content)
        await stream.finish()
        seconds = time.monotonic() - began
        measured = dialer.goodput_bytes_per_s
    assert size / rate * 0.8 < seconds < size / rate * 3
    assert measured is not None
    assert rate * 0.7 < measured <= rate
    assert talking.result() < 0.5
