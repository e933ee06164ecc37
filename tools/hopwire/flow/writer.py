"""Writes a flow file, append-only and bounded."""

from __future__ import annotations

import secrets
from typing import Protocol

from blake3 import blake3

from streamhop_protocol.connection import Received
from streamhop_protocol.frames import Frame, Prefix, is_message

from .records import (
    DIGEST_BYTES,
    HEAD,
    About,
    Closed,
    FrameRecord,
    MapRecord,
    encode,
    encode_frame_head,
)
from .redaction import redacted

FILE_BYTES_MAX = 1 << 30
_CLOSED_BYTES_MAX = 64


class Sink(Protocol):
    """A file opened for writing in binary mode."""

    def write(self, data: bytes | memoryview, /) -> object: ...

    def flush(self) -> object: ...


class FlowWriter:
    """One flow file. Call :meth:`close` at its end; the file itself stays open.

    :param about: ``about.payload`` says whether payloads of streams, and what containers keep to themselves, are kept.
    :param bytes_max: bound of the file. What comes after it is counted and not kept.
    :raises OSError: of each method: the file cannot be written.
    """

    def __init__(self, sink: Sink, about: About, bytes_max: int = FILE_BYTES_MAX) -> None:
        self._sink = sink
        self._keep_payload = about.payload
        self._key = secrets.token_bytes(32)
        self._left_bytes = bytes_max - _CLOSED_BYTES_MAX
        self._last_ns = 0
        self.left_out_frames = 0
        self._write(HEAD)
        self._write(encode(about))

    def record(self, record: MapRecord) -> None:
        """Append what is not a frame, if the bound allows it."""
        data = encode(record)
        if len(data) <= self._left_bytes:
            self._write(data)

    def frame(self, at_ns: int, connection: int, frame: Frame, received: Received | None, *, from_dialer: bool) -> None:
        """Append a frame, if the bound allows it.

        :param received: what it says; None for one that cannot be decoded.
        """
        self._last_ns = at_ns
        prefix = Prefix(frame.type, frame.flags, frame.stream, len(frame.header), len(frame.payload))
        hidden = redacted(frame, received, keep_content=self._keep_payload)
        header, payload = hidden if hidden is not None else (frame.header, frame.payload)
        # A message's payload is a message. All others are content.
        left_out = bool(payload) and not self._keep_payload and not (received is not None and is_message(frame.type))
        digest = blake3(payload, key=self._key).digest(DIGEST_BYTES) if left_out else b""
        kept = None if left_out else payload
        head = encode_frame_head(
            FrameRecord(at_ns, connection, from_dialer, prefix, header, kept, digest, hidden is not None)
        )
        if len(head) + len(kept or b"") > self._left_bytes:
            self._left_bytes = 0  # not a file with holes where the large frames were
            self.left_out_frames += 1
            return
        self._write(head)
        if kept:
            self._write(kept)

    def flush(self) -> None:
        """Let readers of the file see what was written."""
        self._sink.flush()

    def close(self) -> None:
        """Say that the file is complete."""
        self._left_bytes = _CLOSED_BYTES_MAX
        self._write(encode(Closed(self._last_ns, self.left_out_frames)))
        self.flush()

    def _write(self, data: bytes | memoryview) -> None:
        self._sink.write(data)
        self._left_bytes -= len(data)
