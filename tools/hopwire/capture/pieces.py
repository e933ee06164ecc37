"""What is taken of a capture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """What one packet adds to a TCP connection.

    :param at_ns: since 1970.
    :param stream: tshark's number of the connection.
    :param source: address and port of the sender; ``target`` those of the receiver.
    :param data: what may be read now of this direction, in order; empty if nothing.
    :param syn: the packet begins the connection; ``answers``: it is the acceptor's.
    :param ends: nothing comes after it in this direction; ``reset``: in neither.
    :param lost: the capture lacks what comes before this packet, or it comes later.
    :param tls: what the packet carries is TLS.
    """

    at_ns: int
    stream: int
    source: tuple[str, int]
    target: tuple[str, int]
    data: bytes = b""
    syn: bool = False
    answers: bool = False
    ends: bool = False
    reset: bool = False
    lost: bool = False
    tls: bool = False
