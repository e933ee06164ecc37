"""P10: every reader, of noise and of valid inputs that were changed a little."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.target import MODULES, NAMES, load

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 1 << 16), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.integers(0, 1 << 16), st.integers(1, 64)),
        st.tuples(st.just("repeat"), st.integers(0, 1 << 16), st.integers(1, 64)),
        st.tuples(st.just("insert"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=9)),
    ),
    min_size=1,
    max_size=4,
)
"""What happens to an input, where (modulo its length), and how."""

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def changed(data: bytes, changes: list[tuple[str, int, int | bytes]]) -> bytes:
    for what, place, how in changes:
        at = place % (len(data) + 1)
        if isinstance(how, bytes):
            data = data[:at] + how + data[at:]
        elif what == "cut":
            data = data[:at] + data[at + how :]
        elif what == "repeat":
            data = data[: at + how] + data[at:]
        else:
            data = data[:at] + bytes(byte ^ how for byte in data[at : at + 1]) + data[at + 1 :]
    return data


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(data=st.data())
def test_changed_inputs_meet_nothing_but_the_readers_own_errors(name: str, data: st.DataObject) -> None:
    """P10: from each valid input, some steps away."""
    target = load(name)
    seed = data.draw(st.sampled_from(list(target.seeds())))
    target.survives(changed(seed, data.draw(CHANGES)))


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(noise=st.binary(max_size=300))
def test_noise_meets_nothing_but_the_readers_own_errors(name: str, noise: bytes) -> None:
    """P10: from nothing at all."""
    load(name).survives(noise)


def test_a_target_that_raises_anything_else_is_noticed() -> None:
    """The check of these tests: an error of another kind passes through."""
    target = load("value")
    broken = type(target)(run=lambda data: data[99] and None, seeds=tuple, allowed=target.allowed)
    with pytest.raises(IndexError):
        broken.survives(b"")


def test_every_module_has_the_targets_that_it_is_listed_with() -> None:
    """Else a target would be listed and never run."""
    for name in NAMES:
        assert list(load(name).seeds())
    assert len(NAMES) == sum(map(len, MODULES.values()))
