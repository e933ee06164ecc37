"""P1: what the sink heard shows a second copy, or one from a spent image, and nothing else does."""

from __future__ import annotations

import pytest

from faults.reports import Report, Stretch, complaints, reported_between, stretches


def heard(text: str) -> list[Report]:
    """``a1.5`` is: host a, life 1, n 5."""
    return [
        Report(at / 50, word[0], word[1 : word.index(".")], int(word.partition(".")[2]))
        for at, word in enumerate(text.split())
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a1.1 a1.2 a1.3",
        "a1.1 a1.2 a1.7",  # reports lost at the gate
        "a1.1 a1.2 b1.3 b1.4",
        "a1.1 a1.2 a2.1 a2.2",  # its host crashed
        "a1.1 b1.2 b2.1 b2.2",  # the host that it was moved to crashed
    ],
)
def test_one_copy_at_a_time(text: str) -> None:
    assert complaints(heard(text), "a") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a1.1 a1.2 b1.3 a1.4", "a reported after b had"),
        ("a1.1 a1.2 b1.3 a1.3", "a reported 3 of life 1 after 3"),
        ("a1.1 a1.2 a1.2", "a reported 2 of life 1 after 2"),
        ("a1.1 a1.9 b1.5", "b reported 5 of life 1 after 9"),
        ("a1.1 b1.2 a2.1", "a reported after b had"),
        ("a1.1 a2.1 b1.2", "life 1 reported from b after a later life had from a"),
    ],
)
def test_more_than_one_copy(text: str, found: str) -> None:
    assert found in complaints(heard(text), "a")


def test_stretches_and_spans() -> None:
    reports = heard("a1.1 a1.2 b1.3 b1.4")
    assert stretches(reports) == [Stretch("a", "1"), Stretch("b", "1")]
    assert reported_between(reports, 0.03, 1.0) == {Stretch("b", "1")}
