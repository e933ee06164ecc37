"""The network gate itself: one nftables table, put into a network namespace by netlink.

Standard library only and no asyncio: the OCI runtime closes and opens gates too. ``netgate`` is the daemon's way in.

The messages are those of ``nft -f`` with::

    table inet streamhop_gate {
        chain in  { type filter hook prerouting priority -450; policy drop; iif lo accept; }
        chain out { type filter hook output priority -450; policy drop; oif lo accept; icmpv6 type 136 accept; }
    }

and, where the kernel has it, the same of ARP, without any exception::

    table arp streamhop_gate {
        chain in  { type filter hook input priority -450; policy drop; }
        chain out { type filter hook output priority -450; policy drop; }
    }

A frozen copy that answered ARP would teach bridges that its addresses are still here.

Neighbour advertisements may leave: Docker sends some as it wires a namespace, and fails the start if it cannot. They
carry nothing of a connection. The kernel itself sends none, as no solicitation comes in. What goes over packet sockets
passes anyhow.

The messages are sent as one batch, which the kernel applies whole or not at all. Starting ``nsenter`` and ``nft`` for
this costs ten milliseconds and more, twice inside of a move's downtime; the batch costs a fraction of one.
Format: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h, netlink(7).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself costs milliseconds to import
    from typing import Self

TABLE = "streamhop_gate"

_NETLINK_NETFILTER = 12
_SUBSYS_NFTABLES = 10
_BATCH_BEGIN = 0x10
_BATCH_END = 0x11
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_CREATE = 0x400
_NLM_F_APPEND = 0x800
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE = 0, 1, 2, 3, 6
_NFPROTO_INET, _NFPROTO_ARP = 1, 3
_PRE_ROUTING, _LOCAL_OUT = 0, 3
_ARP_IN, _ARP_OUT = 0, 1
_META_IIF, _META_OIF, _META_L4PROTO = 4, 5, 16
_PAYLOAD_TRANSPORT_HEADER = 2
_ICMPV6, _ADVERTISEMENT = 58, 136
_NF_DROP, _NF_ACCEPT = 0, 1
_REG_VERDICT, _REG_1 = 0, 1
_PRIORITY = -450
"""Before connection tracking (-200) and defragmentation (-400): a packet that the gate drops leaves no trace."""

_LOOPBACK_IFINDEX = 1
"""``lo`` is the first device of every network namespace (the kernel's LOOPBACK_IFINDEX)."""

_CLONE_NEWNET = 0x40000000
_REPLY_BYTES_MAX = 64 * 1024
_REPLY_TIMEOUT_S = 10


_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)
"""What a kernel says that has no such tables."""


class GateError(Exception):
    """The gate could not be closed, opened or looked at; the text says why and what to do."""


def _attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _nest(kind: int, *attrs: bytes) -> bytes:
    return _attr(kind | 0x8000, b"".join(attrs))


def _text(kind: int, value: str) -> bytes:
    return _attr(kind, value.encode() + b"\0")


def _be32(kind: int, value: int) -> bytes:
    return _attr(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _message(kind: int, flags: int, sequence: int, family: int, resource: int, payload: bytes = b"") -> bytes:
    body = struct.pack("=BBH", family, 0, socket.htons(resource)) + payload
    return struct.pack("=IHHII", 16 + len(body), kind, flags | _NLM_F_REQUEST, sequence, 0) + body


def _expression(name: str, *attrs: bytes) -> bytes:
    return _nest(1, _text(1, name), _nest(2, *attrs))


def _chain(name: str, hook: int) -> bytes:
    return (
        _text(1, TABLE)
        + _text(3, name)
        + _nest(4, _be32(1, hook), _be32(2, _PRIORITY))
        + _be32(5, _NF_DROP)
        + _text(7, "filter")
    )


def _loopback_rule(chain: str, meta_key: int) -> bytes:
    """``iif lo accept`` or ``oif lo accept``."""
    return _accept_rule(chain, _meta(meta_key), _equals(struct.pack("=I", _LOOPBACK_IFINDEX)))


def _advertisement_rule(chain: str) -> bytes:
    """``icmpv6 type nd-neighbor-advert accept``."""
    return _accept_rule(
        chain,
        _meta(_META_L4PROTO),
        _equals(bytes([_ICMPV6])),
        _expression("payload", _be32(1, _REG_1), _be32(2, _PAYLOAD_TRANSPORT_HEADER), _be32(3, 0), _be32(4, 1)),
        _equals(bytes([_ADVERTISEMENT])),
    )


def _accept_rule(chain: str, *conditions: bytes) -> bytes:
    verdict = _expression("immediate", _be32(1, _REG_VERDICT), _nest(2, _nest(2, _be32(1, _NF_ACCEPT))))
    return _text(1, TABLE) + _text(2, chain) + _nest(4, *conditions, verdict)


def _meta(key: int) -> bytes:
    return _expression("meta", _be32(1, _REG_1), _be32(2, key))


def _equals(value: bytes) -> bytes:
    return _expression("cmp", _be32(1, _REG_1), _be32(2, 0), _nest(3, _attr(1, value)))


def _batch(*steps: tuple[int, int, bytes], family: int = _NFPROTO_INET) -> tuple[bytes, int]:
    """One transaction of (message, flags, attributes); the last step asks for an acknowledgement.

    :returns: the bytes and the sequence number of the last step.
    """
    sequence = 1
    out = [_message(_BATCH_BEGIN, 0, sequence, 0, _SUBSYS_NFTABLES)]
    for number, (kind, flags, payload) in enumerate(steps, start=1):
        sequence += 1
        if number == len(steps):
            flags |= _NLM_F_ACK
        out.append(_message(_SUBSYS_NFTABLES << 8 | kind, flags, sequence, family, 0, payload))
    out.append(_message(_BATCH_END, 0, sequence + 1, 0, _SUBSYS_NFTABLES))
    return b"".join(out), sequence


def _close_batch() -> tuple[bytes, int]:
    """Adding, deleting and adding again makes one transaction right whether or not a gate was there."""
    table = _text(1, TABLE)
    return _batch(
        (_NEWTABLE, _NLM_F_CREATE, table),
        (_DELTABLE, 0, table),
        (_NEWTABLE, _NLM_F_CREATE, table),
        (_NEWCHAIN, _NLM_F_CREATE, _chain("in", _PRE_ROUTING)),
        (_NEWCHAIN, _NLM_F_CREATE, _chain("out", _LOCAL_OUT)),
        (_NEWRULE, _NLM_F_CREATE | _NLM_F_APPEND, _loopback_rule("in", _META_IIF)),
        (_NEWRULE, _NLM_F_CREATE | _NLM_F_APPEND, _loopback_rule("out", _META_OIF)),
        (_NEWRULE, _NLM_F_CREATE | _NLM_F_APPEND, _advertisement_rule("out")),
    )


def _setns(fd: int) -> None:
    if hasattr(os, "setns"):
        os.setns(fd, _CLONE_NEWNET)
        return
    import ctypes  # Python 3.11 has no os.setns; loading ctypes costs milliseconds, so only there

    if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _close_arp_batch() -> tuple[bytes, int]:
    table = _text(1, TABLE)
    return _batch(
        (_NEWTABLE, _NLM_F_CREATE, table),
        (_DELTABLE, 0, table),
        (_NEWTABLE, _NLM_F_CREATE, table),
        (_NEWCHAIN, _NLM_F_CREATE, _chain("in", _ARP_IN)),
        (_NEWCHAIN, _NLM_F_CREATE, _chain("out", _ARP_OUT)),
        family=_NFPROTO_ARP,
    )


def socket_in_namespace(path: str, family: int, kind: int, protocol: int) -> socket.socket:
    """A socket that lives in another network namespace; the calling thread enters it for a moment.

    :param path: of the namespace, such as ``/proc/PID/ns/net``.
    :raises OSError: there is no such namespace, or no such socket in it.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            return socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        finally:
            _setns(home)
    finally:
        os.close(home)


def _same_namespace(first: str, second: str) -> bool:
    a, b = Path(first).stat(), Path(second).stat()
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def netlink_socket(namespace: str, protocol: int) -> socket.socket:
    """A netlink socket that lives in the network namespace at a path, such as ``/proc/7/ns/net``.

    See :func:`socket_in_namespace`.

    :param protocol: of netlink(7).
    :raises OSError: there is no such namespace, or the kernel does not speak the protocol.
    """
    sock = socket_in_namespace(namespace, socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    sock.settimeout(_REPLY_TIMEOUT_S)
    return sock


def check_nftables() -> None:
    """Whether this kernel has nftables, found by asking for a table; nothing is changed.

    :raises GateError: it has not.
    """
    try:
        sock = netlink_socket("/proc/thread-self/ns/net", _NETLINK_NETFILTER)
    except OSError as error:
        raise GateError(f"this kernel does not speak to nftables: {error.strerror}") from error
    with sock:
        _has_table(sock)


def _has_table(sock: socket.socket) -> bool:
    """Whether the gate's table is there.

    :raises GateError: the kernel does not say.
    """
    kind = _SUBSYS_NFTABLES << 8 | _GETTABLE
    code = _ask(sock, _message(kind, _NLM_F_ACK, 1, _NFPROTO_INET, 0, _text(1, TABLE)), 1)
    if code not in (0, errno.ENOENT):
        raise GateError(f"cannot look at the network gate: {_reason(code)}")
    return code == 0


def _ask(sock: socket.socket, request: bytes, sequence: int) -> int:
    """Send; return 0 or the errno of the first step that failed."""
    try:
        sock.sendto(request, (0, 0))
        while True:
            code = _outcome(sock.recv(_REPLY_BYTES_MAX), sequence)
            if code is not None:
                return code
    except OSError as error:
        raise GateError(f"nftables does not answer: {error.strerror or error}") from error


class Gate:
    """The gate of one network namespace, through a netlink socket that lives in it.

    The calling *thread* enters the namespace for a moment to make the socket (a socket belongs to the namespace it was
    made in) and comes back. Call it from a thread that does nothing else, or a process with one thread.

    :param pid: any process of the namespace, as this process's ``/proc`` knows it.
    :raises GateError: no such process, the host's own namespace, or no nftables in the kernel.
    """

    def __init__(self, pid: int) -> None:
        path, own = f"/proc/{pid}/ns/net", "/proc/thread-self/ns/net"
        try:
            # A gate in the host's namespace would cut off the host, this daemon's own link to the peer included.
            if _same_namespace(path, own):
                raise GateError(
                    f"process {pid} is in the host's network namespace (--network host): it has no network of its own "
                    "to hold back; give the container a network of its own"
                )
            self._socket = netlink_socket(path, _NETLINK_NETFILTER)
        except FileNotFoundError as error:
            raise GateError(f"process {pid} is gone, and its network namespace with it") from error
        except OSError as error:
            raise GateError(
                f"cannot reach nftables in the network namespace of process {pid}: {error.strerror}"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the namespace go. Takes the kernel 10 to 30 ms: not while anybody waits."""
        self._socket.close()

    def close_gate(self) -> None:
        """Drop everything but loopback, in and out, from now on. Safe to repeat; atomic."""
        code = _ask(self._socket, *_close_batch())
        if code:
            raise GateError(f"cannot close the network gate: {_reason(code)}")
        # Best effort: without it a frozen copy answers ARP, and what is announced later puts that right.
        _ask(self._socket, *_close_arp_batch())

    def open_gate(self) -> None:
        """Let packets pass again. Safe to repeat."""
        code = _ask(self._socket, *_batch((_DELTABLE, 0, _text(1, TABLE))))
        if code not in (0, errno.ENOENT):
            raise GateError(f"cannot open the network gate: {_reason(code)}")
        code = _ask(self._socket, *_batch((_DELTABLE, 0, _text(1, TABLE)), family=_NFPROTO_ARP))
        if code not in (0, errno.ENOENT, *_NO_FAMILY):
            raise GateError(f"cannot open the network gate for ARP: {_reason(code)}")

    def is_closed(self) -> bool:
        """Whether the gate's table is there."""
        return _has_table(self._socket)


def _outcome(reply: bytes, sequence: int) -> int | None:
    """The errno that netlink replies hold: of any step that failed, or 0 once ``sequence`` is acknowledged."""
    offset = 0
    while offset + 20 <= len(reply):
        length, kind, _flags, number, _port = struct.unpack_from("=IHHII", reply, offset)
        if kind == _NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", reply, offset + 16)
            if code:
                return -int(code)
            if number == sequence:
                return 0
        offset += max(16, (length + 3) & ~3)
    return None


def _reason(code: int) -> str:
    if code in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL):
        return (
            f"this kernel has no nftables for the inet family ({os.strerror(code)}); load nf_tables and nf_tables_inet"
        )
    return os.strerror(code)
