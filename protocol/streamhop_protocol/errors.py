"""Errors of the wire protocol.

One tree. A reader of a peer's bytes raises nothing but :class:`ProtocolError` and its children. Each class has a
stable ``code`` that goes over the wire in ERROR frames; ``CODES`` is the closed map back.
"""

from __future__ import annotations

from typing import ClassVar


class ProtocolError(Exception):
    """The peer, or this side, broke the protocol. The text says what was seen and what was expected."""

    code: ClassVar[str] = "protocol"


class MalformedError(ProtocolError):
    """Bytes that cannot be decoded as what they claim to be."""

    code: ClassVar[str] = "malformed"


class LimitError(ProtocolError):
    """A length, count or size over its bound in :mod:`streamhop_protocol.limits`."""

    code: ClassVar[str] = "limit"


class TruncatedError(ProtocolError):
    """The connection or stream ended inside a frame, or before its announced end."""

    code: ClassVar[str] = "truncated"


class VersionError(ProtocolError):
    """The peer speaks no version that this side speaks."""

    code: ClassVar[str] = "version"


class UnexpectedError(ProtocolError):
    """A well-formed message that is not allowed in the present state."""

    code: ClassVar[str] = "unexpected"


class FlowError(ProtocolError):
    """The peer sent more than the credit it was given."""

    code: ClassVar[str] = "flow"


class IntegrityError(ProtocolError):
    """Content does not match the hash it was announced under."""

    code: ClassVar[str] = "integrity"


CODES: dict[str, type[ProtocolError]] = {
    cls.code: cls
    for cls in (
        ProtocolError,
        MalformedError,
        LimitError,
        TruncatedError,
        VersionError,
        UnexpectedError,
        FlowError,
        IntegrityError,
    )
}
