"""What is run: every scenario the bench has, on the paper's links, with rivals where they are asked for."""

from __future__ import annotations

import pytest

from hopbench.scenarios import (
    BY_NAME,
    PAPER_LINKS,
    PEERS,
    PODMAN,
    QUICK,
    SCENARIOS,
    STREAMHOP,
    ChoiceError,
    Family,
    Link,
    plan,
)


def test_all_scenarios_are_planned_and_each_name_is_there_once() -> None:
    assert len(BY_NAME) == len(SCENARIOS)
    planned = plan([], [], 1)
    assert {run.scenario.name for run in planned} == set(BY_NAME)
    assert {run.who for run in planned} == {STREAMHOP}
    assert [run.link for run in planned if run.scenario.name == "vision"] == list(PAPER_LINKS)


def test_rivals_run_right_after_streamhop_on_the_same_link() -> None:
    planned = plan(["redis-write-4"], PEERS, 2)
    assert [(run.link.mbit_per_s, run.repeat, run.who) for run in planned[:8]] == [
        (20, turn, who) for turn in (0, 1) for who in (STREAMHOP, *PEERS)
    ]
    assert {run.who for run in plan(["redis-write-16"], PEERS, 1)} == {STREAMHOP}


def test_a_family_names_all_its_scenarios_and_a_scenario_only_itself() -> None:
    assert {run.scenario.name for run in plan(["idle"], [], 1)} == {"idle-64m", "idle-256m", "idle-1g", "idle-4g"}
    assert {run.scenario.name for run in plan(["vision"], [], 1)} == {"vision"}


def test_quick_is_a_part_of_the_whole_and_touches_every_family_that_is_judged() -> None:
    whole = {(run.scenario.name, run.link, run.who) for run in plan([], PEERS, 1)}
    quick = {(run.scenario.name, run.link, run.who) for run in plan([], PEERS, 1, quick=True)}
    assert quick < whole
    assert {BY_NAME[name].family for name, _, _ in QUICK} == set(Family) - {Family.POSTGRES}
    assert {run.who for run in plan(["redis-write-4"], [PODMAN], 1, quick=True)} == {STREAMHOP, PODMAN}


@pytest.mark.parametrize(("names", "peers"), [(["visoin"], []), (["vision"], ["podmna"])])
def test_what_does_not_exist_is_refused(names: list[str], peers: list[str]) -> None:
    with pytest.raises(ChoiceError, match=(names + peers)[-1]):
        plan(names, peers, 1)


def test_links_are_told_as_people_say_them() -> None:
    assert str(Link(20, 50)) == "20 Mbit/s, 50 ms"
    assert str(Link()) == "unshaped"
    assert (Link(4.5, 6).bit_per_s, Link(4.5, 6).rtt_s) == (4_500_000, 0.006)
