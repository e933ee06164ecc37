"""Credit windows never let more through than was given, and never lose any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop_protocol.errors import FlowError
from streamhop_protocol.limits import FRAME_COST_BYTES_MIN, STREAM_WINDOW_BYTES
from streamhop_protocol.windows import ReceiveWindow, SendWindow, frame_cost_bytes


def test_a_tiny_frame_is_not_free() -> None:
    assert frame_cost_bytes(13) == FRAME_COST_BYTES_MIN
    assert frame_cost_bytes(FRAME_COST_BYTES_MIN + 1) == FRAME_COST_BYTES_MIN + 1


def test_sending_beyond_the_credit_is_an_error() -> None:
    window = SendWindow(1000)
    window.take(1000)
    with pytest.raises(FlowError):
        window.take(1)


def test_credit_that_overflows_the_window_is_an_error() -> None:
    window = SendWindow()
    window.take(10)
    window.grant(10)
    with pytest.raises(FlowError):
        window.grant(1)


def test_a_peer_beyond_its_credit_is_an_error() -> None:
    window = ReceiveWindow(1000, 100)
    window.received(1000)
    with pytest.raises(FlowError):
        window.received(1)


def test_more_than_arrived_cannot_be_consumed() -> None:
    window = ReceiveWindow(1000, 100)
    window.received(10)
    with pytest.raises(FlowError):
        window.consumed(11)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 400_000)), max_size=200))
def test_both_ends_agree(steps: list[tuple[bool, int]]) -> None:
    sender, receiver, held = SendWindow(), ReceiveWindow(), 0
    for sends, size in steps:
        if sends and size <= sender.available_bytes:
            sender.take(size)
            receiver.received(size)  # whatever the sender may send, the receiver takes
            held += size
        elif not sends and held:
            consumed = min(size, held)
            held -= consumed
            granted = receiver.consumed(consumed)
            if granted:
                sender.grant(granted)
        assert 0 <= sender.available_bytes <= STREAM_WINDOW_BYTES - held
    # all consumed: at most the step of granting is withheld
    granted = receiver.consumed(held)
    assert sender.available_bytes + granted > STREAM_WINDOW_BYTES - STREAM_WINDOW_BYTES // 16
