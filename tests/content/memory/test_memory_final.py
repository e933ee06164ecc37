"""The dump of the frozen container against what was sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from memory_support import PAGE, ZERO_PAGE, page, read_as_criu, write_dump

from streamhop.content.memory import FinalImage, MemorySource, PageStore
from streamhop.content.memory.sent_pages import SentPages
from streamhop.content.memory.table import GRANULE_PAGES, PageHasher, SentTable
from streamhop_protocol.errors import MalformedError
from streamhop_protocol.page_batches import RAW, ZERO

OTHER = {
    "core-1.img": b"core",
    "inventory.img": b"",
    "descriptors.json": b"[]",
    "dump.log": b"not for the peer",
    "stats-dump": b"nor this",
}


def final(directory: Path) -> FinalImage:
    return MemorySource(7, page_size=PAGE).final(directory)


def test_all_of_a_dump_is_sent_if_nothing_was(tmp_path: Path) -> None:
    write_dump(tmp_path, {"pagemap-1": {5: page(5), 6: ZERO_PAGE, 9: page(9)}, "pagemap-shmem-3": {0: page(1)}}, OTHER)
    image = final(tmp_path)
    batches = list(image.batches())
    assert [batch.meta for batch in batches] == [
        {"o": "pagemap-1", "r": [[5, 1, RAW], [6, 1, ZERO], [9, 1, RAW]]},
        {"o": "pagemap-shmem-3", "r": [[0, 1, RAW]]},
    ]
    assert [batch.data for batch in batches] == [page(5) + page(9), page(1)]
    assert image.stats.sent_pages == image.stats.scanned_pages == 4
    assert image.stats.zero_pages == 1


def test_only_what_differs_is_sent(tmp_path: Path) -> None:
    dumped = {index: page(index) for index in range(3 * GRANULE_PAGES)}
    write_dump(tmp_path, {"pagemap-1": dumped})
    hasher = PageHasher(7, PAGE)
    table = SentTable(hasher, 3, 1 << 20)
    first = FinalImage(tmp_path, table, SentPages(PAGE, 0), PAGE)
    changed = {1, GRANULE_PAGES, 3 * GRANULE_PAGES - 1}
    for number in range(3):
        indices = [number * GRANULE_PAGES + slot for slot in range(GRANULE_PAGES)]
        content = b"".join(page(index + 10_000 if index in changed else index) for index in indices)
        table.visit("pagemap-1", number, np.arange(GRANULE_PAGES), memoryview(content))
    batches = list(first.batches())
    runs = [run for batch in batches for run in batch.meta["r"]]  # type: ignore[attr-defined]
    assert runs == [[index, 1, RAW] for index in sorted(changed)]
    assert first.stats.scanned_pages == len(dumped)
    assert first.stats.changed_pages == first.stats.sent_pages == 3


def test_the_files_beside_the_pages(tmp_path: Path) -> None:
    write_dump(tmp_path, {"pagemap-1": {5: page(5)}}, OTHER)
    names = [path.name for path in final(tmp_path).image_files()]
    assert names == ["core-1.img", "descriptors.json", "inventory.img", "pagemap-1.img"]


def test_the_digest_is_the_same_with_and_without_batches(tmp_path: Path) -> None:
    write_dump(tmp_path, {"pagemap-1": {5: page(5)}, "pagemap-2": {}}, OTHER)
    image = final(tmp_path)
    list(image.batches())
    assert image.digest() == final(tmp_path).digest()
    assert len(image.digest()) == 32


def test_the_digest_covers_everything_a_restore_reads(tmp_path: Path) -> None:
    digests = set()
    for number, (pages, other) in enumerate(
        [
            ({5: page(5)}, {"core-1.img": b"core"}),
            ({5: page(6)}, {"core-1.img": b"core"}),
            ({6: page(5)}, {"core-1.img": b"core"}),
            ({5: page(5)}, {"core-1.img": b"cor"}),
            ({5: page(5)}, {"core-2.img": b"core"}),
            ({5: page(5)}, {"core-1.img": b"core", "fs-1.img": b""}),
        ]
    ):
        write_dump(tmp_path / str(number), {"pagemap-1": pages}, other)
        digests.add(final(tmp_path / str(number)).digest())
    assert len(digests) == 6


def test_a_pages_file_of_another_length(tmp_path: Path) -> None:
    write_dump(tmp_path, {"pagemap-1": {5: page(5), 6: page(6)}})
    with (tmp_path / "pages-1.img").open("ab") as pages:
        pages.write(page(7))
    with pytest.raises(MalformedError, match=r"pages-1\.img"):
        list(final(tmp_path).batches())


def test_scattered_and_long_runs_cross_whole(tmp_path: Path) -> None:
    pages = {index: page(index) for index in [*range(3, 400), *range(500, 900, 3), *range(1 << 30, (1 << 30) + 200)]}
    write_dump(tmp_path / "dump", {"pagemap-1": pages})
    store = PageStore(tmp_path / "pages", PAGE, quota_bytes=1 << 30)
    image = final(tmp_path / "dump")
    for batch in image.batches():
        store.apply(batch.meta, batch.data)
    files = tmp_path / "files"
    files.mkdir()
    for path in image.image_files():
        (files / path.name).write_bytes(path.read_bytes())
    assert store.assemble(tmp_path / "image", files) == image.digest()
    assert read_as_criu(tmp_path / "image", "pagemap-1") == pages
