"""Sessions between peers over TCP: the asyncio driver of :mod:`streamhop_protocol`.

A session is one control connection and some payload connections. Nothing in here runs as a task of its own but the
handlers of a :class:`Listener`: connections are driven by the event loop's callbacks, compression by a few threads.
"""

from .config import NetConfig
from .dialing import dial
from .errors import ClosedUnansweredError, SessionLost, UntrustedError
from .listening import Listener, serve
from .peer import PeerSession
from .security import KnownPeer, Security, client_context, server_context
from .streams import Chunk, IncomingStream, OutgoingStream
from .tracing import WireTrace

__all__ = [
    "Chunk",
    "ClosedUnansweredError",
    "IncomingStream",
    "KnownPeer",
    "Listener",
    "NetConfig",
    "OutgoingStream",
    "PeerSession",
    "Security",
    "SessionLost",
    "UntrustedError",
    "WireTrace",
    "client_context",
    "dial",
    "serve",
    "server_context",
]
