"""The dump of the frozen container against what was sent."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_support import PAGE, ZERO_PAGE, Pages, digest_of, page, read_as_criu, write_dump

from streamhop.content.memory import FinalImage, MemorySource, PageBatch, PageStore
from streamhop.content.memory.batching import BatchBuilder
from streamhop.content.memory.encoding import encode, note_sent
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
    image = MemorySource(7, page_size=PAGE).final(directory)
    image.dumped()
    return image


def batches_of(image: FinalImage) -> list[PageBatch]:
    image.take_hashes()
    return list(image.batches())


def test_all_of_a_dump_is_sent_if_nothing_was(tmp_path: Path) -> None:
    write_dump(tmp_path, {"pagemap-1": {5: page(5), 6: ZERO_PAGE, 9: page(9)}, "pagemap-shmem-3": {0: page(1)}}, OTHER)
    image = final(tmp_path)
    batches = batches_of(image)
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
    first.dumped()
    batches = batches_of(first)
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
    batches_of(image)
    assert image.digest() == digest_of(tmp_path)
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
        final(tmp_path)


def test_scattered_and_long_runs_cross_whole(tmp_path: Path) -> None:
    pages = {index: page(index) for index in [*range(3, 400), *range(500, 900, 3), *range(1 << 30, (1 << 30) + 200)]}
    write_dump(tmp_path / "dump", {"pagemap-1": pages})
    store = PageStore(tmp_path / "pages", PAGE, quota_bytes=1 << 30)
    image = final(tmp_path / "dump")
    for batch in batches_of(image):
        store.apply(batch.meta, batch.data)
    files = tmp_path / "files"
    files.mkdir()
    for path in image.image_files():
        (files / path.name).write_bytes(path.read_bytes())
    assert store.assemble(tmp_path / "image", files) == image.digest()
    assert read_as_criu(tmp_path / "image", "pagemap-1") == pages


SPREAD = st.lists(st.sampled_from([3, 4, 5, 100, 127, 128, 129, 300, 1 << 30]), unique=True).map(sorted)


@given(st.data())
@settings(deadline=None)
def test_the_target_gets_what_is_in_the_dump_whenever_it_was_written(data: st.DataObject) -> None:
    dumped = {index: page(data.draw(st.integers(1, 3))) for index in data.draw(SPREAD)}
    before = {index: page(data.draw(st.integers(1, 3))) for index in data.draw(SPREAD)}
    written = data.draw(st.integers(0, len(dumped) * PAGE))
    with tempfile.TemporaryDirectory() as name, SentPages(PAGE, 1 << 24) as sent:
        directory, pages_file = Path(name) / "dump", Path(name) / "dump" / "pages-1.img"
        write_dump(directory, {"pagemap-1": dumped})
        store = PageStore(Path(name) / "pages", PAGE, quota_bytes=1 << 30)
        table = SentTable(PageHasher(7, PAGE), 0, 1 << 20)
        for batch in sent_before(before, table, sent):
            store.apply(batch.meta, batch.data)
        whole = pages_file.read_bytes()
        pages_file.write_bytes(whole[:written])
        image = Followed(directory, table, sent, PAGE)
        with ThreadPoolExecutor(2) as threads:
            batches, digest = threads.submit(lambda: batches_of(image)), threads.submit(image.digest)
            assert image.begun.acquire(timeout=10)
            with pages_file.open("ab") as growing:
                growing.write(whole[written:])
            image.dumped()
        for batch in batches.result():
            store.apply(batch.meta, batch.data)
        files = Path(name) / "files"
        files.mkdir()
        (files / "pagemap-1.img").write_bytes((directory / "pagemap-1.img").read_bytes())
        assert store.assemble(Path(name) / "image", files) == digest.result() == digest_of(directory)
        assert read_as_criu(Path(name) / "image", "pagemap-1") == dumped


class Followed(FinalImage):
    """Tells when it begins to read a file."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begun = threading.Semaphore(0)

    def _grow(self, *arguments: Any, **named: Any) -> Any:
        self.begun.release()
        return super()._grow(*arguments, **named)


def sent_before(pages: Pages, table: SentTable, sent: SentPages) -> list[PageBatch]:
    """What a round sends of these pages."""
    builder = BatchBuilder(PAGE)
    batches: list[PageBatch] = []
    for index in sorted(pages):
        block, slot = divmod(index, GRANULE_PAGES)
        slots, content = np.array([slot]), memoryview(pages[index])
        verdict = table.visit("pagemap-1", block, slots, content)
        if verdict is not None:
            kinds, encoded = encode(sent, "pagemap-1", block, slots, verdict, content)
            note_sent(sent, "pagemap-1", block, slots, verdict, content, keep=True)
            batches += builder.add("pagemap-1", np.array([index]), kinds, encoded)
    return [*batches, *builder.flush()]


def test_several_pages_files_as_criu_makes_them(tmp_path: Path) -> None:
    objects = {f"pagemap-{pid}": {index: page(pid + index) for index in range(200)} for pid in (1, 7, 8)}
    write_dump(tmp_path / "whole", objects)
    (tmp_path / "dump").mkdir()
    with SentPages(PAGE, 0) as sent, ThreadPoolExecutor(2) as threads:
        image = Followed(tmp_path / "dump", SentTable(PageHasher(7, PAGE), 0, 1 << 20), sent, PAGE)
        batches, digest = threads.submit(lambda: batches_of(image)), threads.submit(image.digest)
        for number in (1, 2, 3):
            content = (tmp_path / "whole" / f"pages-{number}.img").read_bytes()
            (tmp_path / "dump" / f"pages-{number}.img").write_bytes(content)
            assert image.begun.acquire(timeout=10)
        for name in objects:
            (tmp_path / "dump" / f"{name}.img").write_bytes((tmp_path / "whole" / f"{name}.img").read_bytes())
        image.dumped()
        assert digest.result() == digest_of(tmp_path / "whole")
        assert sum(len(batch.data) for batch in batches.result()) == 600 * PAGE
        assert image.stats.scanned_pages == 600


@pytest.mark.parametrize("work", [lambda image: batches_of(image), lambda image: image.digest()])
def test_a_dump_that_never_comes(tmp_path: Path, work: Callable[[FinalImage], object]) -> None:
    with SentPages(PAGE, 0) as sent, ThreadPoolExecutor(1) as threads:
        image = FinalImage(tmp_path, SentTable(PageHasher(7, PAGE), 0, 1 << 20), sent, PAGE)
        waiting = threads.submit(work, image)
        image.give_up()
        with pytest.raises(MalformedError, match="given up"):
            waiting.result()
