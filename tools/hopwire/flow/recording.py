"""A flow file as what was seen on the wire."""

from __future__ import annotations

from collections.abc import Iterator

from hopwire.events import BrokenSeen, ConnectionSeen, EndSeen, NoteSeen, Seen, decode_seen

from .reader import FlowReader
from .records import Closed, ConnectionOpened, DirectionEnded, FrameRecord, Violation


def seen_in(reader: FlowReader) -> Iterator[Seen]:
    """Everything that the file tells, in order.

    :raises FlowError: see :class:`FlowReader`.
    """
    for record in reader:
        match record:
            case FrameRecord():
                yield decode_seen(
                    record.at_ns,
                    record.connection,
                    record.prefix,
                    record.header,
                    record.payload,
                    from_dialer=record.from_dialer,
                    digest=record.digest,
                    redacted=record.redacted,
                )
            case ConnectionOpened():
                yield ConnectionSeen(record.at_ns, record.connection, record.dialer, record.acceptor, record.tls)
            case Violation():
                yield BrokenSeen(record.at_ns, record.connection, record.from_dialer, record.code, record.reason)
            case DirectionEnded():
                yield EndSeen(record.at_ns, record.connection, record.from_dialer, record.unread_bytes)
            case Closed(left_out_frames=left_out) if left_out:
                yield NoteSeen(record.at_ns, "recording:full", {"left_out_frames": left_out})
            case _:
                continue
