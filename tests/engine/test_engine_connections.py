"""The other ends of TCP connections, from the kernel's own tables."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from streamhop.engine.connections import remote_ends, remotes_in


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_is_listed_and_a_listener_is_not(family: socket.AddressFamily, address: str) -> None:
    before = [str(end) for end in remote_ends(os.getpid())].count(address)
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        assert [str(end) for end in remote_ends(os.getpid())].count(address) == before
        with socket.create_connection(listener.getsockname()[:2]), listener.accept()[0]:
            assert [str(end) for end in remote_ends(os.getpid())].count(address) == before + 2


def test_an_address_of_ipv4_in_the_table_of_ipv6() -> None:
    row = "0: 0000000000000000FFFF000001020304:1F90 0000000000000000FFFF00000700A8C0:D431 01 0 0 0"
    assert [str(end) for end in remotes_in(f"head\n{row}\n")] == ["192.168.0.7"]


def test_what_is_no_connection_has_no_other_end() -> None:
    rows = [f"{n}: 0100007F:1F90 0700A8C0:D431 {state}" for n, state in enumerate(("0A", "07", "06"))]
    assert list(remotes_in("\n".join(["head", *rows, "", "cut off"]))) == []


def test_a_process_that_is_gone() -> None:
    assert not Path("/proc/4194305").exists()
    with pytest.raises(OSError, match="No such file"):
        remote_ends(4194305)
