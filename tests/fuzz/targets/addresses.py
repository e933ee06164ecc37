"""Addresses that a container is to keep, and what the other side says about that."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from fuzz.target import Target
from streamhop.content.container_config import Endpoint, misfit, pinned
from streamhop.handover.connections import Answer, Wish, told
from streamhop_protocol.wirepack import pack, unpack

ENDPOINT = Endpoint(
    "hall",
    "hall",
    "02:42:0a:32:00:64",
    (ipaddress.ip_interface("10.50.0.100/24"), ipaddress.ip_interface("fd00:50::64/64")),
)
NETWORKS = (
    {},
    {
        "Name": "hall",
        "Driver": "bridge",
        "Labels": {"streamhop.segment": "hall"},
        "IPAM": {"Config": [{"Subnet": "10.50.0.0/24", "Gateway": "10.50.0.1"}, {"Subnet": "fd00:50::/64"}]},
    },
)


def run_kept_addresses(data: bytes) -> None:
    """The attribute of OFFER, and what the target makes of it."""
    wish = Wish.from_wire(unpack(data))
    assert Wish.from_wire(unpack(pack(wish.to_wire()))) == wish
    for endpoint in wish.endpoints:
        for network in NETWORKS:
            reason = misfit(endpoint, network)
            assert reason is None or reason.isprintable(), "a terminal would obey this"
    made = pinned({}, wish.endpoints)
    assert len(made["NetworkingConfig"]["EndpointsConfig"]) == len(wish.endpoints)


def run_kept_answer(data: bytes) -> None:
    """The attribute of ACCEPT."""
    answer = Answer.from_wire(unpack(data))
    told(Wish(must=False, endpoints=()), answer)
    assert Answer.from_wire(unpack(pack(answer.to_wire()))) == answer


def _wishes() -> Iterator[bytes]:
    yield pack(Wish(must=True, endpoints=(ENDPOINT,)).to_wire())
    yield pack(Wish(must=False, endpoints=()).to_wire())


def _answers() -> Iterator[bytes]:
    yield pack(Answer(keep=True).to_wire())
    yield pack(Answer(keep=False, reason="there is no network hall").to_wire())


TARGETS = {
    "kept_addresses": Target(run_kept_addresses, _wishes),
    "kept_answer": Target(run_kept_answer, _answers),
}
