"""What a link really does: one TCP stream each way, and round trips of one byte."""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .namespaces import inside_network
from .state import Measured

_ROUND_TRIPS = 9
_BLOCK = bytes(65536)
_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link."""

    netns: Path
    address: str


def _connect(server: End, client: End) -> tuple[socket.socket, socket.socket]:
    """An established connection: the server's end, the client's end. Made inside the ends' namespaces."""

    def listen() -> socket.socket:
        return socket.create_server((server.address, 0), backlog=1)

    def connect() -> socket.socket:
        return socket.create_connection(listener.getsockname()[:2], _TIMEOUT_S)

    with inside_network(server.netns, listen) as listener:
        listener.settimeout(_TIMEOUT_S)
        connected = inside_network(client.netns, connect)
        accepted, _ = listener.accept()
    for end in (accepted, connected):
        end.settimeout(_TIMEOUT_S)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Closing drops what was not sent yet, so that nothing of a measurement is left on the link.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return accepted, connected


def round_trip_s(a: End, b: End) -> float:
    """Median round trip of one byte on an idle link."""
    accepted, connected = _connect(b, a)
    with accepted, connected:
        samples = []
        for _ in range(_ROUND_TRIPS):
            start = time.monotonic()
            connected.sendall(b"?")
            accepted.recv(1)
            accepted.sendall(b"!")
            connected.recv(1)
            samples.append(time.monotonic() - start)
        return statistics.median(samples)


def throughput_bit_per_s(source: End, target: End, *, warm_up_s: float, span_s: float) -> float:
    """Payload rate of one TCP stream, as the receiver sees it after ``warm_up_s``, over ``span_s``."""
    accepted, connected = _connect(target, source)

    def send() -> None:
        # The receiver ends it by closing.
        with contextlib.suppress(OSError):
            while True:
                connected.sendall(_BLOCK)

    sender = threading.Thread(target=send, name="hoplab-measure")
    sender.start()
    try:
        return _receive(accepted, warm_up_s, span_s)
    finally:
        accepted.close()
        # The reset may be under way for as long as the link delays; shutting down wakes the sender now.
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)
        sender.join()
        connected.close()


def _receive(accepted: socket.socket, warm_up_s: float, span_s: float) -> float:
    buffer = bytearray(2**18)
    begin = time.monotonic()
    first = last = None
    count = 0
    while last is None or last - begin < warm_up_s + span_s:
        received = accepted.recv_into(buffer)
        if not received:
            raise LabError("a measurement's connection ended early")
        last = time.monotonic()
        if first is not None:
            count += received
        elif last - begin >= warm_up_s:
            first = last
    if first is None or last == first:
        raise LabError("a measurement's connection was silent")
    return count * 8 / (last - first)


def measure(a: End, b: End, *, rtt_s: float, span_s: float) -> Measured:
    """Measure both directions of a link.

    :param rtt_s: what the link shall have; the stream may use twelve round trips to find its rate.
    :param span_s: how long to count.
    :raises LabError: the link does not carry anything.
    """
    try:
        rtt = round_trip_s(a, b)
        warm_up_s = max(0.3, 12 * rtt_s)
        rates = [
            throughput_bit_per_s(source, target, warm_up_s=warm_up_s, span_s=span_s)
            for source, target in ((a, b), (b, a))
        ]
    except OSError as error:
        raise LabError(f"the link {a.netns.name} to {b.netns.name} carries nothing: {error}") from error
    return Measured(bit_per_s=min(rates), rtt_s=rtt)
