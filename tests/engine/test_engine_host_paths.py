"""Directories of the host are reached through no link, wherever one is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamhop.engine.host_paths import Place, look_at, make_directory, opened_directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("full")
    os.mkfifo(tmp_path / "fifo")
    return tmp_path.resolve()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("full", Place.DIRECTORY),
        ("empty", Place.EMPTY),
        ("full/file", Place.FILE),
        ("fifo", Place.OTHER),
        ("link", Place.OTHER),
        ("other", Place.MISSING),
        ("other/below", Place.NO_PARENT),
        ("link/file", Place.NO_PARENT),
        ("full/file/below", Place.NO_PARENT),
    ],
)
def test_what_is_there_is_told(base: Path, path: str, place: Place) -> None:
    assert look_at(str(base / path)) is place


def test_a_directory_is_made_in_one_that_is_there(base: Path) -> None:
    make_directory(str(base / "empty" / "new"))
    make_directory(str(base / "empty" / "new"))
    assert look_at(str(base / "empty" / "new")) is Place.EMPTY
    with pytest.raises(FileNotFoundError):
        make_directory(str(base / "other" / "new"))


def test_nothing_is_made_or_opened_through_a_link(base: Path) -> None:
    """P12: a container that has the directory mounted can put a link there."""
    with pytest.raises(NotADirectoryError):
        make_directory(str(base / "link" / "new"))
    with pytest.raises(NotADirectoryError), opened_directory(str(base / "link")):
        pass
    assert names(base / "full") == ["file"]
