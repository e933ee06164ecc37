"""Socket options, and what the kernel knows about a connection (tcp(7), include/uapi/linux/tcp.h)."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Protocol

_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
_TCP_INFO = getattr(socket, "TCP_INFO", 11)
_TCP_CONGESTION = getattr(socket, "TCP_CONGESTION", 13)
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)

KEEPALIVE_INTERVAL_S = 2

NOTSENT_BYTES_DEFAULT = 128 * 1024
"""Unsent bytes that the kernel may hold of a connection before the rate of the link is known."""

_INFO_BYTES = 168
_ACKED_AT = 120
"""Offset of tcpi_bytes_acked, a u64."""
_MIN_RTT_AT = 148
"""Offset of tcpi_min_rtt, a u32, in microseconds."""


class SocketLike(Protocol):
    """The part of a socket that event loops let one use."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """Counters of one connection."""

    acked_bytes: int
    rtt_s_min: float | None


def tune(sock: SocketLike, silence_s_max: float) -> None:
    """Options of every connection: no delay, few unsent bytes in the kernel, and an end if the peer is gone."""
    options = (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_INTERVAL_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, max(1, round(silence_s_max / KEEPALIVE_INTERVAL_S))),
        (socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, round(silence_s_max * 1000)),
        (socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_BYTES_DEFAULT),
    )
    for level, option, value in options:
        sock.setsockopt(level, option, value)


def use_congestion_control(sock: SocketLike, name: str) -> None:
    """Choose TCP's congestion control; without effect where the kernel lacks it."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, name.encode())


def limit_unsent(sock: SocketLike, size_bytes: int) -> None:
    """How much the kernel may hold that is not under way yet: what is more urgent has to wait for it."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, size_bytes)


def read_tcp_info(sock: SocketLike) -> TcpInfo | None:
    """The kernel's counters; None if the connection is gone."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    except OSError:
        return None
    if len(info) < _MIN_RTT_AT + 4:
        return None
    (acked_bytes,) = struct.unpack_from("=Q", info, _ACKED_AT)
    (rtt_us,) = struct.unpack_from("=I", info, _MIN_RTT_AT)
    return TcpInfo(acked_bytes, rtt_us / 1e6 if 0 < rtt_us < 0xFFFF_FFFF else None)
