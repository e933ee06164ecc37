"""A tree that changes while it is read, and how little is sent of large files."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trees_support import QUOTA_BYTES, apply_round, snapshot

from streamhop.content.trees import TreeApplier, TreeScanner
from streamhop.content.trees import scanner as scanner_module

pytestmark = pytest.mark.root

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def long_settled() -> int:
    """A clock so late that no change counts as recent."""
    return time.time_ns() + 10_000_000_000


def apply_while(scanner: TreeScanner, target: Path, change: Callable[[], object], *, after_chunk: int) -> None:
    """One round in which ``change`` happens after some chunks were read."""
    applier = TreeApplier(target, allow_devices=True, quota_bytes=QUOTA_BYTES)
    chunks: Iterator[bytes] = scanner.scan().chunks()
    for _ in range(after_chunk):
        applier.feed(next(chunks))
    change()
    for chunk in chunks:
        applier.feed(chunk)
    applier.finish()


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(os.urandom(MIB))


def rewrite_start(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"the start is sent already")


def replace(path: Path) -> None:
    path.with_name("new").write_text("replaced")
    path.with_name("new").rename(path)


def become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "below").touch()


def become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def remove_all(path: Path) -> None:
    for entry in path.parent.iterdir():
        entry.unlink()
    path.parent.rmdir()


def swap_parent(path: Path) -> None:
    """What was read as a directory leads out of the tree all of a sudden."""
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("/etc")


DISTURBANCES = [
    grow,
    rewrite_start,
    lambda path: os.truncate(path, 10),
    Path.unlink,
    replace,
    become_directory,
    become_fifo,
    remove_all,
    swap_parent,
]


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
@pytest.mark.parametrize("after_chunk", [0, 2])
@pytest.mark.parametrize("disturb", DISTURBANCES)
def test_a_round_survives_what_happens_meanwhile(
    source: Path, target: Path, disturb: Callable[[Path], object], after_chunk: int, known: bool
) -> None:
    victim = source / "dir/victim"
    victim.parent.mkdir()
    victim.write_bytes(os.urandom(2 * MIB))
    os.link(victim, source / "dir/victim-too")
    (source / "dir/z").symlink_to("victim")
    scanner = TreeScanner(source, overlay_upper=False)
    if known:
        apply_round(scanner, target)
        victim.write_bytes(os.urandom(2 * MIB))
    apply_while(scanner, target, lambda: disturb(victim), after_chunk=after_chunk)
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


def test_a_link_made_between_looking_at_both_names_is_one_in_the_end(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "1").mkdir()
    (source / "2").mkdir()
    (source / "1/file").write_text("one file")
    scanner = TreeScanner(source, overlay_upper=False, wall_clock_ns=long_settled)
    apply_round(scanner, target)
    open_directory = scanner_module._open_directory

    def link_first(name: str, parent: int) -> int | None:
        if name == "2":
            os.link(source / "1/file", source / "2/file")
        return open_directory(name, parent)

    with monkeypatch.context() as patch:
        patch.setattr(scanner_module, "_open_directory", link_first)
        apply_round(scanner, target)
    assert (target / "1/file").stat().st_nlink == 1
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


def test_a_change_that_leaves_no_trace_is_found_if_the_file_was_recent(source: Path, target: Path) -> None:
    path = source / "mapped"
    path.write_bytes(bytes(range(256)) * 64)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0] = 77
        scanner = TreeScanner(source, overlay_upper=False, wall_clock_ns=lambda: path.stat().st_ctime_ns + 10_000_000)
        apply_round(scanner, target)
        before = path.stat().st_ctime_ns
        memory[1] = 78  # the page is dirty already: the kernel does not see the store
        assert path.stat().st_ctime_ns == before
        apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


def test_files_that_must_be_checked_are_and_once_more_after(source: Path, target: Path) -> None:
    path = source / "mapped"
    path.write_bytes(bytes(range(256)) * 64)
    scanner = TreeScanner(source, overlay_upper=False, wall_clock_ns=long_settled)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0] = 77
        must_check = frozenset({(path.stat().st_dev, path.stat().st_ino)})
        apply_round(scanner, target)
        memory[1] = 78  # the page is dirty already: the kernel does not see the store
        apply_round(scanner, target, must_check=must_check)
        assert snapshot(target) == snapshot(source)
        memory[2] = 79
    apply_round(scanner, target)  # unmapped by now, so nobody says that it must be checked
    assert snapshot(target) == snapshot(source)
    assert apply_round(scanner, target) == 0


def test_times_are_not_believed_on_a_tmpfs(tmp_path_factory: pytest.TempPathFactory, target: Path) -> None:
    shm = Path("/dev/shm")
    source = shm / tmp_path_factory.mktemp("tmpfs").name
    source.mkdir()
    path = source / "segment"
    try:
        path.write_bytes(bytes(range(256)) * 64)
        scanner = TreeScanner(source, overlay_upper=False, wall_clock_ns=long_settled)
        apply_round(scanner, target)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            before = path.stat().st_ctime_ns
            memory[1] = memory[0] + 77  # read first: the page is writable from then on
        assert path.stat().st_ctime_ns == before
        apply_round(scanner, target)
        assert snapshot(target) == snapshot(source)
        assert apply_round(scanner, target) == 0
    finally:
        path.unlink()
        source.rmdir()


def test_a_large_file_is_updated_by_blocks(source: Path, target: Path) -> None:
    path = source / "database"
    path.write_bytes(os.urandom(8 * MIB))
    scanner = TreeScanner(source, overlay_upper=False)
    assert apply_round(scanner, target) > 8 * MIB
    inode = (target / "database").stat().st_ino
    with path.open("r+b") as file:
        for offset in (5, 3 * MIB, 5 * MIB - 1):
            os.pwrite(file.fileno(), b"ab", offset)
        os.pwrite(file.fileno(), b"appended", 8 * MIB)
    assert apply_round(scanner, target) < 5 * 64 * KIB + KIB
    assert snapshot(target) == snapshot(source)
    assert (target / "database").stat().st_ino == inode


def test_holes_are_neither_read_nor_sent(source: Path, target: Path) -> None:
    path = source / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        os.pwrite(file.fileno(), b"x", 1 << 39)
    scanner = TreeScanner(source, overlay_upper=False)
    assert apply_round(scanner, target) < 128 * KIB
    assert (target / "sparse").stat().st_size == 1 << 40
    assert (target / "sparse").stat().st_blocks <= 2 * 64 * KIB // 512
    os.truncate(path, 1 << 38)
    assert apply_round(scanner, target) < KIB
    assert (target / "sparse").stat().st_size == 1 << 38


def test_a_file_of_zeros_becomes_a_hole(source: Path, target: Path) -> None:
    path = source / "file"
    path.write_bytes(os.urandom(MIB))
    scanner = TreeScanner(source, overlay_upper=False)
    apply_round(scanner, target)
    path.write_bytes(bytes(MIB))
    assert apply_round(scanner, target) < KIB
    assert snapshot(target) == snapshot(source)
    assert (target / "file").stat().st_blocks == 0


def test_a_file_too_large_for_its_hashes_is_sent_whole(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhop.content.trees.changes.HASHES_BYTES_MAX", 0)
    path = source / "file"
    path.write_bytes(os.urandom(MIB) + bytes(MIB) + b"x")
    scanner = TreeScanner(source, overlay_upper=False)
    apply_round(scanner, target)
    with path.open("r+b") as file:
        file.write(bytes(MIB))
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


def test_many_files_are_scanned_again_in_little_time(source: Path) -> None:
    for number in range(30):
        (source / f"{number}").mkdir()
        for name in range(100):
            (source / f"{number}/{name}").touch()
    scanner = TreeScanner(source, overlay_upper=False, wall_clock_ns=long_settled)
    for _ in scanner.scan().chunks():
        pass
    began = time.thread_time()
    assert scanner.scan().empty
    assert time.thread_time() - began < 0.3  # 3,000 files take about 20 ms


def test_reading_changes_twice_is_an_error(source: Path) -> None:
    changes = TreeScanner(source, overlay_upper=False).scan()
    list(changes.chunks())
    with pytest.raises(RuntimeError):
        next(changes.chunks())
