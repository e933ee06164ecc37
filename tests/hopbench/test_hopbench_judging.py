"""Each promise holds at its limit, fails beyond it, and is not judged where nothing was measured."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hopbench_support import floor, row

from hopbench.figures import Row
from hopbench.judging import Verdict, encode_verdicts, judge
from hopbench.scenarios import PODMAN, RSYNC, STREAMHOP, Link

SLOW = Link(20, 50)


def verdict(rows: Sequence[Row], name: str) -> Verdict:
    """The one of that name."""
    (found,) = [each for each in judge(rows) if each.id == name]
    return found


def test_nothing_measured_is_nothing_judged() -> None:
    assert judge([]) == []
    assert judge([row(who=PODMAN, gap_s=1.0, request_s=0.1, link=SLOW)]) == []


@pytest.mark.parametrize(("gap_s", "holds"), [(1.6, True), (1.65, False)])
def test_vision_may_take_half_a_second_and_a_tenth_more_than_the_floor(gap_s: float, *, holds: bool) -> None:
    """2.5 MB at 20 Mbit/s are 1 s: 0.5 + 1.1, beyond the request's own 0.02 s."""
    found = verdict(
        [row(link=SLOW, gap_s=gap_s + 0.02, request_s=0.02, floor=floor(2_500_000))], "1-vision-floor-20mbit"
    )
    assert (found.limit, found.holds, found.figure) == (1.6, holds, pytest.approx(gap_s))


def test_vision_has_limits_of_its_own_on_fast_links() -> None:
    rows = [row(link=Link(500, 6), gap_s=1.2, request_s=0.1)]
    assert verdict(rows, "1-vision-500mbit") == Verdict("1-vision-500mbit", 1.1, 1.0, "s", holds=False)


def test_without_requests_a_tenth_of_the_paper_s_downtime_is_left() -> None:
    rows = [row("vision-quiet", Link(5, 50), gap_s=4.8, request_s=0.0)]
    assert verdict(rows, "1-vision-quiet-5mbit") == Verdict("1-vision-quiet-5mbit", 4.8, 4.81, "s", holds=True)


def test_busybox_has_one_limit_on_every_link() -> None:
    rows = [
        row("busybox", Link(5, 50), gap_s=0.7, request_s=0.05),
        row("busybox", Link(500, 6), gap_s=0.5, request_s=0),
    ]
    assert [each.holds for each in judge(rows)] == [False, True]


def test_rivals_are_compared_in_gap_and_bytes() -> None:
    rows = [
        row("redis-write-4", SLOW, gap_s=3.0, wire_bytes=120),
        row("redis-write-4", SLOW, PODMAN, gap_s=40.0, wire_bytes=100),
        row("redis-write-4", SLOW, RSYNC, gap_s=10.0, wire_bytes=90),
        row("redis-write-4", Link(100, 50), RSYNC, gap_s=0.1),
    ]
    found = {each.id.rpartition("mbit-")[2]: (each.figure, each.holds) for each in judge(rows)}
    assert found == {
        "gap-to-podman": (0.075, True),
        "gap-to-checkpoint-rsync": (0.3, False),
        "bytes-to-podman": (1.2, True),
    }


def test_a_rival_that_failed_is_no_comparison() -> None:
    rows = [
        row("redis-write-4", SLOW, gap_s=3.0, wire_bytes=1),
        row("redis-write-4", SLOW, PODMAN, failed="x", gap_s=40.0),
    ]
    assert judge(rows) == []


def test_a_move_that_failed_does_not_hold() -> None:
    found = verdict([row("busybox", SLOW, failed="x")], "1-busybox-20mbit")
    assert (found.figure, found.holds) == (None, False)
    assert "no figure" in found.line()


@pytest.mark.parametrize(("busy", "holds"), [(0.95, True), (0.949, False)])
def test_pre_copy_keeps_the_link_busy(busy: float, *, holds: bool) -> None:
    assert verdict([row(link=SLOW, link_busy=busy)], "3-link-busy-vision-20mbit").holds is holds
    assert not [each for each in judge([row(link=Link(500, 6), link_busy=busy)]) if each.id.startswith("3-")]


@pytest.mark.parametrize(("sent", "holds"), [(1150, True), (1151, False)])
def test_final_bytes_are_little_more_than_what_changed(sent: int, *, holds: bool) -> None:
    rows = [row(link=SLOW, bytes_by_kind={"memory_final": sent}, floor=floor(1000))]
    assert verdict(rows, "4-final-bytes-vision-20mbit").holds is holds


def test_clean_memory_costs_little_and_grows_slowly() -> None:
    rows = [row("idle-64m", gap_s=0.29), row("idle-256m", gap_s=5.0), row("idle-1g", gap_s=1.29)]
    assert verdict(rows, "5-idle-64m").holds
    found = verdict(rows, "5-idle-growth-to-1024m")
    assert found.figure == pytest.approx(1.0667, abs=1e-4)
    assert not found.holds
    assert [each.id for each in judge(rows[:1])] == ["5-idle-64m"]


def test_sessions_are_compared_with_plain_tools() -> None:
    speeds = {"session": 4e9, "session-held": 3.9e9, "iperf3": 8e9, "session-tls": 3e8, "scp": 2.1e8}
    rows = [row("wire", who=who, bytes_per_s=speed) for who, speed in speeds.items()]
    assert [(each.id, each.holds) for each in judge(rows)] == [
        ("6-session-to-iperf3", True),
        ("6-session-held-to-iperf3", False),
        ("6-session-tls-to-scp", False),
    ]
    assert ">=" in judge(rows)[0].line()


def test_nine_of_ten_predictions_are_within_a_quarter() -> None:
    good = [row("postgres", predicted_s=0.75, downtime_s=1.0) for _ in range(9)]
    bad = [row("postgres", predicted_s=0.74, downtime_s=1.0)]
    name = "7-prediction-within-25-percent"
    assert verdict([*good, *bad], name).holds
    assert not verdict([*good[:8], *bad], name).holds


def test_repeats_are_judged_by_their_median() -> None:
    rows = [row("busybox", SLOW, gap_s=gap, request_s=0, repeat=turn) for turn, gap in enumerate((0.5, 0.55, 3.0))]
    assert verdict(rows, "1-busybox-20mbit").figure == 0.55


def test_what_is_written_has_the_five_keys() -> None:
    (found,) = encode_verdicts(judge([row("busybox", SLOW, gap_s=0.5, request_s=0)]))
    assert found == {"id": "1-busybox-20mbit", "figure": 0.5, "limit": 0.6, "unit": "s", "holds": True}
    assert STREAMHOP not in found["id"]


def test_the_loops_are_judged_while_a_gigabyte_moves() -> None:
    rows = [row("idle-1g", source_lag_ms=20.0, target_lag_ms=21.0), row("idle-64m", source_lag_ms=50.0)]
    found = {each.id: each.holds for each in judge(rows) if each.id.startswith("8-")}
    assert found == {"8-loop-lag-source-idle-1g-unshaped": True, "8-loop-lag-target-idle-1g-unshaped": False}
