"""The error of this room; what a peer did wrong is a :class:`streamhop_protocol.errors.ProtocolError`."""


class SessionLost(Exception):  # noqa: N818 - an event rather than a mistake, and so named by everybody who waits for it
    """The session is over: the text says why. Where one of the two broke the protocol, that error is the
    cause."""


class UntrustedError(SessionLost):
    """One of the two sides does not trust the other's certificate; nothing was exchanged."""


class ClosedUnansweredError(UntrustedError):
    """The connection ended before the peer said anything, and nothing says why. So ends a listener the connection of
    one that it is not paired with any longer; a link that breaks just then looks the same."""
