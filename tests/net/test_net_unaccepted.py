"""Streams that a peer opens and nobody takes."""

from __future__ import annotations

import pytest
from support.net_helpers import raw_session

from streamhop.net import SessionLost
from streamhop.net.peer import STREAMS_UNACCEPTED_MAX
from streamhop_protocol.connection import encode_body
from streamhop_protocol.limits import MIB, STREAM_WINDOW_BYTES, STREAMS_DEFAULT
from streamhop_protocol.signals import Error, Open, Reset


async def test_what_nobody_takes_is_bounded() -> None:
    """P10: each stream may hold a window, so a session lets few be open."""
    async with raw_session() as (control, (payload,), session):
        for number in range(STREAMS_DEFAULT + 1):
            payload.write(encode_body(Open("memory"), stream=2 * number + 1))
        error = (await control.next_of(Error)).body
        assert isinstance(error, Error)
        assert error.code == "limit"
        await session.wait_closed()
    assert STREAMS_DEFAULT * STREAM_WINDOW_BYTES <= 32 * MIB


async def test_streams_opened_and_reset_without_end_end_the_session() -> None:
    """P10: the source of a move takes no streams; what a target opens there must not pile up."""
    async with raw_session() as (control, (payload,), session):
        for number in range(STREAMS_UNACCEPTED_MAX + 1):
            stream = 2 * number + 1
            payload.write(encode_body(Open("memory"), stream=stream))
            while len(session._accepted) <= number and session.over is None:
                session.ping()
                await control.next()
            control.send(Reset("limit", ""), stream=stream)
            await control.next_of(Reset if session.over is None else Error)
        await session.wait_closed()
        assert session.over is not None
        assert "nobody has taken" in str(session.over)
        with pytest.raises(SessionLost):
            await session.receive()
