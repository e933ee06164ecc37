"""From batches to an image directory, read back by CRIU's rules; and what a hostile peer may try."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import xxhash
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_support import PAGE, ZERO_PAGE, CriuReader, Pages, digest_of, mm_image, page, read_as_criu, write_dump

from streamhop.content.memory import PageStore
from streamhop.content.memory.page_set import GRANULE_PAGES
from streamhop.content.memory.sparse_files import SEGMENT_BYTES
from streamhop_protocol.errors import IntegrityError, LimitError, MalformedError, ProtocolError, UnexpectedError
from streamhop_protocol.held_pages import HASH_BYTES, decode_held
from streamhop_protocol.page_batches import LIKE, RAW, XOR, ZERO, ZERO_PAGES_PER_BATCH_MAX, PageRun, encode_meta

SEGMENT_PAGES = SEGMENT_BYTES // PAGE
QUOTA_BYTES = 1 << 24

LOW, CODE, STACK = 0x400, 0x5555_5555_4000 // PAGE, 0x7FFF_FFFD_E000 // PAGE


@pytest.fixture
def store(tmp_path: Path) -> PageStore:
    return PageStore(tmp_path / "pages", PAGE, quota_bytes=QUOTA_BYTES)


def put(store: PageStore, pages: Pages, name: str = "pagemap-1") -> None:
    """Apply pages one batch each."""
    for index in sorted(pages):
        if pages[index] == ZERO_PAGE:
            store.apply(encode_meta(name, [PageRun(index, 1, ZERO)]), b"")
        else:
            store.apply(encode_meta(name, [PageRun(index, 1, RAW)]), pages[index])


def assemble(store: PageStore, directory: Path, objects: Mapping[str, Pages], other: Mapping[str, bytes]) -> bytes:
    """Let the store make ``directory / "image"`` of a dump of ``objects``; returns its digest."""
    write_dump(directory / "dump", objects, other)
    files = directory / "files"
    files.mkdir()
    for path in (directory / "dump").iterdir():
        if not path.name.startswith("pages-"):
            (files / path.name).write_bytes(path.read_bytes())
    return store.assemble(directory / "image", files)


def test_pages_of_all_rounds_are_where_criu_looks(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1), CODE: page(2), CODE + 1: ZERO_PAGE, STACK: page(3), STACK + 2: page(4)})
    put(store, {5: page(5), 9: ZERO_PAGE}, "pagemap-shmem-77")
    put(store, {CODE: page(20), CODE + 1: page(21), STACK + 1: page(22), LOW + 9: page(23)})
    put(store, {STACK: ZERO_PAGE})
    store.begin_final()
    put(store, {STACK + 2: page(40), CODE + 4: page(41)})
    private = {
        LOW: page(1), LOW + 9: page(23), CODE: page(20), CODE + 1: page(21), CODE + 4: page(41),
        STACK: ZERO_PAGE, STACK + 1: page(22), STACK + 2: page(40),
    }  # fmt: skip
    shared = {5: page(5), 9: ZERO_PAGE}
    objects: dict[str, Pages] = {"pagemap-1": private, "pagemap-shmem-77": shared, "pagemap-2": {}}
    other = {"core-1.img": b"core", "inventory.img": b"", "descriptors.json": b"[]"}
    digest = assemble(store, tmp_path, objects, other)
    image = tmp_path / "image"
    for name, pages in objects.items():
        assert read_as_criu(image, name) == pages
    for name, content in other.items():
        assert (image / name).read_bytes() == content
    assert digest == digest_of(tmp_path / "dump")
    assert not (image / "parent").readlink().is_absolute()
    assert image.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "pages").rglob("*.img"))


def test_the_digest_is_the_one_of_the_specification(store: PageStore, tmp_path: Path) -> None:
    pages = {STACK: page(1), LOW: page(2), LOW + 1: page(3)}
    put(store, pages)
    digest = assemble(store, tmp_path, {"pagemap-1": pages}, {"core-1.img": b"core"})
    pagemap = (tmp_path / "dump" / "pagemap-1.img").read_bytes()

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little")

    logical = (
        b"streamhop image 2\n"
         b"P" + number(13) + b"pagemap-1.img" + number(3)
        + blake3(page(2) + page(3)).digest() + blake3(page(1)).digest()
        + b"F" + number(10) + b"core-1.img" + number(4) + b"core"
        + b"F" + number(13) + b"pagemap-1.img" + number(len(pagemap)) + pagemap
    )  # fmt: skip
    assert digest == blake3(logical).digest()


INDICES = st.sampled_from([0, 1, 2, GRANULE_PAGES - 1, GRANULE_PAGES, CODE, SEGMENT_PAGES - 1, SEGMENT_PAGES, STACK])
CONTENTS = st.integers(0, 5).map(lambda seed: page(seed) if seed else ZERO_PAGE)


def test_a_difference_is_to_what_is_held(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1), LOW + 1: ZERO_PAGE, LOW + 2: page(3)})
    while store.hash_ahead():
        pass
    wanted = [page(9), page(2), page(3)]
    change = b"".join(_xor(new, old) for new, old in zip(wanted, [page(1), ZERO_PAGE, page(3)], strict=True))
    store.apply(encode_meta("pagemap-1", [PageRun(LOW, 3, XOR)]), change)
    pages = {LOW + at: content for at, content in enumerate(wanted)}
    digest = assemble(store, tmp_path, {"pagemap-1": pages}, {})
    assert read_as_criu(tmp_path / "image", "pagemap-1") == pages
    assert digest == digest_of(tmp_path / "dump")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("first", [LOW - 1, LOW + 1, STACK])
def test_a_difference_to_a_page_that_never_arrived(store: PageStore, first: int) -> None:
    put(store, {LOW: page(1)})
    with pytest.raises(UnexpectedError, match="never arrived"):
        store.apply(encode_meta("pagemap-1", [PageRun(first, 1, XOR)]), page(1))


def test_a_page_like_another_stays_what_it_was_then(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1), LOW + 1: ZERO_PAGE, LOW + 2: page(3)})
    put(store, {LOW + 2: page(9)}, "pagemap-2")
    store.apply(encode_meta("pagemap-2", [PageRun(LOW, 3, LIKE)], "pagemap-1"), b"")
    put(store, {LOW: page(4)})
    while store.hash_ahead():
        pass
    store.apply(encode_meta("pagemap-1", [PageRun(LOW + 1, 1, LIKE), PageRun(LOW + 2, 1, RAW)], "pagemap-2"), page(5))
    objects: dict[str, Pages] = {
        "pagemap-1": {LOW: page(4), LOW + 1: ZERO_PAGE, LOW + 2: page(5)},
        "pagemap-2": {LOW: page(1), LOW + 1: ZERO_PAGE, LOW + 2: page(3)},
    }
    digest = assemble(store, tmp_path, objects, {})
    for name, pages in objects.items():
        assert read_as_criu(tmp_path / "image", name) == pages
    assert digest == digest_of(tmp_path / "dump")


@pytest.mark.parametrize(("name", "first"), [("pagemap-1", LOW + 1), ("pagemap-1", STACK), ("pagemap-3", LOW)])
def test_a_page_like_one_that_never_arrived(store: PageStore, name: str, first: int) -> None:
    put(store, {LOW: page(1)})
    with pytest.raises(UnexpectedError, match="never arrived"):
        store.apply(encode_meta("pagemap-2", [PageRun(first, 1, LIKE)], name), b"")


def test_two_pages_cannot_be_like_each_other(store: PageStore) -> None:
    with pytest.raises(UnexpectedError, match="never arrived"):
        store.apply(encode_meta("pagemap-2", [PageRun(LOW, 1, LIKE)], "pagemap-1"), b"")
    with pytest.raises(UnexpectedError, match="never arrived"):
        store.apply(encode_meta("pagemap-1", [PageRun(LOW, 1, LIKE)], "pagemap-2"), b"")


def test_pages_like_others_take_room(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "small", PAGE, quota_bytes=3 * PAGE)
    put(store, {LOW: page(1), LOW + 1: page(2)})
    with pytest.raises(LimitError, match="bytes of memory"):
        store.apply(encode_meta("pagemap-2", [PageRun(LOW, 2, LIKE)], "pagemap-1"), b"")


@given(st.data())
@settings(deadline=None)
def test_the_digest_is_of_what_is_held_whenever_blocks_were_hashed(data: st.DataObject) -> None:
    held: dict[int, bytes] = {}
    with tempfile.TemporaryDirectory() as name:
        store = PageStore(Path(name) / "pages", PAGE, quota_bytes=1 << 30)
        for _ in range(data.draw(st.integers(1, 4))):
            batch = data.draw(st.dictionaries(INDICES, CONTENTS, min_size=1))
            put(store, batch)
            held |= batch
            if data.draw(st.booleans()):
                while store.hash_ahead():
                    pass
        # What was freed since is not in the dump.
        dumped = {index: held[index] for index in sorted(data.draw(st.sets(st.sampled_from(sorted(held)))))}
        digest = assemble(store, Path(name), {"pagemap-1": dumped}, {})
        assert digest == digest_of(Path(name) / "dump")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(rounds=st.lists(st.dictionaries(INDICES, CONTENTS, min_size=1), min_size=1, max_size=5), data=st.data())
def test_the_latest_content_counts(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[dict[int, bytes]], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("store")
    store = PageStore(directory / "pages", PAGE, quota_bytes=QUOTA_BYTES)
    held: dict[int, bytes] = {}
    for pages in rounds:
        put(store, pages)
        held |= pages
    assert store.stored_bytes == sum(content != ZERO_PAGE for content in held.values()) * PAGE
    dumped = {index: held[index] for index in data.draw(st.sets(st.sampled_from(sorted(held))))}
    assemble(store, directory, {"pagemap-1": dumped}, {})
    assert read_as_criu(directory / "image", "pagemap-1") == dumped


def test_a_batch_of_several_runs_across_a_segment(store: PageStore, tmp_path: Path) -> None:
    first = SEGMENT_PAGES - 3
    runs = [PageRun(first, 2, RAW), PageRun(first + 2, 2, ZERO), PageRun(first + 4, 2, RAW)]
    store.apply(encode_meta("pagemap-1", runs), b"".join(map(page, (1, 2, 3, 4))))
    whole = dict(enumerate([page(1), page(2), ZERO_PAGE, ZERO_PAGE, page(3), page(4)], start=first))
    store.apply(encode_meta("pagemap-2", [PageRun(first, 6, RAW)]), b"".join(whole.values()))
    assemble(store, tmp_path, {"pagemap-1": whole, "pagemap-2": whole}, {})
    assert read_as_criu(tmp_path / "image", "pagemap-1") == whole
    assert read_as_criu(tmp_path / "image", "pagemap-2") == whole


def test_pages_that_criu_cannot_find_in_a_parent_are_in_the_image(store: PageStore, tmp_path: Path) -> None:
    pages = {index: page(index) for index in range(10, 30)}
    put(store, pages)
    put(store, pages, "pagemap-2")
    mappings = mm_image((15 * PAGE, 18 * PAGE, 0x40022, 1), (25 * PAGE, 40 * PAGE, 0x22, 1 | 1 << 27))
    assemble(store, tmp_path, {"pagemap-1": pages, "pagemap-2": pages}, {"mm-1.img": mappings})
    image = tmp_path / "image"
    assert read_as_criu(image, "pagemap-1") == pages
    assert read_as_criu(image, "pagemap-2") == pages
    own = b"".join(page(index) for index in (15, 16, 17, 25, 26, 27, 28, 29))
    assert (image / "pages-1.img").read_bytes() == own
    assert (image / "pages-2.img").read_bytes() == b""


def test_zeros_give_their_room_back(store: PageStore, tmp_path: Path) -> None:
    blocks = QUOTA_BYTES // PAGE // 256
    for block in range(blocks):
        runs = [PageRun(block * 256, 256, RAW)]
        store.apply(encode_meta("pagemap-1", runs), page(7) * 256)
    assert store.stored_bytes == QUOTA_BYTES
    store.apply(encode_meta("pagemap-1", [PageRun(0, 256 * blocks, ZERO)]), b"")
    assert store.stored_bytes == 0
    put(store, {0: page(1)}, "pagemap-2")
    used = sum(path.stat().st_blocks * 512 for path in (tmp_path / "pages").rglob("pages-*.img"))
    assert used < QUOTA_BYTES // 4


def test_a_page_that_never_arrived(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1), LOW + 2: page(3)})
    with pytest.raises(IntegrityError, match=str(LOW + 1)):
        assemble(store, tmp_path, {"pagemap-1": {LOW + at: page(at + 1) for at in range(3)}}, {})


@pytest.mark.parametrize("name", ["pagemap-1", "pagemap-2"])
def test_an_object_or_segment_that_never_arrived(store: PageStore, tmp_path: Path, name: str) -> None:
    put(store, {LOW: page(1)})
    with pytest.raises(IntegrityError):
        assemble(store, tmp_path, {name: {STACK: page(1)}}, {})


def test_a_flipped_bit_on_disk_changes_the_digest(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1)})
    damaged = bytearray(page(1))
    damaged[100] ^= 4
    put(store, {LOW: bytes(damaged)})
    digest = assemble(store, tmp_path, {"pagemap-1": {LOW: page(1)}}, {})
    assert digest != digest_of(tmp_path / "dump")


def test_the_disk_quota(store: PageStore) -> None:
    pages = QUOTA_BYTES // PAGE
    for first in range(0, pages, 256):
        store.apply(encode_meta("pagemap-1", [PageRun(first, 256, RAW)]), page(1) * 256)
    put(store, {3: page(9)})  # in place: takes no room
    with pytest.raises(LimitError, match="bytes of memory"):
        put(store, {pages: page(1)})


def test_scattered_pages_are_bounded_in_memory(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages", PAGE, quota_bytes=QUOTA_BYTES, index_bytes_max=10_000)
    with pytest.raises(LimitError, match="scattered"):
        put(store, {at * GRANULE_PAGES: page(1) for at in range(40)})


def test_zeros_that_cost_no_data_are_bounded_in_memory(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages", PAGE, quota_bytes=QUOTA_BYTES, index_bytes_max=1 << 20)

    def claim_the_address_space() -> None:
        for at in range(20):
            run = PageRun(at * ZERO_PAGES_PER_BATCH_MAX, ZERO_PAGES_PER_BATCH_MAX, ZERO)
            store.apply(encode_meta("pagemap-1", [run]), b"")

    with pytest.raises(LimitError, match="scattered"):
        claim_the_address_space()


def test_segments_are_bounded(store: PageStore, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="scattered"):
        put(store, {at * SEGMENT_PAGES: ZERO_PAGE for at in range(33)})
    assert len(list((tmp_path / "pages").glob("level-*"))) == 32


def test_objects_are_bounded(store: PageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamhop.content.memory.store.OBJECTS_MAX", 3)
    for pid in range(1, 4):
        put(store, {1: page(1)}, f"pagemap-{pid}")
    with pytest.raises(LimitError, match="objects"):
        put(store, {1: page(1)}, "pagemap-4")


def test_more_objects_than_files_may_be_open(store: PageStore, tmp_path: Path) -> None:
    objects = {f"pagemap-{pid}": {LOW: page(pid), STACK: page(pid + 1)} for pid in range(1, 100)}
    for name, pages in objects.items():
        put(store, pages, name)
    assemble(store, tmp_path, objects, {})
    for name, pages in objects.items():
        assert read_as_criu(tmp_path / "image", name) == pages


@pytest.mark.parametrize(
    ("meta", "data"),
    [
        (None, b""),
        ({"o": "../x", "r": [[0, 1, RAW]]}, page(1)),
        ({"o": "pagemap-1", "r": [[0, 2, RAW]]}, page(1)),
        ({"o": "pagemap-1", "r": [[1 << 45, 1, RAW]]}, page(1)),
    ],
)
def test_descriptions_are_checked(store: PageStore, tmp_path: Path, meta: object, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        store.apply(meta, data)
    assert list((tmp_path / "pages").iterdir()) == []


@pytest.mark.parametrize("name", ["../core-1.img", "pages-1.img", "parent", 7])
def test_file_names_are_checked(store: PageStore, name: object) -> None:
    with pytest.raises(MalformedError):
        store.check_file_name(name)
    assert store.check_file_name("core-1.img") == "core-1.img"


@pytest.mark.parametrize("name", ["dump.log", "pagemap-x.img", "pagemap-shmem-.img"])
def test_files_that_belong_to_no_image(store: PageStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(MalformedError):
        assemble(store, tmp_path, {}, {name: b"x"})


def test_a_pagemap_criu_would_not_write(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1)})
    with pytest.raises(MalformedError):
        assemble(store, tmp_path, {}, {"pagemap-1.img": b"\x19\x43\x56\x54\x25\x40\x08\x56\x02\x00\x00\x00\x08"})


def test_nothing_comes_after_the_image_is_assembled(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1)})
    store.begin_final()
    assemble(store, tmp_path, {"pagemap-1": {LOW: page(1)}}, {})
    with pytest.raises(UnexpectedError):
        put(store, {LOW: page(2)})
    with pytest.raises(UnexpectedError):
        store.assemble(tmp_path / "again", tmp_path / "files")
    assert read_as_criu(tmp_path / "image", "pagemap-1") == {LOW: page(1)}


def test_the_final_stage_comes_once(store: PageStore) -> None:
    store.begin_final()
    with pytest.raises(UnexpectedError):
        store.begin_final()


@pytest.mark.parametrize("page_size", [0, 1, 8192])
def test_page_sizes_linux_does_not_have(tmp_path: Path, page_size: int) -> None:
    with pytest.raises(MalformedError):
        PageStore(tmp_path / "pages", page_size, quota_bytes=QUOTA_BYTES)
    assert not (tmp_path / "pages").exists()


def test_discard(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1)})
    store.discard()
    store.discard()
    assert not (tmp_path / "pages").exists()
    with pytest.raises(UnexpectedError):
        put(store, {LOW: page(1)})


def test_the_reader_of_these_tests_knows_a_wrong_page(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1), STACK: page(2)})
    assemble(store, tmp_path, {"pagemap-1": {LOW: page(1), STACK: page(3)}}, {})
    reader = CriuReader(tmp_path / "image", "pagemap-1")
    assert reader.read(LOW) == page(1)
    assert reader.read(STACK) == page(2) != page(3)
    reader.close()


# -- going on with what an earlier store has left ----------------------------------------------------------------------


def hashes_held(store: PageStore, seed: int) -> dict[tuple[str, int], bytes]:
    """Hash of each page that a store says it holds."""
    found: dict[tuple[str, int], bytes] = {}
    for meta, hashes in store.held(seed):
        held = decode_held(meta, hashes, PAGE)
        at = 0
        for first, count in held.runs:
            for index in range(first, first + count):
                found[held.object_name, index] = held.hashes[at : at + HASH_BYTES]
                at += HASH_BYTES
    return found


def test_a_reopened_store_tells_what_is_on_disk_and_goes_on(store: PageStore, tmp_path: Path) -> None:
    """P5: nothing that arrived has to come again, whatever became of the daemon that took it."""
    held = {LOW: page(1), CODE: page(2), STACK: page(3), STACK + 1: page(4)}
    put(store, held)
    put(store, {7: page(7)}, "pagemap-shmem-3")
    put(store, {STACK + 1: ZERO_PAGE})
    again = PageStore(tmp_path / "pages", PAGE, quota_bytes=QUOTA_BYTES, reopen=True)
    told = hashes_held(again, seed=5)
    expected = {("pagemap-1", index): content for index, content in held.items() if index != STACK + 1}
    expected["pagemap-shmem-3", 7] = page(7)
    assert told.keys() == expected.keys()
    assert told == {key: xxhash.xxh3_128_digest(content, 5) for key, content in expected.items()}
    put(again, {STACK + 1: page(5), CODE: page(6)})
    assemble(
        again,
        tmp_path,
        {"pagemap-1": {**held, STACK + 1: page(5), CODE: page(6)}, "pagemap-shmem-3": {7: page(7)}},
        {},
    )
    assert read_as_criu(tmp_path / "image", "pagemap-1") == {
        LOW: page(1),
        CODE: page(6),
        STACK: page(3),
        STACK + 1: page(5),
    }


def test_a_store_whose_image_was_assembled_can_be_reopened(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1), STACK: page(2)})
    assemble(store, tmp_path, {"pagemap-1": {LOW: page(1), STACK: page(2)}}, {})
    again = PageStore(tmp_path / "pages", PAGE, quota_bytes=QUOTA_BYTES, reopen=True)
    assert set(hashes_held(again, 0)) == {("pagemap-1", LOW), ("pagemap-1", STACK)}
    (tmp_path / "second").mkdir()
    assemble(again, tmp_path / "second", {"pagemap-1": {LOW: page(1), STACK: page(2)}}, {})


def test_a_layout_that_is_cut_off_loses_its_last_line_only(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1)})
    with (tmp_path / "pages" / "layout").open("a") as file:
        file.write("segment 1 15")
    again = PageStore(tmp_path / "pages", PAGE, quota_bytes=QUOTA_BYTES, reopen=True)
    assert set(hashes_held(again, 0)) == {("pagemap-1", LOW)}
    put(again, {STACK: page(2)})
    third = PageStore(tmp_path / "pages", PAGE, quota_bytes=QUOTA_BYTES, reopen=True)
    assert set(hashes_held(third, 0)) == {("pagemap-1", LOW), ("pagemap-1", STACK)}


@pytest.mark.parametrize("line", ["object ../x", "object pagemap-1 2", "segment 9 0", "segment 1 99999", "nonsense"])
def test_a_layout_of_nonsense_is_refused(store: PageStore, tmp_path: Path, line: str) -> None:
    put(store, {LOW: page(1)})
    with (tmp_path / "pages" / "layout").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(MalformedError):
        PageStore(tmp_path / "pages", PAGE, quota_bytes=QUOTA_BYTES, reopen=True)


def test_a_reopened_store_keeps_its_quota(store: PageStore, tmp_path: Path) -> None:
    put(store, {LOW: page(1), LOW + 1: page(2)})
    with pytest.raises(LimitError):
        PageStore(tmp_path / "pages", PAGE, quota_bytes=PAGE, reopen=True)


def placed(store: PageStore, directory: Path, announced: bytes, came: bytes) -> Path:
    """Process images put where CRIU reads them, one of them announced."""
    files, image = directory / "files", directory / "image"
    files.mkdir()
    image.mkdir()
    (image / "descriptors.json").write_bytes(announced)
    (files / "descriptors.json").write_bytes(came)
    (files / "core-1.img").write_bytes(b"core")
    store.place_process_images(image, files)
    return files


def test_what_was_announced_is_what_has_to_come(store: PageStore, tmp_path: Path) -> None:
    files = placed(store, tmp_path, b'["/dev/null"]', b'[ "/dev/null" ]')
    store.assemble(tmp_path / "image", files)
    assert (tmp_path / "image" / "core-1.img").read_bytes() == b"core"


@pytest.mark.parametrize("came", [b"[]", b"nonsense", b"[" * 60_000, b" " * 70_000 + b'["/dev/null"]'])
def test_anything_but_what_was_announced(store: PageStore, tmp_path: Path, came: bytes) -> None:
    with pytest.raises(IntegrityError, match="announced"):
        placed(store, tmp_path, b'["/dev/null"]', came)


def test_nothing_is_added_or_changed_after_the_images_were_looked_at(store: PageStore, tmp_path: Path) -> None:
    files = placed(store, tmp_path, b"[]", b"[]")
    with (files / "core-1.img").open("ab") as file:
        file.write(b" and more")
    assert (tmp_path / "image" / "core-1.img").read_bytes() == b"core"
    (files / "apparmor.img").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="looked at"):
        store.assemble(tmp_path / "image", files)
