"""What is sent, what is put off, what is forgotten: the table of hashes."""

from __future__ import annotations

import numpy as np
import pytest
from memory_support import PAGE, ZERO_PAGE, page

from streamhop.content.memory.image_digest import block_digest
from streamhop.content.memory.table import GRANULE_PAGES, Hashes, PageHasher, SentTable, Verdict

DEFER_AFTER = 3


def make_table(bytes_max: int = 1 << 20) -> SentTable:
    return SentTable(PageHasher(99, PAGE), DEFER_AFTER, bytes_max)


def visit(table: SentTable, *pages: bytes, number: int = 0) -> Verdict | None:
    return table.visit("pagemap-1", number, np.arange(len(pages)), memoryview(b"".join(pages)))


def compare(table: SentTable, *pages: bytes, number: int = 0, first: int = 0) -> Verdict | None:
    content = b"".join(pages)
    slots = np.arange(first, first + len(pages))
    return table.compare("pagemap-1", number, slots, memoryview(content), block_digest(content))


def test_first_sight_is_sent_and_an_unchanged_page_is_not() -> None:
    table = make_table()
    verdict = visit(table, page(1), ZERO_PAGE)
    assert verdict is not None
    assert verdict.send.tolist() == [True, True]
    assert verdict.zero.tolist() == [False, True]
    assert (verdict.changed, verdict.new, verdict.deferred) == (2, 2, 0)
    assert visit(table, page(1), ZERO_PAGE) is None


def test_only_what_changed_is_sent() -> None:
    table = make_table()
    visit(table, page(1), page(2), page(3))
    verdict = visit(table, page(1), page(9), page(3))
    assert verdict is not None
    assert verdict.send.tolist() == [False, True, False]
    assert (verdict.changed, verdict.new) == (1, 0)


def test_positions_are_independent() -> None:
    table = make_table()
    visit(table, page(1))
    assert visit(table, page(1), number=1) is not None
    assert table.visit("pagemap-2", 0, np.arange(1), memoryview(page(1))) is not None


def test_a_page_that_changes_every_round_is_put_off_until_it_rests() -> None:
    table = make_table()
    sent = []
    for content in range(6):
        verdict = visit(table, page(content), page(1000))
        assert verdict is not None
        assert not verdict.send[1] or content == 0
        sent.append((bool(verdict.send[0]), verdict.deferred))
    # seen, changed once, changed twice, then the third change in a row
    assert sent == [(True, 0), (True, 0), (True, 0), (False, 1), (False, 1), (False, 1)]
    rested = visit(table, page(5), page(1000))
    assert rested is not None
    assert rested.send.tolist() == [True, False]
    assert rested.deferred == 0
    assert visit(table, page(5), page(1000)) is None


def test_a_pause_begins_the_count_anew() -> None:
    table = make_table()
    for content in (0, 1, 2, 2, 3, 4):
        verdict = visit(table, page(content))
        assert verdict is None or verdict.deferred == 0
    verdict = visit(table, page(5))
    assert verdict is not None
    assert verdict.deferred == 1


def test_a_page_put_off_that_returns_to_what_was_sent_is_not_sent() -> None:
    table = make_table()
    for content in (0, 1, 2, 3, 4):
        visit(table, page(content))
    assert visit(table, page(2)) is None


def test_the_final_comparison_never_puts_off() -> None:
    table = make_table()
    for content in range(5):
        visit(table, page(content), page(1000))
    verdict = compare(table, page(5), page(1000))
    assert verdict is not None
    assert verdict.send.tolist() == [True, False]
    assert compare(table, page(1000), first=1) is None


def test_what_only_the_final_image_has_is_sent() -> None:
    verdict = compare(make_table(), page(1), ZERO_PAGE, number=3)
    assert verdict is not None
    assert verdict.send.tolist() == [True, True]
    assert verdict.zero.tolist() == [False, True]
    assert verdict.new == 2


def test_a_failed_final_stage_leaves_pages_to_be_sent_again() -> None:
    table = make_table()
    visit(table, page(1))
    compare(table, page(2))
    assert visit(table, page(1)) is not None


class Unhashed(PageHasher):
    """Counts the pages that it is asked for."""

    pages = 0

    def hashes(self, data: memoryview) -> Hashes:
        self.pages += len(data) // PAGE
        return super().hashes(data)


def test_a_block_that_did_not_change_is_not_looked_at_page_by_page() -> None:
    hasher = Unhashed(99, PAGE)
    table = SentTable(hasher, DEFER_AFTER, 1 << 20)
    for known in ((page(1), page(2)), (page(3), page(2)), (page(3), page(2))):
        visit(table, *known)
    hasher.pages = 0
    assert compare(table, page(3), page(2)) is None
    assert hasher.pages == 0
    assert compare(table, page(3)) is None, "fewer pages than were sent"
    assert hasher.pages == 1
    changed = compare(table, page(3), page(4))
    assert changed is not None
    assert changed.send.tolist() == [False, True]
    again = compare(table, page(3), page(2))
    assert again is not None
    assert again.send.tolist() == [False, True], "what was sent while frozen counts as unknown"


def test_a_block_of_which_a_page_was_put_off_is_looked_at() -> None:
    table = make_table()
    for content in range(6):
        visit(table, page(content), page(1000))
    verdict = compare(table, page(5), page(1000))
    assert verdict is not None
    assert verdict.send.tolist() == [True, False]


def test_what_the_target_said_it_holds_is_believed_anew() -> None:
    table = make_table()
    visit(table, page(1), page(2))
    table.learn("pagemap-1", 0, PageHasher(99, PAGE).hashes(memoryview(page(7))))
    verdict = compare(table, page(1), page(2))
    assert verdict is not None
    assert verdict.send.tolist() == [True, False]


def test_beyond_its_bound_the_table_leaves_pages_to_the_final_stage() -> None:
    table = make_table(bytes_max=3 * GRANULE_PAGES * 20)
    sent = [visit(table, page(1), number=number) is not None for number in range(10)]
    assert 0 < sum(sent) < 10
    assert sent == sorted(sent, reverse=True)
    assert table.size_bytes <= 3 * GRANULE_PAGES * 20
    assert compare(table, page(1), number=9) is not None


@pytest.mark.parametrize("seed", [0, (1 << 64) - 1])
def test_hashes_depend_on_the_seed(seed: int) -> None:
    data = memoryview(page(1) + page(2))
    mine, other = PageHasher(seed, PAGE).hashes(data), PageHasher(5, PAGE).hashes(data)
    assert mine.shape == (2, 2)
    assert (mine != other).all()
    assert (mine[0] != mine[1]).all()
