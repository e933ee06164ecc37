"""Whether open connections go with a container: what the source asks, what the target answers."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest

from streamhop.engine.docker import NotFound
from streamhop.handover import connections
from streamhop.handover.connections import TCP, Answer, Judgement, TcpChoice, Wish, judge, told, wish
from streamhop.handover.errors import PreflightError
from streamhop_protocol.errors import MalformedError, UnexpectedError

SEGMENT: dict[str, Any] = {
    "Name": "l2",
    "Driver": "bridge",
    "Labels": {"streamhop.segment": "hall"},
    "IPAM": {"Config": [{"Subnet": "10.50.0.0/24"}]},
}
OTHER = {"Name": "bridge", "Driver": "bridge", "Labels": {}}
ON_SEGMENT = {"IPAddress": "10.50.0.100", "IPPrefixLen": 24, "MacAddress": "02:42:0a:32:00:64"}
ON_OTHER = {"IPAddress": "172.17.0.2", "IPPrefixLen": 16, "MacAddress": "02:42:ac:11:00:02"}


class Engine:
    """Knows networks, and nothing else."""

    def __init__(self, *networks: dict[str, Any]) -> None:
        self._networks = {network["Name"]: network for network in networks}

    async def inspect_network(self, name: str) -> dict[str, Any]:
        if name not in self._networks:
            raise NotFound(f"no network {name}")
        return self._networks[name]


def container(*, tty: bool = False, **networks: Any) -> dict[str, Any]:
    return {"State": {"Pid": 7}, "Config": {"Tty": tty}, "NetworkSettings": {"Networks": networks}}


def on(*networks: str) -> Any:
    """A manifest, as far as it matters here."""
    return SimpleNamespace(request=SimpleNamespace(networks=networks))


@pytest.fixture
def remotes(monkeypatch: pytest.MonkeyPatch) -> list[ipaddress.IPv4Address]:
    """The other ends of the container's connections."""
    found: list[ipaddress.IPv4Address] = []
    monkeypatch.setattr(connections, "remote_ends", lambda _pid: found)
    return found


async def asked(choice: TcpChoice, found: dict[str, Any], *networks: dict[str, Any]) -> tuple[Wish | None, str]:
    engine: Any = Engine(*networks)
    return await wish(engine, found, choice)


@pytest.mark.parametrize("choice", [TcpChoice.KEEP, TcpChoice.AUTO])
async def test_on_a_segment_they_are_kept(choice: TcpChoice, remotes: list[Any]) -> None:
    remotes.append(ipaddress.ip_address("10.50.0.9"))
    found, why_not = await asked(choice, container(l2=ON_SEGMENT), SEGMENT)
    assert (why_not, found and found.must) == ("", choice is TcpChoice.KEEP)
    assert found is not None
    assert [endpoint.network for endpoint in found.endpoints] == ["l2"]


async def test_close_asks_for_nothing() -> None:
    assert await asked(TcpChoice.CLOSE, container(l2=ON_SEGMENT)) == (None, "")


async def test_where_nobody_named_a_segment_no_word_is_lost(remotes: list[Any]) -> None:
    assert await asked(TcpChoice.AUTO, container(bridge=ON_OTHER), OTHER) == (None, "")
    with pytest.raises(PreflightError, match="the network bridge has no label") as refused:
        await asked(TcpChoice.KEEP, container(bridge=ON_OTHER), OTHER)
    assert "streamhop.segment=NAME" in refused.value.fix
    assert [finding.id for finding in refused.value.findings] == ["container.connections"]


async def test_one_network_that_is_no_segment_is_enough(remotes: list[Any]) -> None:
    found = container(l2=ON_SEGMENT, bridge=ON_OTHER)
    nothing, why_not = await asked(TcpChoice.AUTO, found, SEGMENT, OTHER)
    assert nothing is None
    assert "the network bridge has no label" in why_not


async def test_a_terminal_is_in_the_way(remotes: list[Any]) -> None:
    with pytest.raises(PreflightError, match="terminal"):
        await asked(TcpChoice.KEEP, container(tty=True, l2=ON_SEGMENT), SEGMENT)


async def test_without_a_network_there_is_but_loopback_to_keep(remotes: list[Any]) -> None:
    found, _ = await asked(TcpChoice.AUTO, container(none={"IPAddress": ""}))
    assert found == Wish(must=False, endpoints=())
    assert (await asked(TcpChoice.AUTO, container()))[0] is None


async def test_connections_through_this_host_are_better_closed(remotes: list[Any]) -> None:
    remotes.extend(map(ipaddress.ip_address, ("10.50.0.9", "192.0.2.7")))
    nothing, why_not = await asked(TcpChoice.AUTO, container(l2=ON_SEGMENT), SEGMENT)
    assert nothing is None
    assert "1 of them come through this host" in why_not
    found, _ = await asked(TcpChoice.KEEP, container(l2=ON_SEGMENT), SEGMENT)
    assert found is not None
    assert found.lost == 1
    assert "1 of them come through this host" in told(found, Answer(keep=True))


async def test_the_router_of_a_macvlan_goes_on_leading_them(remotes: list[Any]) -> None:
    remotes.append(ipaddress.ip_address("192.0.2.7"))
    found, _ = await asked(TcpChoice.AUTO, container(l2=ON_SEGMENT), {**SEGMENT, "Driver": "macvlan"})
    assert found is not None
    assert found.lost == 0


async def test_the_target_answers(remotes: list[Any]) -> None:
    found, _ = await asked(TcpChoice.AUTO, container(l2=ON_SEGMENT), SEGMENT)
    assert found is not None
    suits: Any = Engine(SEGMENT)
    lacks: Any = Engine(OTHER)
    judged = await judge(suits, on("l2"), {TCP: found.to_wire()})
    assert judged == Judgement(Wish.from_wire(found.to_wire()), {TCP: {"keep": True, "reason": ""}}, [])
    judged = await judge(lacks, on("l2"), {TCP: found.to_wire()})
    assert (judged.kept, judged.findings) == (None, [])
    answer = Answer.from_wire(judged.attributes[TCP])
    assert answer == Answer(keep=False, reason="there is no network l2")
    assert "there is no network l2" in told(found, answer)
    judged = await judge(lacks, on("l2"), {TCP: Wish(must=True, endpoints=found.endpoints).to_wire()})
    assert judged.kept is None
    assert [(finding.id, finding.reason) for finding in judged.findings] == [
        ("target.connections", "its connections cannot be kept: there is no network l2")
    ]


async def test_a_source_that_does_not_ask_gets_no_answer() -> None:
    nobody: Any = Engine()
    assert await judge(nobody, on("l2"), {}) == Judgement()


async def test_addresses_are_given_on_the_containers_own_networks_alone(remotes: list[Any]) -> None:
    """No manifest asks for that network, so no policy has looked at it."""
    found, _ = await asked(TcpChoice.AUTO, container(l2=ON_SEGMENT), SEGMENT)
    assert found is not None
    suits: Any = Engine(SEGMENT)
    with pytest.raises(MalformedError, match="a network that the container is not on"):
        await judge(suits, on("other"), {TCP: found.to_wire()})


@pytest.mark.parametrize("value", [[], {"must": 1, "endpoints": []}, {"must": True}, {"must": True, "endpoints": [1]}])
def test_a_source_that_says_nonsense(value: object) -> None:
    with pytest.raises(MalformedError):
        Wish.from_wire(value)


@pytest.mark.parametrize(
    "value", [[], {}, {"keep": 1}, {"keep": True, "reason": 1}, {"keep": True, "reason": "x" * 301}]
)
def test_a_target_that_says_nonsense(value: object) -> None:
    with pytest.raises(UnexpectedError):
        Answer.from_wire(value)


def test_a_target_that_says_nothing_closes_them() -> None:
    assert Answer.from_wire(None) == Answer(keep=False)
    long = Answer(keep=False, reason="x" * 5000)
    assert len(Answer.from_wire(long.to_wire()).reason) == connections.REASON_CHARACTERS_MAX
