"""The peer book: what is trusted is kept, found, and forgotten on request; what is damaged is not guessed at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamhop.config import Address, Config, ConfigError, PinnedPeer, load
from streamhop.identity import (
    DeviceId,
    Peer,
    PeerBook,
    PeerBookError,
    UnknownPeerError,
    load_or_create,
    pinned_peers,
)
from streamhop.identity.peer_book import NAMES_TOLD_MAX, told_names


def device(directory: Path, name: str) -> Peer:
    identity = load_or_create(directory / "devices" / name)
    return Peer(name, identity.id, (Address(name), Address("fd00::1", 99)), identity.certificate.read_text())


@pytest.fixture
def book(tmp_path: Path) -> PeerBook:
    book = PeerBook(tmp_path / "peers")
    for name in ("edge-a", "edge-b"):
        book.add(device(tmp_path, name))
    return book


def test_what_is_added_is_there_after_a_restart(book: PeerBook, tmp_path: Path) -> None:
    again = PeerBook(tmp_path / "peers")
    assert list(again) == list(book)
    assert len(again) == 2
    assert (tmp_path / "peers").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "peers").iterdir()} == {0o600}
    assert again.certificates.count("BEGIN CERTIFICATE") == 2


def test_peers_are_found_by_name_id_and_the_beginning_of_it(book: PeerBook) -> None:
    peer = book.find("edge-a")
    for text in (str(peer.id), str(peer.id).lower().replace("-", ""), peer.id.short):
        assert book.find(text) == peer
    for text in ("", "edge", peer.id.short[:-1], "AAAAAAA"):
        with pytest.raises(PeerBookError):
            book.find(text)


def test_removing_and_renaming_are_kept(book: PeerBook, tmp_path: Path) -> None:
    removed = book.remove("edge-a")
    book.rename("edge-b", "garage")
    again = PeerBook(tmp_path / "peers")
    assert [peer.name for peer in again] == ["garage"]
    assert again.by_id(removed.id) is None
    assert sorted(path.name for path in (tmp_path / "peers").iterdir()) == ["garage.json"]


def test_names_are_not_given_twice(book: PeerBook, tmp_path: Path) -> None:
    with pytest.raises(PeerBookError, match="called edge-a already"):
        book.rename("edge-b", "edge-a")
    other = device(tmp_path / "other", "edge-a")
    with pytest.raises(PeerBookError, match="called edge-a already"):
        book.add(other)
    assert book.free_name("edge-a", other.id) == "edge-a-2"
    assert book.free_name("edge-a", book.find("edge-a").id) == "edge-a"
    assert len(PeerBook(tmp_path / "peers")) == 2


def test_no_peer_is_called_as_this_host_is(tmp_path: Path) -> None:
    book = PeerBook(tmp_path / "peers", own_name="edge-a")
    book.add(device(tmp_path, "edge-b"))
    with pytest.raises(PeerBookError, match="this host itself"):
        book.rename("edge-b", "edge-a")
    other = device(tmp_path, "edge-a")
    assert book.free_name("edge-a", other.id) == "edge-a-2"
    # One that was called so before keeps its name.
    PeerBook(tmp_path / "peers").add(other)
    assert PeerBook(tmp_path / "peers", own_name="edge-a").find("edge-a") == other


def test_who_is_not_found_is_told_with_those_who_are_known(book: PeerBook, tmp_path: Path) -> None:
    with pytest.raises(UnknownPeerError, match="known are edge-a, edge-b") as failure:
        book.find("edge-x")
    assert "streamhop pair" in failure.value.fix
    alone = PeerBook(tmp_path / "none", own_name="edge-a")
    with pytest.raises(UnknownPeerError, match="none is known yet") as failure:
        alone.find("edge-x")
    assert failure.value.fix.startswith("pair the two")
    with pytest.raises(UnknownPeerError, match="this host itself"):
        alone.find("edge-a")
    assert told_names(f"{number:03}" for number in range(NAMES_TOLD_MAX + 5)).endswith("019 and 5 more")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\0", "-x", "x" * 64, "a b", "\N{SNOWMAN}"])
def test_a_name_cannot_leave_the_directory(book: PeerBook, name: str) -> None:
    with pytest.raises(PeerBookError, match="no name"):
        book.rename("edge-a", name)


@pytest.mark.parametrize(
    "change",
    [
        {"id": str(DeviceId(b"x" * 32))},
        {"id": "nonsense"},
        {"name": "other"},
        {"certificate": "nonsense"},
        {"addresses": ["[x"]},
        {"addresses": None},
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(book: PeerBook, tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "peers" / "edge-a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PeerBookError, match=r"edge-a\.json is damaged"):
        PeerBook(tmp_path / "peers")


def test_peers_of_the_configuration_come_first_and_stay(book: PeerBook, tmp_path: Path) -> None:
    identity = load_or_create(tmp_path / "devices" / "edge-a")
    text = f"""
    [peers]
    edge-b = "10.0.0.2"
    [peers.first]
    address = "10.0.0.1"
    id = "{identity.id}"
    certificate = "{identity.certificate}"
    """
    path = tmp_path / "config.toml"
    path.write_text(text)
    config = load(path, {}, {})
    assert config.peers == {"edge-b": Address("10.0.0.2"), "first": Address("10.0.0.1")}
    managed = PeerBook(tmp_path / "peers", pinned_peers(config))
    assert sorted(peer.name for peer in managed) == ["edge-b", "first"]
    for change in (lambda: managed.remove("first"), lambda: managed.rename("first", "x")):
        with pytest.raises(PeerBookError, match="in the configuration"):
            change()


def test_a_pinned_certificate_must_be_the_devices(tmp_path: Path) -> None:
    identity = load_or_create(tmp_path / "a")
    wrong = DeviceId(b"x" * 32)
    for pinned, says in (
        (PinnedPeer(str(wrong), identity.certificate), "another device"),
        (PinnedPeer("nonsense", identity.certificate), "letters and digits"),
        (PinnedPeer(str(identity.id), tmp_path / "absent"), "No such file"),
    ):
        with pytest.raises(PeerBookError, match=says):
            pinned_peers(Config(pinned={"edge-a": pinned}))


@pytest.mark.parametrize(
    "entry", ['id = "x"', 'certificate = "x"', 'id = "x"\ncertificate = 1', 'id = "x"\ncert = "y"']
)
def test_half_a_pin_is_an_error(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[peers.edge-a]\n{entry}\n")
    with pytest.raises(ConfigError, match="must have id, certificate"):
        load(path, {}, {})


def test_a_name_cannot_be_a_device_id(book: PeerBook, tmp_path: Path) -> None:
    """The journal names peers by their IDs: whoever is called so would be asked about another's moves."""
    peer = book.find("edge-a")
    other = device(tmp_path, "edge-c")
    for name in (str(peer.id), str(peer.id).lower(), str(DeviceId(b"x" * 32))):
        with pytest.raises(PeerBookError, match="device ID"):
            book.rename("edge-b", name)
        with pytest.raises(PeerBookError, match="device ID"):
            Peer(name, other.id, (), other.certificate)
        assert book.free_name(name, other.id) == f"peer-{other.id.short}"
    assert book.free_name(peer.id.short.lower(), other.id) == f"peer-{other.id.short}"
    assert book.free_name(peer.id.short, peer.id) == peer.id.short


def test_a_whole_id_is_that_device_or_nobody(book: PeerBook) -> None:
    peer = book.find("edge-a")
    # As a file of an earlier version may have it.
    book._peers[str(peer.id)] = book.find("edge-b")
    assert book.find(str(peer.id)) == peer
    book.remove(str(peer.id))
    with pytest.raises(PeerBookError, match="not a peer"):
        book.find(str(peer.id))


def test_a_name_that_is_the_beginning_of_anothers_id_is_nobody(book: PeerBook) -> None:
    peer = book.find("edge-a")
    with pytest.raises(PeerBookError, match="beginning of another peer's ID"):
        book.rename("edge-b", peer.id.short)
    # As a file of an earlier version may have it.
    book._peers[peer.id.short] = book._peers.pop("edge-b")
    with pytest.raises(PeerBookError, match="the beginning of another's ID"):
        book.find(peer.id.short)
    assert book.find(str(peer.id)) == peer
    book.rename("edge-a", "garage")
    book.remove("garage")
    assert book.find(peer.id.short).id != peer.id
