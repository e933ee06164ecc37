"""Sessions' secrets are written where a lab asks for it, at both ends, and nowhere else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamhop.config import Address, Config
from streamhop.identity import Peer, PeerBook, load_or_create
from streamhop.net import NetConfig, PeerSession, serve
from streamhop.peering import PeerDirectory

DEADLINE_S = 20.0


class Daemon:
    """One host that trusts another."""

    def __init__(self, path: Path, name: str, keylog: Path | None) -> None:
        self.name = name
        config = Config(name=name, state_dir=path / name, lab_keylog=keylog)
        self.identity = load_or_create(config.state_dir / "identity")
        self.directory = PeerDirectory(config, self.identity, PeerBook(config.state_dir / "peers", own_name=name))

    def trust(self, other: Daemon, *addresses: Address) -> None:
        certificate = other.identity.certificate.read_text(encoding="ascii")
        self.directory.add(Peer(other.name, other.identity.id, addresses, certificate))


async def session_between(dialer: Daemon, acceptor: Daemon) -> None:
    """One session with two payload connections, from its beginning to its end."""
    ended = asyncio.Event()

    async def on_session(session: PeerSession) -> None:
        await session.wait_closed()
        ended.set()

    acceptor.trust(dialer)
    security = acceptor.directory.listening()
    assert security is not None
    async with asyncio.timeout(DEADLINE_S):
        listener = await serve("127.0.0.1", 0, NetConfig(), name="b", on_session=on_session, security=security)
        async with listener:
            dialer.trust(acceptor, Address("127.0.0.1", listener.port))
            async with await dialer.directory.dial(dialer.directory.find("b"), 2):
                pass
            await ended.wait()


@pytest.mark.parametrize("asked", [True, False])
async def test_secrets_are_written_only_where_a_lab_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """P13: the variable that others heed is not heeded."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "environment"))
    keylogs = {name: tmp_path / f"{name}.keys" if asked else None for name in ("a", "b")}
    dialer, acceptor = (Daemon(tmp_path, name, keylog) for name, keylog in keylogs.items())
    await session_between(dialer, acceptor)
    assert not (tmp_path / "environment").exists()
    if not asked:
        assert list(tmp_path.glob("*.keys")) == []
        return
    told = {name: secrets_of(path) for name, path in keylogs.items() if path is not None}
    assert told["a"] == told["b"]
    assert {label for label, _ in told["a"]} >= {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}
    assert len({random for _, random in told["a"]}) == 3  # the control connection and two for payload


def secrets_of(keylog: Path) -> set[tuple[str, str]]:
    """Label and client random of each line."""
    lines = [line.split() for line in keylog.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    return {(label, random) for label, random, _ in lines}
