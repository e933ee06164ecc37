"""The dump of the frozen container against what was sent."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_support import PAGE, ZERO_PAGE, Pages, PlayedCriu, digest_of, page, read_as_criu, take_dump, write_dump

from streamhop.content.memory import BatchSpool, FinalImage, MemorySource, PageBatch, PageStore, batch_spool
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


def final(directory: Path, other: Mapping[str, bytes] | None = None) -> FinalImage:
    """A dump that is about to be made, with these files beside its pages."""
    directory.mkdir(exist_ok=True)
    for name, content in (other or {}).items():
        (directory / name).write_bytes(content)
    return MemorySource(7, page_size=PAGE).final(directory)


@pytest.mark.parametrize("header_bytes", [24, 32])
def test_all_of_a_dump_is_sent_if_nothing_was(tmp_path: Path, header_bytes: int) -> None:
    image = final(tmp_path, OTHER)
    objects = {"pagemap-1": {5: page(5), 6: ZERO_PAGE, 9: page(9)}, "pagemap-shmem-3": {0: page(1)}}
    batches = take_dump(image, objects, header_bytes)
    assert [batch.meta for batch in batches] == [
        {"o": "pagemap-1", "r": [[5, 1, RAW], [6, 1, ZERO], [9, 1, RAW]]},
        {"o": "pagemap-shmem-3", "r": [[0, 1, RAW]]},
    ]
    assert [batch.data for batch in batches] == [page(5) + page(9), page(1)]
    assert image.stats.sent_pages == image.stats.scanned_pages == 4
    assert image.stats.zero_pages == 1


def test_only_what_differs_is_sent(tmp_path: Path) -> None:
    dumped = {index: page(index) for index in range(3 * GRANULE_PAGES)}
    table = SentTable(PageHasher(7, PAGE), 3, 1 << 20)
    image = FinalImage(tmp_path, table, SentPages(PAGE, 0), PAGE)
    changed = {1, GRANULE_PAGES, 3 * GRANULE_PAGES - 1}
    for number in range(3):
        indices = [number * GRANULE_PAGES + slot for slot in range(GRANULE_PAGES)]
        content = b"".join(page(index + 10_000 if index in changed else index) for index in indices)
        table.visit("pagemap-1", number, np.arange(GRANULE_PAGES), memoryview(content))
    batches = take_dump(image, {"pagemap-1": dumped})
    runs = [run for batch in batches for run in batch.meta["r"]]  # type: ignore[attr-defined]
    assert runs == [[index, 1, RAW] for index in sorted(changed)]
    assert image.stats.scanned_pages == len(dumped)
    assert image.stats.changed_pages == image.stats.sent_pages == 3


def test_the_files_beside_the_pages(tmp_path: Path) -> None:
    image = final(tmp_path, OTHER)
    take_dump(image, {"pagemap-1": {5: page(5)}, "pagemap-9": {}})
    names = [path.name for path in image.image_files()]
    assert names == ["core-1.img", "descriptors.json", "inventory.img", "pagemap-1.img", "pagemap-9.img"]
    assert {(tmp_path / f"pagemap-{pid}.img").stat().st_mode & 0o777 for pid in (1, 9)} == {0o600}


def test_pagemaps_and_digest_are_those_of_a_dump_into_files(tmp_path: Path) -> None:
    pages = {index: page(index) for index in [*range(3, 400), *range(500, 900, 3)]}
    objects = {f"pagemap-{pid}": pages for pid in (1, 10, 7)} | {"pagemap-shmem-2": {}}
    write_dump(tmp_path / "files", objects, OTHER)
    image = final(tmp_path / "streamed", OTHER)
    take_dump(image, objects)
    assert image.digest() == digest_of(tmp_path / "files")
    for name in objects:
        assert (tmp_path / "streamed" / f"{name}.img").read_bytes() == (tmp_path / "files" / f"{name}.img").read_bytes()


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
        image = final(tmp_path / str(number), other)
        take_dump(image, {"pagemap-1": pages})
        digests.add(image.digest())
    assert len(digests) == 6


def test_scattered_and_long_runs_cross_whole(tmp_path: Path) -> None:
    pages = {index: page(index) for index in [*range(3, 400), *range(500, 900, 3), *range(1 << 30, (1 << 30) + 200)]}
    store = PageStore(tmp_path / "pages", PAGE, quota_bytes=1 << 30)
    image = final(tmp_path / "dump")
    for batch in take_dump(image, {"pagemap-1": pages}):
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
def test_the_target_gets_what_is_in_the_dump(data: st.DataObject) -> None:
    dumped = {index: page(data.draw(st.integers(1, 3))) for index in data.draw(SPREAD)}
    before = {index: page(data.draw(st.integers(1, 3))) for index in data.draw(SPREAD)}
    with tempfile.TemporaryDirectory() as name, SentPages(PAGE, 1 << 24) as sent:
        directory = Path(name) / "dump"
        directory.mkdir()
        store = PageStore(Path(name) / "pages", PAGE, quota_bytes=1 << 30)
        table = SentTable(PageHasher(7, PAGE), 0, 1 << 20)
        for batch in sent_before(before, table, sent):
            store.apply(batch.meta, batch.data)
        image = FinalImage(directory, table, sent, PAGE)
        for batch in take_dump(image, {"pagemap-1": dumped}):
            store.apply(batch.meta, batch.data)
        files = Path(name) / "files"
        files.mkdir()
        (files / "pagemap-1.img").write_bytes((directory / "pagemap-1.img").read_bytes())
        assert store.assemble(Path(name) / "image", files) == image.digest()
        assert read_as_criu(Path(name) / "image", "pagemap-1") == dumped


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


@pytest.mark.parametrize(
    "play",
    [lambda own: own.raw(b""), lambda own: own.objects({"pagemap-1": {1: page(1)}, "pagemap-2": {}}, closes=False)],
)
def test_a_dump_that_fails_is_no_image(tmp_path: Path, play: Callable[[PlayedCriu], None]) -> None:
    image = final(tmp_path, OTHER)
    criu = PlayedCriu(play)
    list(image.take(criu.connection))
    criu.join()
    for use in (image.image_files, image.digest):
        with pytest.raises(MalformedError, match="not sent all"):
            use()


def test_a_dump_that_is_not_wanted_any_more_is_heard_out(tmp_path: Path) -> None:
    pages = {index: page(index) for index in range(10 * GRANULE_PAGES)}
    image = final(tmp_path)
    image.give_up()
    criu = PlayedCriu(lambda own: own.objects({"pagemap-1": pages, "pagemap-2": pages}))
    assert list(image.take(criu.connection)) == []
    criu.join()
    assert criu.error is None
    with pytest.raises(MalformedError, match="not sent all"):
        image.digest()


def test_criu_is_heard_out_if_its_pages_cannot_be_noted(tmp_path: Path) -> None:
    image = final(tmp_path / "dump")
    (tmp_path / "dump").rmdir()
    criu = PlayedCriu(lambda own: own.objects({"pagemap-1": {1: page(1)}, "pagemap-2": {1: page(1)}}))
    with pytest.raises(FileNotFoundError):
        list(image.take(criu.connection))
    criu.join()
    assert criu.error is None


@pytest.mark.parametrize(
    ("first", "second", "match"), [("pagemap-1", "pagemap-1", "twice"), ("pagemap-1", "", "out of order")]
)
def test_an_object_comes_once_and_in_order(tmp_path: Path, first: str, second: str, match: str) -> None:
    def play(own: PlayedCriu) -> None:
        number = own.open(first)
        for address in (8192, 4096):
            if second:
                number = own.open(second)
            own.command(6 | 4 << 16, 1, address, number)
            own.raw(page(1))
        own.command(0x1024)
        own.answer(4)

    criu = PlayedCriu(play)
    with pytest.raises(MalformedError, match=match):
        list(final(tmp_path).take(criu.connection))
    criu.join()
    assert criu.error is None


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path) -> None:
    spool = BatchSpool(tmp_path)
    batches = [PageBatch({"n": number}, page(number) * number) for number in range(4)]
    kept = list(spool.keep(each for each in batches))
    assert [(each.meta, each.load()) for each in reversed(kept)] == [
        (each.meta, each.data) for each in reversed(batches)
    ]
    assert list(tmp_path.iterdir()) == []
    spool.close()
    spool.close()


def test_criu_is_heard_out_if_its_pages_find_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is held, as it is by whoever waits for the thread: nothing may hang on it being forgotten."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    pages = {index: page(index) for index in range(20 * GRANULE_PAGES)}
    criu = PlayedCriu(lambda own: own.objects({"pagemap-1": pages, "pagemap-2": pages}))
    image, spool = final(tmp_path / "dump"), BatchSpool(tmp_path)
    monkeypatch.setattr(batch_spool.os, "write", full)
    with pytest.raises(OSError, match="No space left") as held:
        list(spool.keep(image.take(criu.connection)))
    criu.join()
    assert held.value.errno == errno.ENOSPC
    assert criu.error is None
    spool.close()
