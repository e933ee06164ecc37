"""What is noted of pre-copy and what is kept of the dump add up to the floor."""

from __future__ import annotations

import functools
import operator
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hopbench.inside import observed_daemon
from hopbench.inside.floor_probe import measure
from hopbench.inside.observed_daemon import ObservedFinal, ObservedSource, Shadow
from streamhop.content.memory import FinalImage, PageBatch
from streamhop_protocol.page_batches import LIKE, RAW, XOR, ZERO, PageRun, encode_meta

PAGE = 4096


def page(letter: str) -> bytes:
    """A page of one letter."""
    return letter.encode() * PAGE


def batch(runs: list[PageRun], data: bytes) -> PageBatch:
    """Pages of object pagemap-1."""
    return PageBatch(encode_meta("pagemap-1", runs), data)


DUMP = [
    batch([PageRun(5, 2, RAW), PageRun(7, 1, ZERO)], page("b") + page("c")),
    batch([PageRun(2**30, 1, RAW)], page("e")),
]
"""Pages 5 to 7 and 2**30 (4 TiB on): b c 0 e."""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is kept of the dump once the move has ended."""
    monkeypatch.setattr(FinalImage, "take", take_dump)
    monkeypatch.setattr(observed_daemon, "FINAL", tmp_path / "final")
    return sent_while_frozen(tmp_path)


def take_dump(_: FinalImage, __: socket.socket) -> Iterator[PageBatch]:
    yield from DUMP


def sent_while_frozen(directory: Path) -> Path:
    source = ObservedSource(1, page_size=PAGE)
    image = source.final(directory)
    assert isinstance(image, ObservedFinal)
    with socket.socket() as nobody:
        assert list(image.take(nobody)) == DUMP
    assert not (directory / "final").exists()
    source.close()
    return directory / "final"


def noted(directory: Path, *batches: PageBatch) -> Path:
    """A note of what was sent of object pagemap-1."""
    shadow = Shadow(directory, PAGE)
    for each in batches:
        shadow.note(each)
    shadow.close()
    return directory


def test_what_was_never_sent_has_changed_unless_it_is_zero(kept: Path, tmp_path: Path) -> None:
    found = measure(kept, tmp_path / "nothing", PAGE)
    assert found["changed_pages"] == 3
    assert 0 < found["zstd_bytes"] < PAGE


def test_only_what_was_last_sent_counts(kept: Path, tmp_path: Path) -> None:
    shadow = noted(
        tmp_path / "shadow",
        batch([PageRun(5, 2, RAW)], page("x") + page("c")),
        batch([PageRun(5, 1, RAW), PageRun(7, 1, RAW)], page("b") + page("d")),
        batch([PageRun(7, 1, ZERO), PageRun(2**30, 1, RAW)], page("y")),
    )
    assert measure(kept, shadow, PAGE)["changed_pages"] == 1


def test_a_difference_counts_as_the_page_that_it_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    shadow = noted(tmp_path / "shadow", batch([PageRun(5, 2, RAW)], page("b") + page("c")))
    difference = functools.partial(np.bitwise_xor, np.frombuffer(page("c"), np.uint8))
    changed = difference(np.frombuffer(page("d"), np.uint8)).tobytes()
    kept.unlink()  # of the dump that the fixture has
    monkeypatch.setitem(globals(), "DUMP", [batch([PageRun(5, 2, XOR)], bytes(PAGE) + changed)])
    assert measure(sent_while_frozen(tmp_path), shadow, PAGE)["changed_pages"] == 1
    assert functools.reduce(operator.or_, changed) != 0


def test_a_page_like_another_counts_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    other = PageBatch(encode_meta("pagemap-2", [PageRun(5, 2, RAW)]), page("b") + page("x"))
    shadow = noted(tmp_path / "shadow", batch([PageRun(5, 2, RAW)], page("b") + page("c")), other)
    like = PageBatch(encode_meta("pagemap-1", [PageRun(5, 2, LIKE)], "pagemap-2"), b"")
    kept.unlink()
    monkeypatch.setitem(globals(), "DUMP", [like])
    assert measure(sent_while_frozen(tmp_path), shadow, PAGE)["changed_pages"] == 1
    assert measure(kept, noted(tmp_path / "later", other, like), PAGE)["changed_pages"] == 0


def test_a_note_of_everything_leaves_nothing(kept: Path, tmp_path: Path) -> None:
    runs = [PageRun(5, 2, RAW), PageRun(2**30, 1, RAW)]
    shadow = noted(tmp_path / "shadow", batch(runs, page("b") + page("c") + page("e")))
    assert measure(kept, shadow, PAGE) == {"changed_pages": 0, "zstd_bytes": 0}


def test_a_dump_that_was_not_kept_is_no_floor(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        measure(tmp_path / "none", tmp_path / "shadow", PAGE)
