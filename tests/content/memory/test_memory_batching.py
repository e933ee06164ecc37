"""Batches: what goes in comes out, in batches a peer accepts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from memory_support import PAGE, ZERO_PAGE, page

from streamhop.content.memory.batching import BATCH_BYTES, BatchBuilder, PageBatch
from streamhop.content.memory.encoding import LEFT_OUT
from streamhop_protocol.page_batches import RAW, RUNS_PER_BATCH_MAX, ZERO, ZERO_PAGES_PER_BATCH_MAX, decode_meta


def unpacked(batches: list[PageBatch]) -> dict[tuple[str, int], bytes]:
    """Contents by object and page index; every batch is checked as the receiver does."""
    found: dict[tuple[str, int], bytes] = {}
    for batch in batches:
        assert len(batch.data) <= BATCH_BYTES
        meta = decode_meta(batch.meta, len(batch.data), PAGE)
        at = 0
        for first, pages, kind in meta.runs:
            for index in range(first, first + pages):
                assert (meta.object_name, index) not in found
                found[meta.object_name, index] = batch.data[at : at + PAGE] if kind == RAW else ZERO_PAGE
                at += PAGE if kind == RAW else 0
    return found


STEPS = st.lists(
    st.tuples(st.integers(1, 2), st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), min_size=1)),
    max_size=8,
)


@given(STEPS)
def test_what_goes_in_comes_out(steps: list[tuple[int, list[tuple[int, bool, bool]]]]) -> None:
    builder = BatchBuilder(PAGE)
    batches: list[PageBatch] = []
    expected: dict[tuple[str, int], bytes] = {}
    position = 0
    for pid, pages in sorted(steps):
        indices, contents = [], []
        for gap, _, zero in pages:
            position += gap
            indices.append(position)
            contents.append(ZERO_PAGE if zero else page(position))
        chosen = [chosen for _, chosen, _ in pages]
        batches += builder.add(
            f"pagemap-{pid}",
            np.array(indices),
            np.array([(ZERO if zero else RAW) if wanted else LEFT_OUT for _, wanted, zero in pages]),
            memoryview(b"".join(contents)),
        )
        expected |= {
            (f"pagemap-{pid}", index): content
            for index, content, wanted in zip(indices, contents, chosen, strict=True)
            if wanted
        }
    batches += builder.flush()
    assert unpacked(batches) == expected


def test_large_runs_are_cut_and_batches_own_their_bytes() -> None:
    builder = BatchBuilder(PAGE)
    count = 3 * BATCH_BYTES // PAGE // 2
    buffer = bytearray(b"".join(page(index) for index in range(count)))
    batches = list(builder.add("pagemap-1", np.arange(count), np.full(count, RAW), memoryview(buffer)))
    buffer[:] = bytes(len(buffer))
    batches += builder.flush()
    assert [len(batch.data) for batch in batches] == [BATCH_BYTES, BATCH_BYTES // 2]
    assert unpacked(batches) == {("pagemap-1", index): page(index) for index in range(count)}


def test_scattered_zeros_stay_under_the_bound_of_runs() -> None:
    builder = BatchBuilder(PAGE)
    count = RUNS_PER_BATCH_MAX + 10
    data = memoryview(bytes(count * PAGE))
    batches = list(builder.add("pagemap-1", 2 * np.arange(count), np.full(count, ZERO), data))
    batches += builder.flush()
    assert [len(batch.meta["r"]) for batch in batches] == [RUNS_PER_BATCH_MAX, 10]  # type: ignore[arg-type]
    assert len(unpacked(batches)) == count


def test_many_zeros_stay_under_the_bound_of_zeros() -> None:
    builder = BatchBuilder(PAGE)
    batches: list[PageBatch] = []
    step = ZERO_PAGES_PER_BATCH_MAX // 4 - 1
    data = memoryview(bytes(step * PAGE))
    for number in range(5):
        indices = np.arange(step) + number * step
        batches += builder.add("pagemap-1", indices, np.full(step, ZERO), data)
    batches += builder.flush()
    assert [batch.meta["r"] for batch in batches] == [
        [[0, ZERO_PAGES_PER_BATCH_MAX, ZERO]],
        [[ZERO_PAGES_PER_BATCH_MAX, 5 * step - ZERO_PAGES_PER_BATCH_MAX, ZERO]],
    ]


def test_nothing_chosen_is_no_batch() -> None:
    builder = BatchBuilder(PAGE)
    assert list(builder.add("pagemap-1", np.arange(1), np.array([LEFT_OUT]), memoryview(page(1)))) == []
    assert list(builder.flush()) == []
