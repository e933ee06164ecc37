"""Whether a restore of the processes' sockets needs the container's addresses and routes.

Source: CRIU's images/fdinfo.proto, sk-inet.proto, sk-opts.proto, and what criu/sk-inet.c does with them: it binds each
socket with a port to its address (to one of IPv6 whether that is there or not), and connects those of UDP that are
connected. Established connections of TCP that are restored closed are neither bound nor connected; those that are kept
are both.
"""

from __future__ import annotations

from pathlib import Path

from .records import MAGIC, Message, records

_INET, _PACKET = 4, 10
_AF_INET = 2
_TCP = 6
_TCP_LISTEN, _TCP_CLOSE = 10, 7


def needs_network(image_dir: Path, *, established: bool = False) -> bool:
    """Whether Docker has to wire the network before CRIU comes to the sockets.

    :param image_dir: images that were admitted.
    :param established: whether connections are restored as they were, not closed.
    :raises ProtocolError: they are not what CRIU writes.
    :raises OSError: they cannot be read.
    """
    return any(
        _needs_network(entry, established=established) for entry in records(image_dir / "files.img", MAGIC["files"])
    )


def _needs_network(entry: Message, *, established: bool) -> bool:
    kind = entry.number(1)
    if kind == _PACKET:
        return True
    socket = entry.message(4) if kind == _INET else None
    if socket is None:
        return False
    options = socket.message(14)
    if socket.text(17) or (options is not None and options.text(15)):
        return True  # bound to a device
    if socket.number(5) == _TCP and socket.number(6) not in (_TCP_LISTEN, _TCP_CLOSE):
        return established
    # Not even loopback is there before Docker has wired the namespace.
    bound = bool(socket.number(7)) and any(socket.numbers(11))
    return bool(socket.number(8)) or (bound and socket.number(3) == _AF_INET)
