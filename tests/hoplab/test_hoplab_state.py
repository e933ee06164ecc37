"""What a lab remembers, and whose names are allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoplab.errors import LabError, UsageError
from hoplab.processes import ProcessId
from hoplab.settings import Settings, check_host_name, check_lab_name, netns_prefix
from hoplab.state import HostState, LabState, LinkState, Measured, Store, decode, encode


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Settings(tmp_path / "cache", tmp_path / "run", tmp_path / "data", None))


def test_what_is_written_is_read() -> None:
    state = LabState("demo", 3, True, root="/r", site="/s", ready=True)
    state.hosts = [HostState("a", 1, "10.103.0.1", True, "classic", {"/x": 5}, ProcessId(7, 99))]
    state.hosts += [HostState("b", 2, "10.103.0.2", False, "classic")]
    state.links = [
        LinkState("a", "b", 20_000_000, 0.05, 0.01, False, "relay", ProcessId(8, 100), Measured(1.9e7, 0.05))
    ]
    assert decode(encode(state)) == state


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"hosts": [{}], "links": []}', '{"hosts": [], "links": [], "x": 1}'])
def test_what_is_no_state(text: str) -> None:
    with pytest.raises(LabError):
        decode(text)


def test_labs_get_ranges_of_their_own(store: Store) -> None:
    networks = {store.create(name, segment=False).network for name in ("one", "two", "three")}
    assert len(networks) == 3
    assert store.names() == ["one", "three", "two"]


def test_a_name_is_taken_once(store: Store) -> None:
    store.create("one", segment=False)
    with pytest.raises(UsageError, match="hoplab down --lab one"):
        store.create("one", segment=False)


def test_a_lab_that_is_not_there(store: Store) -> None:
    with pytest.raises(UsageError, match="there is no lab 'two'"):
        store.load("two")
    with pytest.raises(UsageError, match="there is no lab 'two'"), store.edit("two"):
        pass


def test_an_edit_that_fails_is_not_saved(store: Store) -> None:
    store.create("one", segment=False)

    def fail(state: LabState) -> None:
        state.ready = True
        raise RuntimeError

    with pytest.raises(RuntimeError), store.edit("one") as state:
        fail(state)
    assert not store.load("one").ready
    with store.edit("one") as state:
        state.ready = True
    assert store.load("one").ready


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "../x", "a" * 25, "a b"])
def test_what_cannot_name_a_lab(name: str) -> None:
    with pytest.raises(UsageError):
        check_lab_name(name)


@pytest.mark.parametrize("name", ["", "1a", "segment", "localhost", "a.b", "a/b", "a" * 33])
def test_what_cannot_name_a_host(name: str) -> None:
    with pytest.raises(UsageError):
        check_host_name(name)


def test_no_lab_owns_what_another_ones_name_begins() -> None:
    assert not netns_prefix("demo-2").startswith(netns_prefix("demo"))
