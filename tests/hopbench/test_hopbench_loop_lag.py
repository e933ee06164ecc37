"""How late a loop is: counted beside what holds it up, and told as a percentile."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path

import pytest

from hopbench.inside.loop_lag import BUCKETS, LagCounts, sampled
from hopbench.lags import lag_ms


def counts_in(path: Path) -> list[int]:
    return list(struct.unpack(f"<{BUCKETS}Q", path.read_bytes()))


def test_a_long_lag_counts_as_all_that_was_due_meanwhile(tmp_path: Path) -> None:
    counts = LagCounts(tmp_path / "lag")
    counts.add(0.0004)
    counts.add(0.0125)
    counts.close()
    found = counts_in(tmp_path / "lag")
    assert (found[0], found[2], found[7], found[12], sum(found)) == (1, 1, 1, 1, 4)


def test_what_is_longer_than_any_is_in_the_last(tmp_path: Path) -> None:
    counts = LagCounts(tmp_path / "lag")
    counts.add((BUCKETS + 50) / 1000)
    counts.close()
    assert counts_in(tmp_path / "lag")[BUCKETS - 1] > 10


async def test_a_loop_that_is_held_up_is_seen(tmp_path: Path) -> None:
    async def holds_up() -> None:
        await asyncio.sleep(0.02)
        time.sleep(0.2)  # noqa: ASYNC251 - what is to be seen
        await asyncio.sleep(0.02)

    before = [0] * BUCKETS
    await sampled(holds_up(), tmp_path / "lag")
    assert (lag_ms(before, counts_in(tmp_path / "lag")) or 0.0) > 150


async def test_the_error_of_the_daemon_is_its_own(tmp_path: Path) -> None:
    async def fails() -> None:
        raise ValueError("the daemon's own")

    with pytest.raises(ValueError, match="the daemon's own"):
        await sampled(fails(), tmp_path / "lag")


def test_the_percentile_is_of_what_came_in_between() -> None:
    before, after = [5, 9, 0], [104, 9, 1]
    assert lag_ms(before, after) == 1.0
    assert lag_ms(before, after, 1.0) == 3.0
    assert lag_ms(before, before) is None
    with pytest.raises(ValueError, match="began again"):
        lag_ms(after, before)
