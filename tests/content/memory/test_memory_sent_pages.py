"""Pages kept as they were sent, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_support import PAGE, ZERO_PAGE, page

from streamhop.content.memory.encoding import LEFT_OUT, as_pages, encode, note_sent
from streamhop.content.memory.image_digest import BLOCK_PAGES
from streamhop.content.memory.sent_pages import Pages, SentPages, Slots
from streamhop.content.memory.table import PageHasher, SentTable, Verdict
from streamhop_protocol.page_batches import RAW, XOR, ZERO

BLOCK_BYTES = BLOCK_PAGES * PAGE


@pytest.fixture
def sent() -> Iterator[SentPages]:
    with SentPages(PAGE, 2 * BLOCK_BYTES) as kept:
        yield kept


def pages(*contents: bytes) -> Pages:
    return as_pages(memoryview(b"".join(contents)), len(contents))


def slots(*numbers: int) -> Slots:
    return np.array(numbers, dtype=np.int64)


def held(sent: SentPages, block: int, *numbers: int) -> list[bytes | None]:
    recalled = sent.recall("pagemap-1", block, slots(*numbers))
    if recalled is None:
        return [None] * len(numbers)
    content, there = recalled
    return [row.tobytes() if kept else None for row, kept in zip(content, there, strict=True)]


def test_what_was_kept_is_recalled(sent: SentPages) -> None:
    sent.keep("pagemap-1", 5, slots(0, 1, 127), pages(page(1), page(2), page(3)))
    sent.keep("pagemap-1", 5, slots(1), pages(page(4)))
    assert held(sent, 5, 0, 1, 2, 127) == [page(1), page(4), None, page(3)]
    assert held(sent, 6, 0) == [None]
    assert sent.recall("pagemap-2", 5, slots(0)) is None


def test_what_was_sent_otherwise_is_forgotten(sent: SentPages) -> None:
    sent.keep("pagemap-1", 5, slots(0, 1), pages(page(1), page(2)))
    sent.forget("pagemap-1", 5, slots(0))
    sent.forget("pagemap-1", 77, slots(0))
    assert held(sent, 5, 0, 1) == [None, page(2)]


def test_what_changed_longest_ago_gives_way(sent: SentPages) -> None:
    for block in (1, 2, 1, 3):
        sent.keep("pagemap-1", block, slots(block), pages(page(block)))
    assert held(sent, 1, 1) == [page(1)]
    assert held(sent, 2, 2) == [None]
    assert held(sent, 3, 2, 3) == [None, page(3)]


def test_no_room_keeps_nothing() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with SentPages(PAGE, BLOCK_BYTES - 1) as sent:
        sent.keep("pagemap-1", 0, slots(0), pages(page(1)))
        assert held(sent, 0, 0) == [None]
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_closing_gives_everything_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    sent = SentPages(PAGE, BLOCK_BYTES)
    sent.keep("pagemap-1", 0, slots(0), pages(page(1)))
    for _ in range(2):
        sent.close()
        assert held(sent, 0, 0) == [None]
        sent.keep("pagemap-1", 0, slots(0), pages(page(1)))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


CONTENTS = st.one_of(
    st.integers(0, 3).map(lambda seed: page(seed) if seed else ZERO_PAGE),
    st.tuples(st.integers(1, 3), st.integers(0, PAGE - 1)).map(
        lambda drawn: page(drawn[0])[: drawn[1]] + b"!" + page(drawn[0])[drawn[1] + 1 :]
    ),
)
VISITS = st.lists(
    st.tuples(st.integers(0, 2), st.dictionaries(st.integers(0, 5), CONTENTS, min_size=1), st.booleans()), max_size=12
)


@given(VISITS)
def test_a_target_that_applies_what_is_encoded_has_what_was_read(
    visits: list[tuple[int, dict[int, bytes], bool]],
) -> None:
    target: dict[tuple[int, int], bytes] = {}
    table = SentTable(PageHasher(1, PAGE), 0, 1 << 20)
    with SentPages(PAGE, 2 * BLOCK_BYTES) as sent:
        for block, content, keep in visits:
            where = slots(*sorted(content))
            data = memoryview(b"".join(content[slot] for slot in sorted(content)))
            verdict = table.visit("pagemap-1", block, where, data)
            if verdict is None:
                continue
            kinds, encoded = encode(sent, "pagemap-1", block, where, verdict, data)
            note_sent(sent, "pagemap-1", block, where, verdict, data, keep=keep)
            for at, (slot, kind) in enumerate(zip(where.tolist(), kinds.tolist(), strict=True)):
                piece = bytes(encoded[at * PAGE : (at + 1) * PAGE])
                if kind == XOR:
                    piece = bytes(a ^ b for a, b in zip(piece, target[block, slot], strict=True))
                if kind != LEFT_OUT:
                    target[block, slot] = ZERO_PAGE if kind == ZERO else piece
            assert {slot: target[block, slot] for slot in content} == content


def test_a_small_change_is_a_difference_and_a_large_one_is_not(sent: SentPages) -> None:
    sent.keep("pagemap-1", 0, slots(0, 1, 2), pages(page(1), page(1), page(1)))
    little = page(1)[:8] + b"x" + page(1)[9:]
    much = page(1)[: PAGE // 2] + page(2)[PAGE // 2 :]
    everything = np.ones(3, dtype=np.bool_)
    verdict = Verdict(
        send=everything,
        zero=~everything,
        known=everything,
        changed=3,
        new=0,
        deferred=0,
        like=~everything,
        like_object=None,
    )
    kinds, data = encode(sent, "pagemap-1", 0, slots(0, 1, 2), verdict, memoryview(little + much + page(1)))
    assert kinds.tolist() == [XOR, RAW, XOR]
    assert bytes(data[PAGE : 2 * PAGE]) == much
    assert bytes(data[:PAGE]).count(0) == PAGE - 1
