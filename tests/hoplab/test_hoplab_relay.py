"""The relay's ways, and the sizes of queues; no devices."""

from __future__ import annotations

import pytest

from hoplab import network, relay
from hoplab.links import deviation
from hoplab.measure import Measured
from hoplab.state import LinkState


def test_packets_leave_in_order_when_their_time_comes() -> None:
    way = relay.Way()
    way.accept(b"one", 1.0)
    way.accept(b"two", 2.0)
    assert way.due(0.5) is None
    assert way.due(1.0) == b"one"
    assert way.due(1.5) is None
    assert way.due(9.0) == b"two"
    assert way.due(9.0) is None
    assert way.held_bytes == 0


def test_what_is_under_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_HELD_BYTES_MAX", 10)
    way = relay.Way()
    for _ in range(5):
        way.accept(b"1234", 1.0)
    assert (len(way.held), way.held_bytes) == (2, 8)
    way.clear()
    assert (len(way.held), way.held_bytes) == (0, 0)


@pytest.mark.parametrize(("rate", "rtt_s"), [(1_000_000, 0.0), (20_000_000, 0.05), (1_000_000_000, 0.1)])
def test_a_queue_holds_two_bandwidth_delay_products_and_some_frames(rate: int, rtt_s: float) -> None:
    size = network.queue_bytes(rate, rtt_s)
    assert size >= 2 * rate / 8 * rtt_s
    assert size >= 0.05 * rate / 8
    assert size >= 32 * 1514
    assert network.burst_bytes(rate) < size


@pytest.mark.parametrize(
    ("rate", "rtt_s", "measured", "good"),
    [
        (20_000_000, 0.05, Measured(19.3e6, 0.0506), True),
        (20_000_000, 0.05, Measured(17.9e6, 0.0506), False),
        (20_000_000, 0.05, Measured(22.1e6, 0.0506), False),
        (20_000_000, 0.05, Measured(19.3e6, 0.0610), False),
        (20_000_000, 0.05, Measured(19.3e6, 0.0005), False),
        (20_000_000, None, Measured(19.3e6, 0.0001), True),
        (None, 0.05, Measured(5e8, 0.0506), True),
        (None, 0.05, Measured(5e8, 0.0), False),
        (None, None, Measured(2e10, 0.00002), True),
        (None, None, Measured(2e10, 0.05), False),
        (None, 0.001, Measured(5e8, 0.0019), True),
    ],
)
def test_a_link_that_is_off_is_called_so(rate: int | None, rtt_s: float | None, measured: Measured, good: bool) -> None:
    assert (deviation(LinkState("a", "b", rate, rtt_s), measured) is None) is good
