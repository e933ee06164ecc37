"""The report shows every row and verdict, and its charts are well-formed and whole."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hopbench_support import floor, row

from hopbench.charts import Series, decades, line_chart, stacked_bars, timeline
from hopbench.figures import Row
from hopbench.judging import judge
from hopbench.report import chart_of_gaps, html, markdown
from hopbench.scenarios import PODMAN, Link

ROWS = [
    *(
        row(
            link=Link(mbit, 50),
            gap_s=10 / mbit,
            request_s=0.1,
            total_s=100 / mbit,
            bytes_by_kind={"layers": 1_000_000, "memory_final": 2_000_000},
            timeline=[
                {"phase": "pre-copy", "at_s": 0.5, "seconds": 3.0},
                {"phase": "freeze", "at_s": 3.5, "seconds": 0.1},
            ],
            floor=floor(1_000_000),
        )
        for mbit in (5, 20)
    ),
    row("redis-write-4", Link(20, 50), PODMAN, failed="LabError: <it> | broke\nin two"),
    row("wire", who="scp", bytes_per_s=2.5e8),
]
MACHINE = {"cores": "2", "processor": "a <b> & c"}


def charts(page: str) -> list[ET.Element]:
    """All charts of a page, parsed."""
    return [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]  # noqa: S314 - ours


def test_the_table_has_a_line_for_each_group_and_escapes_what_it_is_told() -> None:
    text = markdown(ROWS, judge(ROWS), MACHINE)
    lines = text.splitlines()
    assert sum(line.startswith("| vision | ") for line in lines) == 2
    assert any("1, 1 failed" in line for line in lines)
    assert "- redis-write-4, 20 Mbit/s, 50 ms, podman: LabError: <it> | broke in two" in lines
    assert "| unshaped | scp | 250 |  |" in lines
    widths = {line.count("|") - line.count("\\|") for line in lines if line.startswith("| vision")}
    assert len(widths) == 1
    for verdict in judge(ROWS):
        assert verdict.id in text


def test_a_page_has_its_charts_inside_and_needs_nothing_else() -> None:
    page = html(ROWS, judge(ROWS), MACHINE)
    titles = [chart.attrib["aria-label"] for chart in charts(page)]
    assert titles == [
        "vision: longest gap against bandwidth",
        "vision: total against bandwidth",
        "bytes on the wire by kind",
        "one move: vision at 5 Mbit/s, 50 ms",
        "one move: vision at 5 Mbit/s, 50 ms, while frozen",
    ]
    assert "a &lt;b&gt; &amp; c" in page
    assert "&lt;it&gt;" in page
    assert not re.search(r'(?:src|href)="', page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_the_paper_s_figures_are_drawn_beside_ours() -> None:
    first = charts(html(ROWS, [], MACHINE))[0]
    told = [element.text for element in first.iter() if element.tag.endswith("title")]
    assert "the paper's downtime: 5, 48.1" in told
    assert "streamhop: 20, 0.5" in told


def test_the_chart_of_vision_stands_alone() -> None:
    assert ET.fromstring(chart_of_gaps(ROWS)).attrib["aria-label"].startswith("vision: longest gap")  # noqa: S314 - ours
    assert chart_of_gaps([]) == ""


@pytest.mark.parametrize("rows", [[], [row(failed="x")]])
def test_nothing_to_show_is_a_page_all_the_same(rows: list[Row]) -> None:
    assert charts(html(rows, judge(rows), {})) == []
    assert "# Bench" in markdown(rows, judge(rows), {})


def places(chart: str, tag: str, name: str) -> list[float]:
    """One attribute of all elements of a kind."""
    tree = ET.fromstring(chart)  # noqa: S314 - ours
    return [float(element.attrib[name]) for element in tree.iter() if element.tag.endswith(tag)]


def test_a_decade_is_as_long_as_another() -> None:
    chart = line_chart("t", [Series("a", ((1, 1), (10, 10), (100, 100)))], "x", "y")
    xs, ys = places(chart, "circle", "cx"), places(chart, "circle", "cy")
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert ys[0] > ys[2]


def test_parts_of_a_bar_are_as_long_as_they_are_large() -> None:
    chart = stacked_bars("t", [("one", {"a": 1.0, "b": 3.0}), ("two", {"a": 2.0})], "MB")
    widths = places(chart, "rect", "width")[2:]  # behind the legend
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.3)
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.3)


def test_phases_follow_each_other() -> None:
    chart = timeline("t", [("dump", 0.0, 1.0), ("restore", 1.0, 3.0)])
    (x1, x2), (w1, w2) = places(chart, "rect", "x"), places(chart, "rect", "width")
    assert x2 == pytest.approx(x1 + w1, abs=0.2)
    assert w2 == pytest.approx(3 * w1, abs=0.3)


def test_there_is_no_chart_of_nothing() -> None:
    assert line_chart("t", [Series("a", ())], "x", "y") == ""
    assert stacked_bars("t", [("one", {"a": 0.0})], "MB") == ""
    assert timeline("t", []) == ""


def test_ticks_are_few_and_inside() -> None:
    assert decades(0.4, 12) == [0.5, 1.0, 2.0, 5.0, 10.0]
    assert decades(0.001, 1000) == [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
