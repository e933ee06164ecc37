"""What failed moves leave: found again by the next one like it, bounded, expiring, and nothing else of the spool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamhop.handover.kept import LABEL, KeptContent, Label

LABEL_OF_WEB = Label("edge-a", "web", "sha256:1")


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> KeptContent:
    return KeptContent(tmp_path / "kept", seconds_max=100.0, bytes_max=1_000_000, clock=clock)


def failed_move(kept: KeptContent, spool: Path, label: Label = LABEL_OF_WEB, size: int = 5000) -> None:
    kept.begin(spool, label)
    for part in ("layers", "pages", "image", "files"):
        (spool / part).mkdir(exist_ok=True)
        (spool / part / "content").write_bytes(b"x" * size)
    (spool / "tree-0-0").write_bytes(b"x")
    kept.end(spool)


def test_what_can_be_used_again_is_in_the_next_spool(kept: KeptContent, tmp_path: Path) -> None:
    failed_move(kept, tmp_path / "spool" / "one")
    assert not (tmp_path / "spool" / "one").exists()
    again = tmp_path / "spool" / "two"
    kept.begin(again, LABEL_OF_WEB)
    assert {path.name for path in again.iterdir()} == {"layers", "pages", LABEL}
    assert (again / "pages" / "content").read_bytes() == b"x" * 5000
    assert kept.all() == []
    assert again.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("other", [Label("edge-c", "web", "sha256:1"), Label("edge-a", "web", "sha256:2")])
def test_another_container_gets_nothing_of_it(kept: KeptContent, tmp_path: Path, other: Label) -> None:
    failed_move(kept, tmp_path / "one")
    kept.begin(tmp_path / "two", other)
    assert {path.name for path in (tmp_path / "two").iterdir()} == {LABEL}


def test_what_is_given_up_is_removed(kept: KeptContent, tmp_path: Path) -> None:
    kept.begin(tmp_path / "one", LABEL_OF_WEB)
    (tmp_path / "one" / "pages").mkdir()
    kept.give_up(tmp_path / "one")
    assert list((tmp_path / "one").iterdir()) == []
    kept.end(tmp_path / "one")
    kept.end(tmp_path / "one")
    assert kept.all() == []
    assert not (tmp_path / "one").exists()


def test_it_expires_by_a_clock_of_its_own_and_an_earlier_daemons_counts_as_new(
    kept: KeptContent, tmp_path: Path, clock: Clock
) -> None:
    """P17: nobody's setting of a clock makes it older."""
    failed_move(kept, tmp_path / "one")
    clock.now = 99.0
    assert [found.expires_s for found in kept.all()] == [1.0]
    later = KeptContent(tmp_path / "kept", seconds_max=100.0, bytes_max=1_000_000, clock=clock)
    assert [found.expires_s for found in later.all()] == [100.0]
    clock.now = 100.0
    assert kept.all() == []
    assert list((tmp_path / "kept").iterdir()) == []


def test_the_oldest_goes_when_it_is_too_much(kept: KeptContent, tmp_path: Path, clock: Clock) -> None:
    for number in range(3):
        clock.now = float(number)
        failed_move(kept, tmp_path / "one", Label("edge-a", f"web{number}", ""), size=200_000)
    assert [found.label.container for found in kept.all()] == ["web1", "web2"]


def test_it_can_be_dropped(kept: KeptContent, tmp_path: Path) -> None:
    failed_move(kept, tmp_path / "one")
    assert not kept.drop("../one")
    assert kept.drop(LABEL_OF_WEB.key)
    assert kept.all() == []


def test_a_host_that_keeps_nothing_removes_it_at_once(tmp_path: Path) -> None:
    kept = KeptContent(tmp_path / "kept", seconds_max=0.0, bytes_max=1_000_000)
    failed_move(kept, tmp_path / "one")
    assert not (tmp_path / "one").exists()
    assert kept.all() == []


def test_what_is_not_labelled_as_it_is_called_is_removed(kept: KeptContent, tmp_path: Path) -> None:
    stray = tmp_path / "kept" / "stray"
    stray.mkdir(parents=True)
    (stray / LABEL).write_text(json.dumps({"peer": "edge-a", "container": "web", "image": ""}))
    assert kept.all() == []
    assert not stray.exists()
