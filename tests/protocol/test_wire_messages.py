"""Messages and signals: there and back, and nothing but a ProtocolError for whatever a peer may send."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError, UnexpectedError
from streamhop_protocol.limits import (
    CONTROL_PAYLOAD_BYTES_MAX,
    FRAME_HEADER_BYTES_MAX,
    ITEMS_MAX,
    LIST_ITEMS_MAX,
    MESSAGE_HEADER_BYTES_MAX,
    OTHER_REASONS_MAX,
)
from streamhop_protocol.messages import (
    MESSAGE_TYPES,
    Abort,
    Accept,
    Message,
    MoveMessage,
    Offer,
    Prepare,
    Query,
    Ready,
    Refuse,
    StreamKind,
    decode_message,
    encode_message,
)
from streamhop_protocol.signals import SIGNAL_TYPES, Data, decode_signal, encode_signal
from streamhop_protocol.wirepack import pack, unpack

MOVE = bytes(16)

JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELD_NAMES = sorted(
    {field.name for cls in (*MESSAGE_TYPES.values(), *SIGNAL_TYPES.values()) for field in dataclasses.fields(cls)}
)
MAPS = st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=8), JSONISH, max_size=8)


def test_the_table_is_closed_both_ways() -> None:
    assert len(set(MESSAGE_TYPES.values())) == len(MESSAGE_TYPES) == 14
    with pytest.raises(UnexpectedError):
        encode_message(Message())
    with pytest.raises(UnexpectedError):
        decode_message(0x2E, pack({}), b"")


def test_priorities() -> None:
    assert sorted(StreamKind, key=lambda kind: kind.priority) == [
        StreamKind.FINAL,
        StreamKind.HELD,
        StreamKind.MEMORY,
        StreamKind.TREE,
        StreamKind.LAYER,
    ]


@given(st.dictionaries(st.text(), JSONISH.filter(lambda value: "nan" not in repr(value) and "inf" not in repr(value))))
def test_manifest_there_and_back(manifest: dict[str, Any]) -> None:
    offer = Offer(move=MOVE, epoch=1, manifest=manifest)
    assert decode_message(*encode_message(offer)) == offer


def test_a_large_manifest_travels_as_payload() -> None:
    offer = Offer(move=MOVE, epoch=1, manifest={"labels": "x" * MESSAGE_HEADER_BYTES_MAX})
    number, header, payload = encode_message(offer)
    assert header == b""
    assert decode_message(number, header, payload) == offer


def test_a_manifest_over_the_limit_is_not_sent() -> None:
    with pytest.raises(LimitError):
        encode_message(Offer(move=MOVE, epoch=1, manifest={"labels": "x" * CONTROL_PAYLOAD_BYTES_MAX}))


def test_what_the_peer_would_refuse_is_not_sent() -> None:
    with pytest.raises(MalformedError):
        encode_message(Query(move=b"short"))
    with pytest.raises(LimitError):
        encode_message(Abort(move=MOVE, epoch=1, code="x", reason="é" * 2049))


def test_a_list_of_too_many_layers_is_refused() -> None:
    with pytest.raises(LimitError):
        encode_message(Accept(move=MOVE, epoch=1, lacks=["x"] * (LIST_ITEMS_MAX + 1), reused=[]))


@pytest.mark.parametrize(
    "others",
    [[["a", "b"]] * (OTHER_REASONS_MAX + 1), [["a"]], [["a", "b", "c"]], ["ab"], [["a", 1]], [["a", "x" * 4097]], {}],
)
def test_other_reasons_are_pairs_and_bounded(others: Any) -> None:
    fields = {"move": MOVE, "epoch": 1, "code": "refused", "reason": "r", "fix": "f"}
    assert decode_message(0x22, pack(fields), b"") == Refuse(MOVE, 1, "refused", "r", "f")
    with pytest.raises(ProtocolError):
        decode_message(0x22, b"", pack(fields | {"others": others}))


def test_attributes_may_be_left_out() -> None:
    fields = pack({"move": MOVE, "epoch": 1, "image_digest": bytes(32)})
    assert decode_message(0x24, fields, b"") == Prepare(move=MOVE, epoch=1, image_digest=bytes(32))


@given(number=st.sampled_from(sorted(MESSAGE_TYPES)), fields=MAPS, as_payload=st.booleans())
def test_hostile_messages_raise_nothing_else(number: int, fields: dict[str, Any], as_payload: bool) -> None:
    packed = pack(fields)
    try:
        message = decode_message(number, b"" if as_payload else packed, packed if as_payload else b"")
    except ProtocolError:
        return
    assert isinstance(message, MoveMessage)
    assert encode_message(message)[0] == number


@given(frame_type=st.sampled_from(sorted(SIGNAL_TYPES)), fields=MAPS)
def test_hostile_signals_raise_nothing_else(frame_type: Any, fields: dict[str, Any]) -> None:
    try:
        signal = decode_signal(frame_type, pack(fields))
    except ProtocolError:
        return
    assert encode_signal(signal)[0] == frame_type


@given(st.sampled_from(sorted(MESSAGE_TYPES)), st.binary(max_size=64))
def test_random_bytes_raise_nothing_else(number: int, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_message(number, data, b"")


def test_every_flipped_byte_is_the_same_message_or_an_error() -> None:
    number, header, _ = encode_message(Ready(move=MOVE, epoch=5))
    for at in range(len(header)):
        broken = bytearray(header)
        broken[at] ^= 0x81
        try:
            assert isinstance(decode_message(number, bytes(broken), b""), Ready)
        except ProtocolError:
            continue


def test_data_without_what_is_optional_is_small() -> None:
    frame_type, header = encode_signal(Data(7))
    assert len(header) < 16
    assert decode_signal(frame_type, header) == Data(7)


def test_a_million_tiny_maps_are_refused() -> None:
    bomb = b"\xdd" + (1_000_000).to_bytes(4, "big") + b"\x80" * 1_000_000
    with pytest.raises(LimitError, match="items"):
        unpack(bomb, bytes_max=CONTROL_PAYLOAD_BYTES_MAX)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd" + (ITEMS_MAX + 1).to_bytes(4, "big") + bytes(ITEMS_MAX + 1),
        b"\x92" + 2 * (b"\xdd" + (ITEMS_MAX // 2).to_bytes(4, "big") + bytes(ITEMS_MAX // 2)),
        b"\xdd\xff\xff\xff\xff" + bytes(ITEMS_MAX),
        b"\xdf\xff\xff\xff\xff" + bytes(ITEMS_MAX),
    ],
)
def test_more_numbers_than_items_are_allowed_are_refused(bomb: bytes) -> None:
    """P10: eight million small integers were some seconds of the event loop's time."""
    with pytest.raises(LimitError, match="items"):
        unpack(bomb, bytes_max=CONTROL_PAYLOAD_BYTES_MAX)


@pytest.mark.parametrize("before", [b"", b"\x91", b"\x81\xa1a", b"\x91\x81\xa1a"])
@pytest.mark.parametrize("stamp", [b"\xd6\xff" + bytes(4), b"\xd7\xff" + bytes(8), b"\xc7\x0c\xff" + bytes(12)])
def test_times_are_an_extension_type_like_others(before: bytes, stamp: bytes) -> None:
    """The library decodes this one without asking."""
    with pytest.raises(MalformedError, match="extension"):
        unpack(before + stamp)


def test_as_many_items_as_are_allowed_can_be_read() -> None:
    value = unpack(b"\xdd" + ITEMS_MAX.to_bytes(4, "big") + bytes(ITEMS_MAX), bytes_max=CONTROL_PAYLOAD_BYTES_MAX)
    assert value == [0] * ITEMS_MAX


def test_msgpack_longer_than_its_bound_is_refused() -> None:
    with pytest.raises(LimitError):
        unpack(bytes(FRAME_HEADER_BYTES_MAX + 1))
