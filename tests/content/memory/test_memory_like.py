"""Pages that another process has too at the same place: which are found, and that the target gets what was read."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_support import PAGE, ZERO_PAGE, page, read_as_criu, take_dump, write_dump

from streamhop.content.memory import FinalImage, PageBatch, PageStore
from streamhop.content.memory.batching import BatchBuilder
from streamhop.content.memory.encoding import encode, note_sent
from streamhop.content.memory.sent_pages import SentPages
from streamhop.content.memory.table import PageHasher, SentTable
from streamhop_protocol.page_batches import LIKE, LIKE_BYTES_PER_BATCH_MAX, decode_meta


def visit(table: SentTable, name: str, content: dict[int, bytes]) -> tuple[list[int], str | None]:
    """Which slots of granule 0 are found to be like another object's, and of which."""
    slots = sorted(content)
    verdict = table.visit(name, 0, np.array(slots), memoryview(b"".join(content[slot] for slot in slots)))
    if verdict is None:
        return [], None
    return [slot for slot, like in zip(slots, verdict.like, strict=True) if like], verdict.like_object


def test_the_same_page_at_the_same_place_is_found() -> None:
    table = SentTable(PageHasher(1, PAGE), 3, 1 << 20)
    assert visit(table, "pagemap-1", {0: page(1), 1: page(2), 5: page(3)}) == ([], None)
    assert visit(table, "pagemap-2", {0: page(1), 1: page(7), 4: page(3), 5: page(3)}) == ([0, 5], "pagemap-1")
    assert visit(table, "pagemap-2", {0: page(1), 1: page(2), 4: page(3)}) == ([1], "pagemap-1")


def test_the_object_with_the_most_of_it_is_named() -> None:
    table = SentTable(PageHasher(1, PAGE), 3, 1 << 20)
    visit(table, "pagemap-1", {0: page(1), 1: page(2)})
    visit(table, "pagemap-2", {0: page(1), 1: page(3), 2: page(4)})
    assert visit(table, "pagemap-3", {0: page(1), 1: page(3), 2: page(4)}) == ([0, 1, 2], "pagemap-2")


def test_what_the_target_does_not_have_any_more_is_not_named() -> None:
    table = SentTable(PageHasher(1, PAGE), 3, 1 << 20)
    visit(table, "pagemap-1", {0: page(1)})
    visit(table, "pagemap-1", {0: page(2)})
    assert visit(table, "pagemap-2", {0: page(1)}) == ([], None)


def test_batches_of_pages_like_others_are_bounded_and_name_one_object() -> None:
    builder = BatchBuilder(PAGE)
    count = LIKE_BYTES_PER_BATCH_MAX // PAGE + 10
    kinds = np.full(count, LIKE, dtype=np.int8)
    batches = list(builder.add("pagemap-3", np.arange(count), kinds, memoryview(b""), "pagemap-1"))
    batches += builder.add("pagemap-3", np.arange(count, count + 5), kinds[:5], memoryview(b""), "pagemap-2")
    batches += builder.flush()
    found = [decode_meta(batch.meta, len(batch.data), PAGE) for batch in batches]
    assert [(meta.like_object, meta.like_pages) for meta in found] == [
        ("pagemap-1", count - 10),
        ("pagemap-1", 10),
        ("pagemap-2", 5),
    ]


CONTENTS = st.integers(0, 3).map(lambda seed: page(seed) if seed else ZERO_PAGE)
PLACES = st.sampled_from([0, 1, 2, 127, 128, 129])
MEMORY = st.dictionaries(st.sampled_from(["pagemap-1", "pagemap-2", "pagemap-3"]), st.dictionaries(PLACES, CONTENTS))


@given(rounds=st.lists(MEMORY, max_size=4), last=MEMORY, keep=st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_target_has_what_was_dumped(
    rounds: list[dict[str, dict[int, bytes]]], last: dict[str, dict[int, bytes]], keep: bool
) -> None:
    table, builder = SentTable(PageHasher(7, PAGE), 3, 1 << 20), BatchBuilder(PAGE)
    with tempfile.TemporaryDirectory() as directory, SentPages(PAGE, 1 << 22) as sent:
        base = Path(directory)
        store = PageStore(base / "store", PAGE, quota_bytes=1 << 24)
        batches: list[PageBatch] = []
        for memory in rounds:
            for name, pages in memory.items():
                for number in (0, 1):
                    slots = np.array(sorted(index - 128 * number for index in pages if index // 128 == number))
                    if not len(slots):
                        continue
                    data = memoryview(b"".join(pages[int(slot) + 128 * number] for slot in slots))
                    verdict = table.visit(name, number, slots, data)
                    if verdict is None:
                        continue
                    kinds, encoded = encode(sent, name, number, slots, verdict, data)
                    note_sent(sent, name, number, slots, verdict, data, keep=keep)
                    batches += builder.add(name, slots + 128 * number, kinds, encoded, verdict.like_object)
            batches += builder.flush()
        (base / "streamed").mkdir()
        batches += take_dump(FinalImage(base / "streamed", table, sent, PAGE), last)
        for batch in batches:
            store.apply(batch.meta, batch.data)
        write_dump(base / "dump", last)
        (base / "files").mkdir()
        for path in (base / "dump").glob("pagemap-*"):
            (base / "files" / path.name).write_bytes(path.read_bytes())
        store.assemble(base / "image", base / "files")
        for name, pages in last.items():
            assert read_as_criu(base / "image", name) == pages
