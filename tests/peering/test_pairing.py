"""Two daemons that do not know each other are paired by a token; nobody else gets in by one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

import streamhop
from streamhop.config import Address, Config
from streamhop.handover.failures import as_move_error
from streamhop.identity import DeviceId, PairingToken, Peer, PeerBook, PeerBookError, load_or_create
from streamhop.net import Listener, NetConfig, PeerSession, UntrustedError, serve
from streamhop.peering import NoAddressError, NotPairedError, Pairing, PairingError, PeerDirectory

DEADLINE_S = 20.0


class Daemon:
    """One host: identity, peer book, pairing, and a listener on loopback."""

    def __init__(self, directory: Path, name: str) -> None:
        self.config = Config(name=name, state_dir=directory / name)
        self.identity = load_or_create(self.config.state_dir / "identity")
        self.book = PeerBook(self.config.state_dir / "peers", own_name=name)
        self.directory = PeerDirectory(self.config, self.identity, self.book)
        self.now = 0.0
        self.sessions: asyncio.Queue[PeerSession] = asyncio.Queue()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        security = self.directory.listening()
        assert security is not None
        security = replace(security, guests=lambda: self.pairing.serve if self.pairing.inviting else None)

        async def on_session(session: PeerSession) -> None:
            self.sessions.put_nowait(session)
            await session.wait_closed()

        listener = await serve(
            "127.0.0.1", 0, NetConfig(), name=self.config.name, on_session=on_session, security=security
        )
        addresses = (Address("127.0.0.1", listener.port),)
        self.pairing = Pairing(self.directory, self.identity, self.config.name, addresses, lambda: self.now)
        self.directory.on_unpaired = listener.end_sessions_of
        async with asyncio.timeout(DEADLINE_S), listener:
            yield listener


@pytest.fixture
async def a(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(tmp_path, "edge-a")
    async with daemon.listening():
        yield daemon


@pytest.fixture
async def b(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(tmp_path, "edge-b")
    async with daemon.listening():
        yield daemon


async def paired(a: Daemon, b: Daemon) -> None:
    await b.pairing.accept(a.pairing.invite(60))


async def test_a_token_pairs_both_and_each_finds_the_other(a: Daemon, b: Daemon) -> None:
    peer = await b.pairing.accept(PairingToken.parse(str(a.pairing.invite(60))))
    assert (peer.name, peer.id) == ("edge-a", a.identity.id)
    assert [(known.name, known.id) for known in a.book] == [("edge-b", b.identity.id)]
    for one, other in ((a, b), (b, a)):
        async with await one.directory.dial(one.directory.find(other.config.name), 1) as session:
            assert session.peer_name == other.config.name
            assert (await other.sessions.get()).peer_name == one.config.name
    # What was written is read again.
    assert [known.id for known in PeerBook(b.config.state_dir / "peers")] == [a.identity.id]


async def test_a_token_is_good_for_one(a: Daemon, b: Daemon, tmp_path: Path) -> None:
    token = a.pairing.invite(60)
    await b.pairing.accept(token)
    c = Daemon(tmp_path, "edge-c")
    async with c.listening():
        with pytest.raises(PairingError):
            await c.pairing.accept(token)
        assert len(c.book) == 0
    assert [peer.name for peer in a.book] == ["edge-b"]


async def test_a_token_expires(a: Daemon, b: Daemon) -> None:
    token = a.pairing.invite(60)
    a.now = 61.0
    with pytest.raises(PairingError, match="closed the connection: the token"):
        await b.pairing.accept(token)
    assert len(a.book) == len(b.book) == 0


async def test_a_wrong_secret_is_refused_and_does_no_harm(a: Daemon, b: Daemon) -> None:
    """Whoever reaches the port can send wrong proofs: they must not void what others were invited with."""
    token = a.pairing.invite(60)
    for _ in range(5):
        with pytest.raises(PairingError, match="refuses"):
            await b.pairing.accept(replace(token, secret=b"x" * 16))
    assert len(a.book) == len(b.book) == 0
    await b.pairing.accept(token)
    assert len(a.book) == len(b.book) == 1


async def test_a_man_in_the_middle_is_noticed_before_anything_is_said(a: Daemon, b: Daemon, tmp_path: Path) -> None:
    middle = Daemon(tmp_path, "middle")
    async with middle.listening() as listener:
        middle.pairing.invite(60)
        token = replace(a.pairing.invite(60), addresses=(Address("127.0.0.1", listener.port),))
        with pytest.raises(PairingError, match="not the device"):
            await b.pairing.accept(token)
    assert len(b.book) == 0


async def test_a_hosts_own_token_is_of_no_use_to_it(a: Daemon) -> None:
    with pytest.raises(PairingError, match="own"):
        await a.pairing.accept(a.pairing.invite(60))


async def test_names_that_are_taken_get_a_number_and_can_be_chosen(a: Daemon, b: Daemon, tmp_path: Path) -> None:
    await paired(a, b)
    other = Daemon(tmp_path / "other", "edge-b")
    async with other.listening():
        await other.pairing.accept(a.pairing.invite(60), "the-first")
    assert sorted(peer.name for peer in a.book) == ["edge-b", "edge-b-2"]
    assert [peer.name for peer in other.book] == ["the-first"]


async def test_a_name_that_a_user_chose_is_taken_as_it_is_or_refused(a: Daemon, b: Daemon, tmp_path: Path) -> None:
    """Nothing is said to the other host before: it would trust this one, and not the reverse."""
    await paired(a, b)
    other = Daemon(tmp_path, "edge-c")
    async with other.listening():
        token = other.pairing.invite(60)
        for name, says in (("edge-a", "this host itself"), ("edge-b", "another peer")):
            with pytest.raises(PeerBookError, match=says) as failure:
                await a.pairing.accept(token, name)
            assert "another name" in failure.value.fix
        assert len(other.book) == 0
        assert (await a.pairing.accept(token, "garage")).name == "garage"
        # The same device again may keep its name.
        assert (await a.pairing.accept(other.pairing.invite(60), "garage")).name == "garage"


async def test_a_host_that_calls_itself_as_this_one_does_gets_a_number(a: Daemon, tmp_path: Path) -> None:
    twin = Daemon(tmp_path / "twin", "edge-a")
    async with twin.listening():
        await paired(a, twin)
    assert [peer.name for peer in (*a.book, *twin.book)] == ["edge-a-2", "edge-a-2"]


def test_a_peer_that_has_only_an_address_is_told_so(tmp_path: Path) -> None:
    config = Config(name="edge-a", peers={"edge-b": Address("10.0.0.2")})
    identity = load_or_create(tmp_path / "identity")
    directory = PeerDirectory(config, identity, PeerBook(tmp_path / "peers", own_name="edge-a"))
    with pytest.raises(NotPairedError, match="edge-b is configured, but not paired") as failure:
        directory.find("edge-b")
    assert "streamhop pair TOKEN edge-b" in failure.value.fix
    for change in (lambda: directory.rename("edge-b", "x"), lambda: directory.remove("edge-b")):
        with pytest.raises(PeerBookError, match="not paired"):
            change()
    assert directory.known_names() == "known are edge-b"


def test_a_peer_without_an_address_is_not_taken_for_an_unpaired_one(tmp_path: Path) -> None:
    other = load_or_create(tmp_path / "other")
    directory = PeerDirectory(Config(), load_or_create(tmp_path / "identity"), PeerBook(tmp_path / "peers"))
    directory.add(Peer("edge-b", other.id, (), other.certificate.read_text()))
    with pytest.raises(NoAddressError) as failure:
        directory.find("edge-b")
    told = as_move_error(failure.value)
    assert (told.exit_code, "[peers]" in told.fix) == (10, True)
    assert directory.all() == []


async def test_unpairing_ends_sessions_at_once_and_lets_none_in(a: Daemon, b: Daemon) -> None:
    await paired(a, b)
    session = await b.directory.dial(b.directory.find("edge-a"), 1)
    async with session:
        a.directory.remove("edge-b")
        await session.wait_closed()
    with pytest.raises(UntrustedError):
        await b.directory.dial(b.directory.find("edge-a"), 1)
    with pytest.raises(NotPairedError):
        a.directory.find("edge-b")


async def test_unpairing_ends_the_sessions_that_this_host_dialed(a: Daemon, b: Daemon) -> None:
    """P9: it is the dialer here that trusts the other no longer."""
    await paired(a, b)
    async with await b.directory.dial(b.directory.find("edge-a"), 1) as session:
        b.directory.remove("edge-a")
        await session.wait_closed()
        assert "not paired any longer" in str(session.over)
        await (await a.sessions.get()).wait_closed()


async def test_who_is_unpaired_while_being_dialed_gets_no_session(a: Daemon, b: Daemon) -> None:
    await paired(a, b)
    target = b.directory.find("edge-a")
    b.directory.remove("edge-a")
    with pytest.raises(UntrustedError, match="unpaired meanwhile"):
        await b.directory.dial(target, 1)


async def test_without_an_invitation_a_guest_is_not_heard(a: Daemon, b: Daemon) -> None:
    token = PairingToken.new(a.identity.id, (Address("127.0.0.1", 1),))
    addresses = a.pairing._addresses
    with pytest.raises(PairingError, match="closed the connection: the token"):
        await b.pairing.accept(replace(token, addresses=addresses))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00\x00\x00\x01",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x04\xdd\xff\xff\xff",
        *((41).to_bytes(4, "big") + b"\x91" * 40 + b"\xc0", (7).to_bytes(4, "big") + b"\x82\xa1a\x01\xa1a\x02"),
        *(
            len(data := msgpack.packb(message)).to_bytes(4, "big") + data
            for message in ([], {}, {"nonce": b"short"}, {"nonce": "x" * 32}, {"nonce": None})
        ),
    ],
)
async def test_a_guest_that_makes_no_sense_is_turned_away(a: Daemon, b: Daemon, sent: bytes) -> None:
    token = a.pairing.invite(60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["streamhop-pair/1"])
    address = token.addresses[0]
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    writer.write(sent)
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.transport.close() if len(sent) < 5 else None
    await reader.read()
    writer.close()
    await b.pairing.accept(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x"},
        {"name": 7},
        {"addresses": ["x"] * 17},
        {"addresses": "x"},
        {"addresses": ["[x"]},
        {"certificate": "none"},
        {"certificate": None},
        {"proof": b"p" * 31},
    ],
)
async def test_an_introduction_that_makes_no_sense_is_refused(
    a: Daemon, b: Daemon, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    token = a.pairing.invite(60)
    introduce = b.pairing._introduce
    monkeypatch.setattr(b.pairing, "_introduce", lambda **_: {**introduce(with_certificate=True), **changes})
    if "proof" in changes:
        from streamhop.peering import pairing as room

        monkeypatch.setattr(room, "proof", lambda *_: changes["proof"])
    with pytest.raises(PairingError):
        await b.pairing.accept(token)
    assert len(a.book) == 0


async def test_a_guest_cannot_take_over_another_peers_id(a: Daemon, b: Daemon, tmp_path: Path) -> None:
    """P9: what the journal says of edge-b's moves would be asked of whoever is called like edge-b's ID."""
    await paired(a, b)
    other = Daemon(tmp_path, str(b.identity.id))
    async with other.listening():
        await paired(a, other)
    reference = str(b.identity.id)
    assert a.directory.find(reference).reference == reference
    assert a.directory.name_of(reference) == "edge-b"
    assert a.directory.find(f"peer-{other.identity.id.short}").reference == str(other.identity.id)
    assert len(a.directory.all()) == 2


async def test_a_short_id_finds_a_peer(a: Daemon, b: Daemon) -> None:
    await paired(a, b)
    assert a.directory.find(b.identity.id.short).name == "edge-b"
    assert a.directory.find(str(b.identity.id)).reference == str(b.identity.id)
    with pytest.raises(NotPairedError):
        a.directory.find(b.identity.id.short[:3])
    assert a.directory.who(b"nobody's") is None
    assert DeviceId.parse(a.directory.find("edge-b").reference) == b.identity.id


async def test_renaming_keeps_the_device(a: Daemon, b: Daemon) -> None:
    await paired(a, b)
    a.directory.rename("edge-b", "garage")
    assert a.directory.find("garage").peer.id == b.identity.id  # type: ignore[union-attr]
    with pytest.raises(NotPairedError):
        a.directory.find("edge-b")
    async with await b.directory.dial(b.directory.find("edge-a"), 1):
        assert (await a.sessions.get()).peer_name == "garage"


def test_one_module_reads_msgpack() -> None:
    """What comes before a peer is known is read with the same limits as everything else."""
    root = Path(streamhop.__file__).parents[1]
    readers = [
        str(path.relative_to(root))
        for room in ("streamhop", "protocol")
        for path in sorted((root / room).rglob("*.py"))
        if "import msgpack" in path.read_text(encoding="utf-8")
    ]
    assert readers == ["protocol/streamhop_protocol/wirepack.py"]
