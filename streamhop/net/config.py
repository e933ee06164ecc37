"""What can be set about sessions."""

from __future__ import annotations

from dataclasses import dataclass

from streamhop_protocol.limits import CONTROL_PAYLOAD_BYTES_MAX, MIB, STREAMS_DEFAULT

from .tracing import WireTrace


@dataclass(frozen=True, slots=True)
class NetConfig:
    """Options of :func:`.dial` and :func:`.serve`."""

    connections: int = 2
    """Payload connections of a session that this side dials, 1 to 15."""

    handshake_s_max: float = 5.0
    """How long a listener waits, from accepting each connection, for the handshake to be over."""

    dial_s_max: float = 15.0
    """From connecting to the session being complete: half a dozen round trips lie inside, long ones by satellite."""

    ping_interval_s: float = 2.0
    """How often the peer is asked for a sign of life."""

    silence_s_max: float = 10.0
    """A peer not heard of for this long is given up."""

    close_s_max: float = 1.0
    """How long :meth:`.PeerSession.close` waits for the peer to have read everything."""

    half_open_max: int = 64
    """Connections that a listener lets wait in the handshake at once before it knows who they are, and as many again of
    peers that it knows. One more, and the oldest has to go of the address, or the peer, that has the most."""

    half_open_per_origin_max: int = 32
    """The same for one IPv4 address, one IPv6 network of 64 bits, or one peer; a session needs up to 16."""

    guests_max: int = 8
    """Guests that are heard at once, while a token waits to be used; one more, and another has to go likewise."""

    guests_per_origin_max: int = 2
    """The same for one address."""

    sessions_max: int = 64
    """Sessions that a listener serves at once."""

    sessions_per_peer_max: int = 12
    """The same for one peer; in the clear for one IPv4 address, or one IPv6 network of 64 bits. Two for each move that
    a host takes in from one peer: after the link broke, the old session may not have noticed when the next one comes.
    """

    streams_max: int = STREAMS_DEFAULT
    """Streams that the peer may have open at once; each may take a window of memory, see ``STREAM_WINDOW_BYTES``."""

    messages_unread_max: int = 64
    """Messages that may wait for :meth:`.PeerSession.receive`; an honest peer sends a dozen in a whole move."""

    messages_unread_bytes_max: int = CONTROL_PAYLOAD_BYTES_MAX + MIB
    """Bytes of these: one of the largest, and those that may follow it."""

    codec_threads: int = 2
    """Threads of a session for compression and decompression."""

    limit_bytes_per_s: float | None = None
    """Most that leaves on all payload connections of a session together: the protocol's frames, before TLS and TCP add
    theirs. At least ``LIMIT_BYTES_PER_S_MIN``. The control connection is not held back."""

    trace: WireTrace | None = None
    """Is told of every connection and frame; None costs nothing."""

    congestion_control: str = "bbr"
    """TCP congestion control of payload connections, if the kernel has it: BBR keeps queues on the way short."""
