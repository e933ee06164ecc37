"""Versions as programs and distributions write them, in order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop.engine.versions import Version, version_of

IN_ORDER = ["1.2.8", "1.3.0-rc.1", "1.3.0", "1.3.6", "1.4.0-rc.2", "1.4.0-rc.3", "1.4.0", "1.4.0.1", "1.10.0"]


def version(text: str) -> Version:
    found = version_of(text)
    assert found is not None
    return found


def test_they_are_put_in_order() -> None:
    for earlier, later in itertools.pairwise(IN_ORDER):
        assert version(earlier) < version(later), (earlier, later)


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("28.5.2+dfsg4", "28.5.2"),
        ("28.5.2+dfsg4-1+b1", "28.5.2"),
        ("1.3.6+ds1-2", "1.3.6"),
        ("1.1.5+ds1-1+deb12u1", "1.1.5"),
        ("1.6.20~ds1-1+deb12u3", "1.6.20"),
        ("5:29.5.1-1~ubuntu.24.04~noble", "29.5.1"),
        ("1.1.7-0ubuntu1~22.04.2", "1.1.7"),
        ("4.2.1-1~bpo13+1", "4.2.1"),
        ("v2.1.9", "2.1.9"),
        ("4.2.0", "4.2"),
        ("6.18.44-generic", "6.18.44"),
        ("6.12.43+deb13-amd64", "6.12.43"),
        ("runc version 1.3.6+ds1\ncommit: 1.3.6+ds1-2\nspec: 1.2.1", "1.3.6"),
        ("Version: 4.2\nGitID: v4.2", "4.2"),
        ("1.4.0~rc3", "1.4.0-rc.3"),
        ("1.4.0~rc.3+ds1", "1.4.0-rc.3"),
        ("2.1.0-beta.1", "2.1.0~beta1"),
    ],
)
def test_what_a_distribution_adds_makes_no_difference(text: str, same_as: str) -> None:
    assert version(text) == version(same_as)


def test_it_is_told_as_it_was_written() -> None:
    assert str(version("runc version 1.3.6+ds1\ncommit")) == "1.3.6+ds1"


@pytest.mark.parametrize("text", ["", "dev", "7", "unknown", "\u0661.\u0662"])
def test_what_is_no_version_is_none(text: str) -> None:
    assert version_of(text) is None


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_two_texts_compare(one: str, other: str) -> None:
    first, second = version_of(one), version_of(other)
    if first is not None and second is not None:
        assert (first < second) + (first == second) + (first > second) == 1
