"""What the target holds after each round is what the source had."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees_support import HISTORY, apply_round, rounds, snapshot

from streamhop.content.trees import TreeApplier, TreeScanner

pytestmark = pytest.mark.root

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def make_rich_tree(root: Path) -> None:
    """One of everything."""
    (root / "bin").mkdir(mode=0o755)
    (root / "bin/su").write_bytes(b"\x7fELF" + os.urandom(3000))
    os.chown(root / "bin/su", 1000, 50)
    (root / "bin/su").chmod(0o6755)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    (root / "bin/ping").write_bytes(b"ping")
    os.setxattr(root / "bin/ping", "security.capability", capability)
    (root / "bin/link").symlink_to("su")
    (root / "bin/dangling").symlink_to("/etc/../../nowhere")
    os.chown(root / "bin/link", 7, 8, follow_symlinks=False)
    os.utime(root / "bin/link", ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    data = root / "data"
    data.mkdir()
    (data / "empty").touch()
    (data / "large").write_bytes(os.urandom(3 * MIB + 17))
    os.link(data / "large", root / "bin/large-too")
    os.link(data / "large", data / "a-third-name")
    with (data / "sparse").open("wb") as file:
        file.truncate(64 * MIB + 5)
        os.pwrite(file.fileno(), b"island", 20 * MIB + 100)
        os.pwrite(file.fileno(), b"end", 64 * MIB + 2)
    os.setxattr(data / "large", "user.note", b"\0\xff")
    os.setxattr(data / "large", "user.empty", b"")
    os.setxattr(data, "user.of-directory", b"x" * 1000)
    os.mkfifo(data / "fifo", 0o620)
    os.link(data / "fifo", data / "fifo-too")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data / "socket"))
    os.mknod(data / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(data / "disk", stat.S_IFBLK | 0o600, os.makedev(253, 77))
    locked = root / "locked"
    (locked / "in").mkdir(parents=True)
    (locked / "in/file").write_text("content")
    (locked / "in").chmod(0o555)
    locked.chmod(0o000)
    (root / b"\xff\xfe not utf-8".decode(errors="surrogateescape")).write_text("x")
    (root / "new\nline").mkdir()
    acl = bytes.fromhex("0200000001000600ffffffff020006000100000004000400ffffffff10000600ffffffff20000400ffffffff")
    os.setxattr(data / "empty", "system.posix_acl_access", acl)
    os.setxattr(data, "system.posix_acl_default", acl)
    for number, path in enumerate(sorted(root.rglob("*"))):
        if not path.is_symlink():
            os.utime(path, ns=(5, 1_600_000_000_000_000_001 + number))
    os.utime(root, ns=(5, 1_500_000_000_999_999_999))


def test_everything_arrives(source: Path, target: Path) -> None:
    make_rich_tree(source)
    (target / "left-from-before/deep").mkdir(parents=True)
    scanner = TreeScanner(source, overlay_upper=False)
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)
    assert (target / "data/sparse").stat().st_blocks * 512 < MIB


def test_the_same_round_twice_changes_nothing(source: Path, target: Path) -> None:
    make_rich_tree(source)
    chunks = list(TreeScanner(source, overlay_upper=False).scan().chunks())
    for _ in range(2):
        applier = TreeApplier(target, allow_devices=True, quota_bytes=1 << 30)
        for chunk in chunks:
            applier.feed(chunk)
        applier.finish()
        assert snapshot(target) == snapshot(source)


def test_a_settled_tree_has_no_changes(source: Path, target: Path) -> None:
    make_rich_tree(source)
    later = time.time_ns() + 10_000_000_000
    scanner = TreeScanner(source, overlay_upper=False, wall_clock_ns=lambda: later)
    assert not scanner.scan().empty
    apply_round(scanner, target)
    assert scanner.scan().empty


def test_changes_that_were_not_read_to_the_end_are_found_again(source: Path, target: Path) -> None:
    make_rich_tree(source)
    scanner = TreeScanner(source, overlay_upper=False)
    next(scanner.scan().chunks())
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


def change_types(root: Path) -> None:
    (root / "bin/su").unlink()
    (root / "bin/su").mkdir()
    (root / "bin/su/inside").write_text("x")
    (root / "data/fifo").unlink()
    (root / "data/fifo").write_text("a file now")
    (root / "locked/in/file").unlink()
    (root / "locked/in").rmdir()
    (root / "locked/in").symlink_to("/")


def change_links(root: Path) -> None:
    (root / "data/large").unlink()
    (root / "data/large").write_text("separate now")
    os.link(root / "data/empty", root / "bin/empty-too")
    (root / "bin/su").unlink()
    os.link(root / "bin/ping", root / "bin/su")
    (root / "bin/large-too").write_text("both other names change")
    (root / "data/empty").write_text("no more")


def change_metadata(root: Path) -> None:
    os.chown(root / "bin/su", 12, 13)
    (root / "bin/su").chmod(0o4711)
    os.removexattr(root / "data/large", "user.note")
    os.chown(root / "data/fifo", 3, 3)
    (root / "data").chmod(0o1777)
    os.removexattr(root / "data", "system.posix_acl_default")
    os.removexattr(root / "bin/ping", "security.capability")
    os.utime(root / "data/null", ns=(4, 4))


def change_names(root: Path) -> None:
    (root / "data/large").rename(root / "moved")
    (root / "data").rename(root / "data2")
    (root / "locked").rename(root / "data")
    (root / "bin/ping").rename(root / "bin/su")


def change_content(root: Path) -> None:
    with (root / "data/sparse").open("r+b") as file:
        os.pwrite(file.fileno(), bytes(6), 20 * MIB + 100)
        os.pwrite(file.fileno(), b"other island", 40 * MIB)
        file.truncate(50 * MIB + 1)
    with (root / "data/large").open("r+b") as file:
        file.truncate(MIB + 1)
        os.pwrite(file.fileno(), b"tail", 2 * MIB)


@pytest.mark.parametrize("change", [change_types, change_links, change_metadata, change_names, change_content])
def test_later_rounds_bring_changes(source: Path, target: Path, change: object) -> None:
    make_rich_tree(source)
    scanner = TreeScanner(source, overlay_upper=False)
    apply_round(scanner, target)
    assert callable(change)
    change(source)
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


def test_a_directory_keeps_its_time_when_only_the_target_changes_names_in_it(source: Path, target: Path) -> None:
    make_rich_tree(source)
    later = time.time_ns() + 10_000_000_000
    scanner = TreeScanner(source, overlay_upper=False, wall_clock_ns=lambda: later)
    apply_round(scanner, target)
    os.utime(source / "bin/link", ns=(4, 4), follow_symlinks=False)
    os.utime(source / "data/null", ns=(4, 4))
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=HISTORY, seed=st.integers(0, 1000))
def test_any_history_arrives(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]], seed: int
) -> None:
    base = tmp_path_factory.mktemp("history")
    source, target = base / "source", base / "target"
    source.mkdir()
    target.mkdir()
    scanner = TreeScanner(source, overlay_upper=False)
    for _ in rounds(source, steps, seed):
        apply_round(scanner, target)
        assert snapshot(target) == snapshot(source)
