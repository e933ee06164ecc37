"""Where a host can be reached, and that people are told where no other one reaches it."""

from __future__ import annotations

import pytest

from streamhop.config import Address
from streamhop.peering import is_loopback, reachable_addresses
from streamhop.peering.addresses import unreachable_warning


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST."])
def test_a_daemon_on_loopback_alone_warns_of_it(host: str) -> None:
    warning = unreachable_warning(reachable_addresses("edge-a", Address(host), 4711))
    assert warning is not None
    assert warning.startswith(f"this daemon listens on {host} alone: another host cannot reach it; set listen to")


@pytest.mark.parametrize("host", ["10.0.0.1", "fe80::1%eth0", "edge-a", "localhost.example.org", "0.0.0.0", "*"])
def test_one_that_may_be_reached_does_not(host: str) -> None:
    assert unreachable_warning(reachable_addresses("edge-a", Address(host), 4711)) is None


def test_one_address_that_others_reach_is_enough() -> None:
    assert unreachable_warning((Address("127.0.0.1"), Address("10.0.0.1"))) is None
    assert is_loopback("127.0.0.1")
