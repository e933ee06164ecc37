"""Events of an operation: kept, bounded, followed from the beginning by anyone at any time."""

from __future__ import annotations

import asyncio
import time

from streamhop.telemetry.events import EVENTS_KEPT_MAX, EventLog, Timeline


async def collect(log: EventLog) -> list[object]:
    return [event["number"] async for event in log.follow()]


async def test_early_and_late_followers_see_the_same() -> None:
    log = EventLog()
    early = asyncio.create_task(collect(log))
    for number in range(3):
        log.emit("n", number=number)
        await asyncio.sleep(0)
    log.close()
    assert await early == await collect(log) == [0, 1, 2]


async def test_a_slow_follower_skips_what_the_bound_dropped() -> None:
    log = EventLog()
    for number in range(EVENTS_KEPT_MAX + 5):
        log.emit("n", number=number)
    log.close()
    seen = await collect(log)
    assert seen == list(range(5, EVENTS_KEPT_MAX + 5))


async def test_a_follower_gets_events_emitted_while_it_handles_one() -> None:
    log = EventLog()
    log.emit("n", number=0)
    seen = []
    async for event in log.follow():
        seen.append(event["number"])
        if event["number"] < 3:
            log.emit("n", number=event["number"] + 1)
        else:
            log.close()
    assert seen == [0, 1, 2, 3]


def test_phases_cover_the_timeline() -> None:
    timeline = Timeline()
    timeline.mark("one")
    timeline.mark("two")
    one, two = timeline.phases()
    assert (one["phase"], two["phase"]) == ("one", "two")
    assert abs(float(one["at_s"]) + float(one["seconds"]) - float(two["at_s"])) < 0.001
    assert float(two["at_s"]) + float(two["seconds"]) <= timeline.elapsed_s() + 0.001


def test_a_phase_that_is_known_only_later_begins_when_it_began() -> None:
    timeline = Timeline()
    timeline.mark("one")
    began = time.monotonic()
    assert timeline.mark("two", began) <= timeline.mark("three")
    one, two, three = timeline.phases()
    assert float(one["at_s"]) <= float(two["at_s"]) <= float(three["at_s"])
    assert abs(float(two["at_s"]) + float(two["seconds"]) - float(three["at_s"])) < 0.001
