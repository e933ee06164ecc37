"""Entries of the cache appear whole or not at all, and are made once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hoplab.cache import Cache, recipe_key


def _silent(_text: str) -> None:
    pass


def test_the_key_depends_on_the_content_alone() -> None:
    assert recipe_key({"a": 1, "b": [1, 2]}) == recipe_key({"b": [1, 2], "a": 1})
    assert recipe_key({"a": 1}) != recipe_key({"a": 2})


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []
    told: list[str] = []

    def make(target: Path) -> None:
        made.append(target)
        (target / "file").write_text("x")

    cache = Cache(tmp_path / "cache", told.append)
    first = cache.get("root", "k1", make, "a root")
    assert cache.get("root", "k1", make, "a root") == first
    assert cache.get("root", "k2", make, "a root") != first
    assert (first / "file").read_text() == "x"
    assert len(made) == 2
    assert told == ["making a root"] * 2


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(target: Path) -> None:
        (target / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Cache(tmp_path, _silent).get("root", "k", fail, "a root")
    assert [path.name for path in tmp_path.iterdir()] == [".root.lock"]


def test_what_a_crash_left_is_removed_and_not_taken_for_an_entry(tmp_path: Path) -> None:
    stale = tmp_path / ".making-root-k"
    stale.mkdir()
    (stale / "half").write_text("x")
    found = Cache(tmp_path, _silent).get("root", "k", lambda to: to.joinpath("whole").touch(), "a root")
    assert [path.name for path in found.iterdir()] == ["whole"]
    assert not stale.exists()


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    made: list[Path] = []
    inside, go_on = threading.Event(), threading.Event()

    def make(target: Path) -> None:
        made.append(target)
        inside.set()
        assert go_on.wait(10)

    found: list[Path] = []

    def get() -> None:
        found.append(Cache(tmp_path, _silent).get("root", "k", make, "a root"))

    threads = [threading.Thread(target=get) for _ in range(2)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1
    assert found == [tmp_path / "root-k"] * 2
