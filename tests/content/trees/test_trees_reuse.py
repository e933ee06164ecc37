"""Files that were renamed or replaced as a whole: what of them the target has is not sent again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees_support import HISTORY, apply_round, rounds, snapshot

from streamhop.content.trees import TreeApplier, TreeScanner
from streamhop.content.trees import scanner as scanner_module

pytestmark = pytest.mark.root

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/data").mkdir()
    (tmp_path / "source/data/log").write_bytes(os.urandom(MIB))
    (tmp_path / "source/data/log.1").write_bytes(os.urandom(MIB))
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def rename(root: Path) -> None:
    (root / "data/log").rename(root / "renamed")


def rotate(root: Path) -> None:
    (root / "data/log.1").rename(root / "data/log.2")
    (root / "data/log").rename(root / "data/log.1")
    (root / "data/log").write_bytes(b"new")


def rotate_over(root: Path) -> None:
    (root / "data/log").rename(root / "data/log.1")


def swap(root: Path) -> None:
    (root / "data/log").rename(root / "meanwhile")
    (root / "data/log.1").rename(root / "data/log")
    (root / "meanwhile").rename(root / "data/log.1")


def rename_and_change(root: Path) -> None:
    (root / "data/log").rename(root / "data/other")
    with (root / "data/other").open("r+b") as file:
        os.pwrite(file.fileno(), b"changed", 500 * KIB)
        file.truncate(900 * KIB)


def rename_directory(root: Path) -> None:
    (root / "data").rename(root / "moved")


def directory_takes_the_place(root: Path) -> None:
    (root / "data/log").rename(root / "meanwhile")
    (root / "data/log").mkdir()
    (root / "meanwhile").rename(root / "data/log/first")


def file_takes_the_place_of_its_directory(root: Path) -> None:
    (root / "data/log").rename(root / "meanwhile")
    shutil.rmtree(root / "data")
    (root / "meanwhile").rename(root / "data")


def save_by_renaming(root: Path) -> None:
    shutil.copy(root / "data/log", root / "data/temporary")
    with (root / "data/temporary").open("r+b") as file:
        os.pwrite(file.fileno(), b"changed", 500 * KIB)
    (root / "data/temporary").chmod(0o640)
    (root / "data/temporary").rename(root / "data/log")


def renamed_with_both_names(root: Path) -> None:
    os.link(root / "data/log", root / "a")
    os.link(root / "data/log", root / "b")
    (root / "data/log").unlink()


CHANGES = [
    rename,
    rotate,
    rotate_over,
    swap,
    rename_and_change,
    rename_directory,
    directory_takes_the_place,
    file_takes_the_place_of_its_directory,
    save_by_renaming,
    renamed_with_both_names,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_target_has_is_not_sent_again(source: Path, target: Path, change: Callable[[Path], None]) -> None:
    scanner = TreeScanner(source, overlay_upper=False)
    assert apply_round(scanner, target) > 2 * MIB
    change(source)
    assert apply_round(scanner, target) < 32 * KIB
    assert snapshot(target) == snapshot(source)
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


def test_a_file_that_keeps_a_name_lends_its_content_to_nobody(source: Path, target: Path) -> None:
    os.link(source / "data/log", source / "kept")
    scanner = TreeScanner(source, overlay_upper=False)
    apply_round(scanner, target)
    save_by_renaming(source)
    assert apply_round(scanner, target) > MIB
    assert snapshot(target) == snapshot(source)


def test_a_name_that_was_seen_before_the_other_was_replaced_keeps_its_content(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    (root / "1").mkdir(parents=True)
    (root / "2").mkdir()
    (root / "1/file").write_bytes(os.urandom(MIB))
    os.link(root / "1/file", root / "2/file")
    scanner = TreeScanner(root, overlay_upper=False, wall_clock_ns=lambda: time.time_ns() + 10_000_000_000)
    apply_round(scanner, target)
    before = (root / "1/file").read_bytes()
    open_directory = scanner_module._open_directory

    def replace_first(name: str, parent: int) -> int | None:
        if name == "2":
            (root / "new").write_bytes(os.urandom(MIB))
            (root / "new").rename(root / "2/file")
        return open_directory(name, parent)

    with monkeypatch.context() as patch:
        patch.setattr(scanner_module, "_open_directory", replace_first)
        apply_round(scanner, target)
    assert (target / "1/file").read_bytes() == before
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(root)


def test_a_name_that_the_container_uses_is_left_alone(source: Path, target: Path) -> None:
    (source / ".streamhop-moved-0").write_bytes(b"mine")
    scanner = TreeScanner(source, overlay_upper=False)
    apply_round(scanner, target)
    rename(source)
    assert apply_round(scanner, target) < 32 * KIB
    assert snapshot(target) == snapshot(source)


def test_files_below_mounts_of_the_runtime_are_not_linked_to(tmp_path: Path, target: Path) -> None:
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (root / "dev/file").write_bytes(os.urandom(MIB))
    scanner = TreeScanner(root, overlay_upper=False)
    apply_round(scanner, target)
    (root / "dev/file").rename(root / "file")
    assert apply_round(scanner, target) > MIB
    assert snapshot(target) == snapshot(root)


def test_a_renamed_file_that_goes_away_while_it_is_read(source: Path, target: Path) -> None:
    scanner = TreeScanner(source, overlay_upper=False)
    apply_round(scanner, target)
    rename(source)
    changes = scanner.scan()
    (source / "renamed").unlink()
    with TreeApplier(target, allow_devices=False, quota_bytes=MIB) as applier:
        for chunk in changes.chunks():
            applier.feed(chunk)
        applier.finish()
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=HISTORY, seed=st.integers(0, 1000))
def test_any_history_arrives_if_all_files_are_reused(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[str, str, int]],
    seed: int,
) -> None:
    monkeypatch.setattr("streamhop.content.trees.reuse.REUSE_BYTES_MIN", 1)
    base = tmp_path_factory.mktemp("history")
    source, target = base / "source", base / "target"
    source.mkdir()
    target.mkdir()
    scanner = TreeScanner(source, overlay_upper=False)
    for _ in rounds(source, steps, seed):
        apply_round(scanner, target)
        assert snapshot(target) == snapshot(source)
