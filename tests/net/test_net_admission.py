"""Who gets a place, and who has to go for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop.net.admission import Admission, origin_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_an_origin_is_an_ipv4_address_or_an_ipv6_network(one: str, other: str, same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) is same


def test_the_oldest_of_an_origin_that_has_too_many_goes() -> None:
    places: Admission[int] = Admission(10, 2)
    assert [places.admit(member, "a") for member in range(4)] == [None, None, 0, 1]
    assert places.admit(4, "b") is None
    assert len(places) == 3


def test_where_all_places_are_taken_one_goes_of_the_origin_that_has_the_most() -> None:
    places: Admission[int] = Admission(4, 3)
    for member, origin in enumerate("baaa"):
        assert places.admit(member, origin) is None
    assert places.admit(4, "c") == 1
    assert places.admit(5, "d") == 2
    assert 0 in places  # the oldest of all, but the only one of its origin


def test_among_origins_with_as_many_the_oldest_goes() -> None:
    places: Admission[int] = Admission(2, 2)
    assert [places.admit(member, origin) for member, origin in enumerate("abc")] == [None, None, 0]


def test_a_place_that_was_left_is_free() -> None:
    places: Admission[int] = Admission(1, 1)
    places.admit(0, "a")
    places.remove(0)
    places.remove(0)
    assert places.admit(1, "b") is None


def test_there_has_to_be_a_place() -> None:
    for places in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="place"):
            Admission(*places)


@given(
    st.integers(1, 5), st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from("abc")))
)
def test_bounds_always_hold_and_the_newest_stays(
    places_max: int, per_origin_max: int, steps: list[tuple[bool, int, str]]
) -> None:
    """P11: the bookkeeping, whatever comes and goes."""
    places: Admission[int] = Admission(places_max, per_origin_max)
    origin_of_member: dict[int, str] = {}
    for coming, member, origin in steps:
        if not coming:
            places.remove(member)
            origin_of_member.pop(member, None)
        elif member not in origin_of_member:
            leaving = places.admit(member, origin)
            origin_of_member[member] = origin
            assert leaving != member
            if leaving is not None:
                del origin_of_member[leaving]
        assert len(places) == len(origin_of_member) <= places_max
        assert all(each in places for each in origin_of_member)
        for each in "abc":
            assert list(origin_of_member.values()).count(each) <= per_origin_max
