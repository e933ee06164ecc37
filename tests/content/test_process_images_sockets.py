"""Which sockets need the container's addresses before CRIU restores them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.process_images import Fields, head, record

from streamhop.content.process_images import needs_network

INET, IPV4, IPV6, TCP, UDP = 4, 2, 10, 6, 17
ESTABLISHED, CLOSED, LISTENING = 1, 7, 10
ADDRESS = 0x6400320A


def inet(family: int, protocol: int, state: int, *, local: int, remote_port: int = 0) -> Fields:
    """A file_entry of a socket; ``local``: its address, 0 for any."""
    socket = {1: 1, 2: 1, 3: family, 4: 1, 5: protocol, 6: state, 7: 80, 8: remote_port, 9: 0, 10: 0, 11: [local]}
    return {1: INET, 2: 1, 4: socket}


@pytest.mark.parametrize(
    ("socket", "closed", "kept"),
    [
        (inet(IPV4, TCP, ESTABLISHED, local=ADDRESS, remote_port=4000), False, True),
        (inet(IPV6, TCP, ESTABLISHED, local=ADDRESS, remote_port=4000), False, True),
        (inet(IPV4, TCP, LISTENING, local=0), False, False),
        (inet(IPV4, TCP, LISTENING, local=ADDRESS), True, True),
        (inet(IPV6, TCP, LISTENING, local=ADDRESS), False, False),
        (inet(IPV4, TCP, CLOSED, local=0), False, False),
        (inet(IPV4, UDP, CLOSED, local=0, remote_port=53), True, True),
    ],
)
def test_what_is_kept_needs_its_addresses(tmp_path: Path, socket: Fields, *, closed: bool, kept: bool) -> None:
    (tmp_path / "files.img").write_bytes(head("files") + record(socket))
    assert needs_network(tmp_path) is closed
    assert needs_network(tmp_path, established=True) is kept
