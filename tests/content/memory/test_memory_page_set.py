"""PageSet against a set of integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamhop.content.memory.page_set import GRANULE_BYTES, GRANULE_PAGES, PageSet

RANGES = st.tuples(st.booleans(), st.integers(0, 4 * GRANULE_PAGES), st.integers(1, 2 * GRANULE_PAGES))


@given(st.lists(RANGES, max_size=12), st.integers(0, 5 * GRANULE_PAGES), st.integers(1, GRANULE_PAGES))
def test_it_is_a_set(steps: list[tuple[bool, int, int]], first: int, count: int) -> None:
    pages, model = PageSet(), set[int]()
    for add, start, length in steps:
        touched = set(range(start, start + length))
        if add:
            assert pages.add(start, length) == len(touched - model)
            model |= touched
        else:
            assert pages.remove(start, length) == len(touched & model)
            model -= touched
        assert pages.count == len(model)
    missing = [index for index in range(first, first + count) if index not in model]
    assert pages.first_missing(first, count) == (missing[0] if missing else None)
    assert pages.size_bytes == len({index // GRANULE_PAGES for index in model}) * GRANULE_BYTES
