"""CRIU's pagemap and mm images: round trips, a record as CRIU 4.2 wrote it, and images CRIU would not write."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from memory_support import PAGE, mm_image

from streamhop.content.memory.criu_mm import ranges_without_parent
from streamhop.content.memory.criu_pagemap import (
    LAZY,
    PRESENT,
    PagemapEntry,
    encode_pagemap,
    entries,
    pages_file_id,
)
from streamhop.content.memory.protobuf import fields, read_varint, varint
from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError

MAGIC = bytes.fromhex("1943565425400856")
HEAD = bytes.fromhex("02000000") + b"\x08\x01"


def image(*records: bytes) -> bytes:
    return MAGIC + HEAD + b"".join(len(record).to_bytes(4, "little") + record for record in records)


def entry(*numbers: int) -> bytes:
    """A record of (field, value) pairs."""
    return b"".join(varint(key << 3) + varint(value) for key, value in zip(numbers[::2], numbers[1::2], strict=True))


@st.composite
def pagemaps(draw: st.DrawFn) -> list[PagemapEntry]:
    end, found = 0, []
    for gap, pages, flags in draw(
        st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 1 << 33), st.sampled_from([4, 6])), max_size=20)
    ):
        found.append(PagemapEntry(end + gap, pages, flags))
        end += gap + pages
    return found


@given(pagemaps(), st.integers(0, 0xFFFF_FFFF))
def test_round_trip(items: list[PagemapEntry], pages_id: int) -> None:
    data = encode_pagemap(pages_id, items, PAGE)
    assert pages_file_id(data) == pages_id
    assert list(entries(data, PAGE)) == items


def test_an_entry_as_criu_writes_it() -> None:
    # vaddr 0x7fffa0b3c000, compat_nr_pages 0, flags PRESENT | LAZY, nr_pages 3
    record = bytes.fromhex("088080cf85faff1f10002006" + "2803")
    assert list(entries(image(record), PAGE)) == [PagemapEntry(0x7FFFA0B3C000 // PAGE, 3, PRESENT | LAZY)]
    assert encode_pagemap(1, [PagemapEntry(0x7FFFA0B3C000 // PAGE, 3, PRESENT | LAZY)], PAGE) == image(record)


def test_an_entry_of_older_criu() -> None:
    assert list(entries(image(entry(1, PAGE, 2, 7)), PAGE)) == [PagemapEntry(1, 7, PRESENT)]


@pytest.mark.parametrize(
    "record",
    [
        entry(1, PAGE + 1, 2, 0, 4, 4, 5, 1),
        entry(1, PAGE, 2, 0, 4, 4, 5, 0),
        entry(1, PAGE, 2, 0),
        entry(1, PAGE, 2, 0, 4, 1, 5, 1),
        entry(1, PAGE, 2, 0, 4, 5, 5, 1),
        entry(1, PAGE, 2, 0, 4, 2, 5, 1),
        entry(1, PAGE, 2, 0, 4, 0, 5, 1),
        entry(1, PAGE, 2, 0, 4, 12, 5, 1),
        entry(1, PAGE, 2, 0, 3, 1, 4, 4, 5, 1),
        entry(1, PAGE, 4, 4, 5, 1),
        entry(2, 1),
        entry(1, PAGE, 2, 1, 6, 1),
        entry(1, PAGE, 2, 1, 1, PAGE),
        b"\x0a\x01x" + entry(2, 1),
        b"\x08" + b"\xff" * 9 + b"\x02" + entry(2, 1),
        b"\x08" + b"\x80" * 12 + b"\x00" + entry(2, 1),
        b"",
        b"\x08",
        b"\x0b" * 8,
        bytes(65),
    ],
    ids=[
        "unaligned", "no pages", "no pages by default", "in parent", "in parent and present", "lazy alone",
        "no flags", "unknown flag", "old in_parent", "no field 2", "no address", "unknown field", "twice",
        "bytes for a number", "over 64 bits", "endless number", "empty", "cut off", "wire type 3", "too long",
    ],
)  # fmt: skip
def test_entries_criu_would_not_write(record: bytes) -> None:
    with pytest.raises(MalformedError):
        list(entries(image(record), PAGE))


def test_overlap_and_order() -> None:
    for second in (4, 5):
        with pytest.raises(MalformedError, match="out of order"):
            list(entries(image(entry(1, 4 * PAGE, 2, 2), entry(1, second * PAGE, 2, 1)), PAGE))


def test_beyond_the_address_space() -> None:
    with pytest.raises(LimitError):
        list(entries(image(entry(1, PAGE, 2, 0, 5, 1 << 45)), PAGE))


@pytest.mark.parametrize(
    "data",
    [b"", MAGIC[:7], MAGIC[::-1] + HEAD, MAGIC, MAGIC + b"\x00\x00\x00\x00", MAGIC + b"\xff\xff\xff\xff\x08\x01"],
)
def test_not_a_pagemap(data: bytes) -> None:
    with pytest.raises(MalformedError):
        list(entries(data, PAGE))


def test_cut_off_anywhere() -> None:
    data = encode_pagemap(7, [PagemapEntry(5, 2, 4), PagemapEntry(1 << 35, 1 << 20, 6)], PAGE)
    whole = {len(encode_pagemap(7, [PagemapEntry(5, 2, 4)][:count], PAGE)) for count in (0, 1)}
    for length in set(range(len(data))) - whole:
        with pytest.raises(MalformedError):
            list(entries(data[:length], PAGE))


@given(st.binary(max_size=80))
@example(b"\x02\x00\x00\x00\x08\x01")
def test_noise_raises_nothing_but_protocol_errors(noise: bytes) -> None:
    end = 0
    try:
        for item in entries(image() + noise, PAGE):
            assert item.first >= end
            end = item.first + item.pages
    except ProtocolError:
        pass


@given(st.integers(0, (1 << 64) - 1))
def test_varint(value: int) -> None:
    assert read_varint(b"x" + varint(value), 1) == (value, 1 + len(varint(value)))


def test_fields_of_every_wire_type() -> None:
    message = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    assert list(fields(message)) == [(1, 150), (2, b"hi"), (3, bytes(8)), (4, bytes(4))]
    for length in set(range(len(message))) - {0, 3, 7, 16}:
        with pytest.raises(MalformedError):
            list(fields(message[:length]))


def test_mappings_that_need_their_pages_in_the_image() -> None:
    data = mm_image((0x9000, 0xA000, 0x40022, 1), (0x1000, 0x3000, 0x22, 1), (0x4000, 0x5000, 0x2, 1 | 1 << 27))
    assert ranges_without_parent(data) == [(0x4000, 0x5000), (0x9000, 0xA000)]


def test_not_an_mm_image() -> None:
    good = mm_image((0x1000, 0x3000, 0x40022, 1))
    number_for_mapping = good[:8] + b"\x02\x00\x00\x00" + varint(14 << 3) + b"\x01"
    for data in (b"", good[:11], good[:-1], good + b"\x00", MAGIC + good[8:], number_for_mapping):
        with pytest.raises(MalformedError):
            ranges_without_parent(data)
