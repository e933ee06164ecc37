"""P15: what version 1 has said is still understood and still said, and two versions agree on the highest of both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamhop_protocol import connection
from streamhop_protocol.codecs import Codec, decompress
from streamhop_protocol.connection import Connection, choose_version
from streamhop_protocol.errors import MalformedError, VersionError
from streamhop_protocol.signals import Hello, Welcome
from vector_sessions import transcript

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
ROWS = json.loads((VECTORS / "transcripts.json").read_text(encoding="utf-8"))


def test_the_transcript_holds_a_whole_move() -> None:
    """P15: the recording has every part that two versions need in common."""
    events = [event for row in ROWS for event in row["means"]]
    said = [event["fields"]["message"]["name"] if "message" in event["fields"] else event["name"] for event in events]
    assert said == [
        *("Hello", "Welcome", "Join", "Joined", "PongArrived", "Offer", "Accept"),
        *("StreamOpened", "ChunkArrived", "ChunkArrived", "StreamEnded", "StreamDone"),
        *("StreamOpened", "ChunkArrived", "StreamEnded", "StreamDone"),
        *("Ready", "Prepare", "Prepared", "Release", "Started", "Finish", "Query", "State", "PeerLeft"),
    ]
    (packed,) = (event["fields"] for event in events if event["fields"].get("codec") == Codec.LZ4)
    raw = decompress(Codec.LZ4, bytes.fromhex(packed["data"]["hex"]), packed["raw_bytes"])
    assert raw == (b"streamhop " * 24)[:234]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_this_version_talks_to_a_recorded_one(size: int) -> None:
    """P15: either side understands the recorded bytes of the other, however they were cut, and says its own."""

    def pieces(data: bytes) -> list[bytes]:
        return [data[at : at + size] for at in range(0, len(data), size)]

    assert transcript(ROWS, pieces) == ROWS


@pytest.mark.parametrize(
    ("own", "peer", "chosen"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 2), (1, 1), 1),
        ((1, 1), (1, 2), 1),
        ((1, 2), (1, 2), 2),
        ((2, 3), (1, 2), 2),
        ((1, 2), (2, 3), 2),
        ((1, 4), (2, 3), 3),
        ((2, 2), (1, 1), None),
        ((1, 1), (2, 2), None),
        ((3, 4), (1, 2), None),
    ],
)
def test_two_versions_agree_on_the_highest_of_both(
    monkeypatch: pytest.MonkeyPatch, own: tuple[int, int], peer: tuple[int, int], chosen: int | None
) -> None:
    """P15: the acceptor picks the highest version that both speak, or refuses with ``version``."""
    monkeypatch.setattr(connection, "VERSION_MIN", own[0])
    monkeypatch.setattr(connection, "VERSION_MAX", own[1])
    hello = Hello("edge-a", *peer, 1, 8)
    if chosen is None:
        with pytest.raises(VersionError, match=f"{peer[0]} to {peer[1]}, this side {own[0]} to {own[1]}"):
            choose_version(hello)
        return
    assert choose_version(hello) == chosen
    dialer = Connection.dial_control(hello)
    acceptor = Connection.accepted()
    acceptor.receive_data(dialer.data_to_send())
    acceptor.accept(Welcome("edge-b", chosen, bytes(16), bytes(32), 8))
    dialer.receive_data(acceptor.data_to_send())
    assert dialer.error is None
    (received,) = dialer.events()
    assert isinstance(received.body, Welcome)
    assert received.body.version == chosen


def test_bounds_the_wrong_way_round_are_no_offer() -> None:
    """P15: nothing is chosen from 2 to 1."""
    with pytest.raises(MalformedError):
        choose_version(Hello("edge-a", 2, 1, 1, 8))
