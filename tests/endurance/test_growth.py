"""What counts as growth: all that is not named may not grow, what is named within its bounds."""

from __future__ import annotations

import pytest

from endurance.back_and_forth import Endurance
from endurance.growth import JOURNAL_BYTES_MAX, TOLERANCES, Tolerance, growths


def grown(early: dict[str, int], late: dict[str, int], moves: int = 10) -> list[str]:
    return [growth.gauge for growth in growths(early, late, moves)]


def test_what_is_not_named_may_shrink_and_may_not_grow() -> None:
    assert grown({"mounts": 25, "zombies": 1}, {"mounts": 25, "zombies": 0}) == []
    assert grown({"mounts": 25, "zombies": 0}, {"mounts": 26, "zombies": 1}) == ["mounts", "zombies"]


def test_what_appears_is_growth() -> None:
    assert grown({}, {"namespaces.time": 1}) == ["namespaces.time"]


@pytest.mark.parametrize("gauge", sorted(TOLERANCES))
def test_what_is_named_may_grow_by_so_much_and_no_more(gauge: str) -> None:
    tolerance = TOLERANCES[gauge]
    most = 100 + tolerance.by + 10 * tolerance.a_move
    assert grown({gauge: 100}, {gauge: most}) == []
    assert grown({gauge: 100}, {gauge: most + 1}) == [gauge]


def test_what_grows_with_the_moves_has_an_end() -> None:
    assert Tolerance(0, a_move=10, at_most=50).permits(0, 50, moves=100)
    assert not Tolerance(0, a_move=10, at_most=50).permits(0, 51, moves=100)
    assert grown({"journal.bytes": 0}, {"journal.bytes": JOURNAL_BYTES_MAX + 1}, moves=10**6) == ["journal.bytes"]


def endurance(late: int, lost: int = 0) -> Endurance:
    run = Endurance(moves=10, early_at=2, seconds=[1.0], downtimes_s=[0.5])
    run.course = {2: {"edge-a": {"mounts": 25}}, 10: {"edge-a": {"mounts": late}}}
    run.client = {"lost": lost, "acknowledged": 7, "longest_gap_s": 0.6}
    return run


def test_a_run_holds_only_if_nothing_grew_and_nothing_was_lost() -> None:
    assert endurance(late=25).holds
    assert not endurance(late=25, lost=1).holds
    growing = endurance(late=26)
    assert not growing.holds
    assert growing.as_json()["grown"] == ["edge-a: mounts: 25 earlier, 26 now"]
