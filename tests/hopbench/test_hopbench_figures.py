"""Rows survive their file; medians and shares are what they are called."""

from __future__ import annotations

import json

import pytest
from hopbench_support import floor, row

from hopbench.figures import Row, RowsError, Sample, busy_share, decode_rows, encode_rows, figure, grouped, spread
from hopbench.scenarios import Link


def test_rows_come_back_as_they_were_written() -> None:
    rows = [
        row(link=Link(20, 50), gap_s=1.5, floor=floor(5000), bytes_by_kind={"layers": 3}, timeline=[{"phase": "dump"}]),
        row("wire", who="scp", bytes_per_s=1e8),
        row(failed="LabError: it broke"),
    ]
    assert decode_rows(encode_rows(rows, {"cores": "2"})) == (rows, {"cores": "2"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"rows": [], "machine": null}',
        '{"rows": [{"scenario": "vision"}], "machine": {}}',
        '{"rows": 1}',
    ],
)
def test_anything_else_is_no_list_of_rows(text: str) -> None:
    with pytest.raises(RowsError):
        decode_rows(text)


def test_a_row_with_fields_of_another_version_is_refused_by_name() -> None:
    value = json.loads(encode_rows([row()], {}))
    value["rows"][0]["speed"] = 1
    with pytest.raises(RowsError, match="speed"):
        decode_rows(json.dumps(value))


def test_a_spread_is_median_least_and_most() -> None:
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert found is not None
    assert (found.median, found.least, found.most, found.count) == (2.5, 1.0, 10.0, 4)
    assert str(found) == "2.5 (1 to 10)"
    assert str(spread([0.25])) == "0.25"
    assert spread([]) is None


def test_failed_rows_and_missing_figures_do_not_count() -> None:
    rows = [row(gap_s=1.0), row(gap_s=None), row(gap_s=9.0, failed="x"), row(gap_s=3.0)]
    found = figure(rows, lambda each: each.gap_s)
    assert found is not None
    assert (found.median, found.count) == (2.0, 2)


def test_repeats_are_grouped_by_scenario_link_and_mover() -> None:
    rows = [row(), row(who="podman"), row(link=Link(5, 50)), row(repeat=1)]
    assert [len(group) for group in grouped(rows).values()] == [2, 1, 1]


def test_a_request_s_own_time_is_not_downtime() -> None:
    assert row(gap_s=1.5, request_s=0.4).service_gap_s == pytest.approx(1.1)
    assert row(gap_s=0.4, request_s=0.5).service_gap_s == 0.0
    assert row(gap_s=1.5).service_gap_s is None


def samples(*rates: float) -> list[Sample]:
    """Counters of a link that carried these Mbit/s for half a second each."""
    found = [Sample(100.0, 0, 0)]
    for rate in rates:
        found.append(Sample(found[-1].at_s + 0.5, found[-1].sent + round(rate * 1e6 / 8 / 2), 0))
    return found


def test_the_busy_share_begins_with_bulk_data_and_ends_with_the_freeze() -> None:
    watched = samples(0, 0.1, 10, 10, 5, 5, 0, 0)
    assert busy_share(watched, 10e6, 103.0) == pytest.approx(0.75)
    assert busy_share(watched, 10e6, 104.0) == pytest.approx(0.5)


def test_there_is_no_share_of_what_never_began_or_was_too_short() -> None:
    assert busy_share(samples(0, 0.1, 0.1), 10e6, 200.0) is None
    assert busy_share(samples(0, 10), 10e6, 200.0) is None
    assert busy_share([], 10e6, 200.0) is None


def test_rows_are_frozen() -> None:
    with pytest.raises(AttributeError):
        row().gap_s = 1.0  # type: ignore[misc]
    assert isinstance(row(), Row)
