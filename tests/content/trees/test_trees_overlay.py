"""An overlay's upper directory, applied through another overlay over the same image."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees_support import HISTORY, apply_round, rounds, snapshot

from streamhop.content.trees import TreeScanner, UnsupportedTree

pytestmark = pytest.mark.root


@contextmanager
def overlay(base: Path, lower: Path, options: str = "") -> Iterator[Path]:
    """A mounted overlay; its upper directory is ``base/upper``."""
    for name in ("upper", "work", "merged"):
        (base / name).mkdir(parents=True)
    where = f"lowerdir={lower},upperdir={base / 'upper'},workdir={base / 'work'}{options}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", where, base / "merged"], check=True)
    try:
        yield base / "merged"
    finally:
        subprocess.run(["umount", base / "merged"], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    lower = tmp_path / "image"
    for name in ("etc", "var/lib/app/data", "a/b/c", "b/a", "usr/bin"):
        (lower / name).mkdir(parents=True)
    for name in ("etc/passwd", "var/lib/app/data/1", "var/lib/app/data/2", "a/b/c/a", "a/b/b", "b/a/c", "usr/bin/tool"):
        (lower / name).write_text(f"of the image: {name}")
    os.link(lower / "usr/bin/tool", lower / "usr/bin/alias")
    (lower / "c").symlink_to("a/b")
    return lower


@pytest.fixture
def merged(tmp_path: Path, image: Path) -> Iterator[tuple[Path, Path]]:
    """The source's and the target's mounted overlay."""
    with overlay(tmp_path / "source", image) as source, overlay(tmp_path / "target", image) as target:
        yield source, target


def scanner_of(merged: Path) -> TreeScanner:
    return TreeScanner(merged.parent / "upper", overlay_upper=True)


def remove_file(root: Path) -> None:
    (root / "etc/passwd").unlink()
    (root / "var/lib/app/data/1").unlink()


def remove_tree(root: Path) -> None:
    subprocess.run(["rm", "-r", root / "var/lib", root / "a"], check=True)


def replace_tree(root: Path) -> None:
    remove_tree(root)
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/new").write_text("nothing of the image shines through")


def replace_by_file(root: Path) -> None:
    remove_tree(root)
    (root / "a").write_text("a file now")
    (root / "c").unlink()
    (root / "c").mkdir()


def change_copied_up(root: Path) -> None:
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "etc/passwd").write_text("changed")
    os.setxattr(root / "etc", "user.note", b"x")


def make_and_remove(root: Path) -> None:
    (root / "etc/temporary").write_text("x")
    (root / "etc/temporary").unlink()
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").write_text("made anew")


def replace_new(root: Path) -> None:
    """Below a directory that the image lacks nothing needs to be opaque."""
    (root / "new/dir").mkdir(parents=True, exist_ok=True)
    (root / "new/dir").rename(root / "new/elsewhere")
    (root / "new/dir").mkdir()
    (root / "new/dir/2").touch()


CHANGES = [replace_new, remove_file, remove_tree, replace_tree, replace_by_file, change_copied_up, make_and_remove]


@pytest.mark.parametrize("change", CHANGES)
def test_the_first_round_brings_it(merged: tuple[Path, Path], change: Callable[[Path], None]) -> None:
    source, target = merged
    change(source)
    apply_round(scanner_of(source), target)
    assert snapshot(target) == snapshot(source)


@pytest.mark.parametrize("change", CHANGES)
def test_a_later_round_brings_it(merged: tuple[Path, Path], change: Callable[[Path], None]) -> None:
    source, target = merged
    scanner = scanner_of(source)
    (source / "a/b/c/upper").write_text("x")
    (source / "new/dir").mkdir(parents=True)
    (source / "new/dir/1").touch()
    (source / "var/lib/app/data/1").write_text("x")
    (source / "var/lib/app/data/3").write_text("x")
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)
    change(source)
    apply_round(scanner, target)
    assert snapshot(target) == snapshot(source)


def test_the_target_keeps_no_notes_of_the_source(merged: tuple[Path, Path]) -> None:
    source, target = merged
    replace_tree(source)
    os.setxattr(source, "user.kept", b"1")
    changes = scanner_of(source).scan()
    content = b"".join(changes.chunks())
    assert b"user.kept" in content
    assert b"overlay" not in content
    assert (source.parent / "upper/a").is_dir()
    assert os.getxattr(source.parent / "upper/a", "trusted.overlay.opaque") == b"y"
    apply_round(scanner_of(source), target)
    assert not (target / "var/lib").exists()


def test_a_whiteout_is_sent_once(merged: tuple[Path, Path]) -> None:
    source, target = merged
    scanner = scanner_of(source)
    remove_file(source)
    apply_round(scanner, target)
    (source / "var/lib/app/data/2").unlink()
    content = b"".join(scanner.scan().chunks())
    assert b"data/2" in content
    assert b"passwd" not in content


def test_a_whiteout_that_is_an_attribute_removes_too(merged: tuple[Path, Path]) -> None:
    source, target = merged
    etc = source.parent / "upper/etc"
    etc.mkdir()
    (etc / "passwd").touch()
    os.setxattr(etc / "passwd", "trusted.overlay.whiteout", b"y")
    apply_round(scanner_of(source), target)
    assert not (target / "etc/passwd").exists()
    assert (target / "etc").exists()


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (",redirect_dir=on", lambda root: (root / "var").rename(root / "moved")),
        (",metacopy=on", lambda root: (root / "etc/passwd").chmod(0o600)),
    ],
)
def test_layers_that_depend_on_lower_names_are_unsupported(
    tmp_path: Path, image: Path, options: str, change: Callable[[Path], None]
) -> None:
    with overlay(tmp_path / "source", image, options) as source:
        change(source)
        with pytest.raises(UnsupportedTree, match=r"trusted\.overlay\.(redirect|metacopy)"):
            list(scanner_of(source).scan().chunks())


@pytest.mark.parametrize("name", ["etc/large.1", "moved/large"])
def test_a_renamed_file_is_not_sent_again(merged: tuple[Path, Path], name: str) -> None:
    source, target = merged
    (source / "etc/large").write_bytes(os.urandom(1 << 20))
    scanner = scanner_of(source)
    assert apply_round(scanner, target) > 1 << 20
    (source / "moved").mkdir()
    (source / "etc/large").rename(source / name)
    assert apply_round(scanner, target) < 32 << 10
    assert snapshot(target) == snapshot(source)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=HISTORY, seed=st.integers(0, 1000))
def test_any_history_of_a_layer_arrives(
    tmp_path_factory: pytest.TempPathFactory, image: Path, steps: list[tuple[str, str, int]], seed: int
) -> None:
    base = tmp_path_factory.mktemp("history")
    with overlay(base / "source", image) as source, overlay(base / "target", image) as target:
        scanner = scanner_of(source)
        for _ in rounds(source, steps, seed):
            apply_round(scanner, target)
            assert snapshot(target) == snapshot(source)
