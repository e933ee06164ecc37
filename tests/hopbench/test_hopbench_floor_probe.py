"""What is noted of pre-copy and what is kept of the dump add up to the floor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hopbench.inside.dump_keeper import keep_once
from hopbench.inside.floor_probe import measure
from hopbench.inside.observed_daemon import Shadow
from streamhop.content.memory import PageBatch
from streamhop.content.memory.criu_pagemap import PRESENT, PagemapEntry, encode_pagemap
from streamhop_protocol.page_batches import RAW, ZERO, PageRun, encode_meta

PAGE = 4096


def page(letter: str) -> bytes:
    """A page of one letter."""
    return letter.encode() * PAGE


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A final dump of pages 5 to 7 and 2**30 (4 TiB on): b c 0 e."""
    image = tmp_path / "dumps" / "abc" / "image"
    image.mkdir(parents=True)
    runs = [PagemapEntry(5, 3, PRESENT), PagemapEntry(2**30, 1, PRESENT)]
    (image / "pagemap-1.img").write_bytes(encode_pagemap(7, runs, PAGE))
    (image / "pages-7.img").write_bytes(page("b") + page("c") + bytes(PAGE) + page("e"))
    (image / "core-1.img").write_bytes(b"not memory")
    return image


def kept_of(dump: Path) -> Path:
    """What is kept of it once it is gone."""
    kept = dump.parents[2] / "kept"
    kept.mkdir(exist_ok=True)
    keep_once(dump.parents[1], kept)
    keep_once(dump.parents[1], kept)  # looks again and again
    for path in dump.iterdir():
        path.unlink()
    return kept


def noted(directory: Path, *batches: tuple[list[PageRun], bytes]) -> Path:
    """A note of what was sent of object pagemap-1."""
    shadow = Shadow(directory, PAGE)
    for runs, data in batches:
        shadow.note(PageBatch(encode_meta("pagemap-1", runs), data))
    shadow.close()
    return directory


def test_the_dump_outlives_its_directory_and_holds_memory_alone(dump: Path) -> None:
    assert sorted(path.name for path in kept_of(dump).iterdir()) == ["pagemap-1.img", "pages-7.img"]


def test_what_was_never_sent_has_changed_unless_it_is_zero(dump: Path, tmp_path: Path) -> None:
    found = measure(kept_of(dump), tmp_path / "nothing", PAGE)
    assert found["changed_pages"] == 3
    assert 0 < found["zstd_bytes"] < PAGE


def test_only_what_was_last_sent_counts(dump: Path, tmp_path: Path) -> None:
    shadow = noted(
        tmp_path / "shadow",
        ([PageRun(5, 2, RAW)], page("x") + page("c")),
        ([PageRun(5, 1, RAW), PageRun(7, 1, RAW)], page("b") + page("d")),
        ([PageRun(7, 1, ZERO), PageRun(2**30, 1, RAW)], page("y")),
    )
    assert measure(kept_of(dump), shadow, PAGE)["changed_pages"] == 1


def test_a_note_of_everything_leaves_nothing(dump: Path, tmp_path: Path) -> None:
    runs = [PageRun(5, 2, RAW), PageRun(2**30, 1, RAW)]
    shadow = noted(tmp_path / "shadow", (runs, page("b") + page("c") + page("e")))
    assert measure(kept_of(dump), shadow, PAGE) == {"changed_pages": 0, "zstd_bytes": 0}


def test_a_dump_that_was_not_kept_or_kept_in_part_is_no_floor(dump: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no dump"):
        measure(tmp_path / "empty", tmp_path / "shadow", PAGE)
    kept = kept_of(dump)
    os.truncate(kept / "pages-7.img", PAGE)
    with pytest.raises(FileNotFoundError, match="ends early"):
        measure(kept, tmp_path / "shadow", PAGE)
