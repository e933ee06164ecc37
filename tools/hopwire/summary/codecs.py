"""What a daemon's trace tells of its choice of codecs, summed up: there is an event for each chunk. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hopwire.events import NoteSeen
from hopwire.roster import Recent

CHOSEN, PACKED = "codec:chosen", "codec:packed"
CODEC_NOTES = frozenset({CHOSEN, PACKED})
ROWS_MAX = 64
STREAMS_KEPT_MAX = 1024


@dataclass(slots=True)
class CodecRow:
    """Chunks of one kind of streams for which the same was chosen.

    :param rates: what it was chosen by, bytes a second, least and most; None if nothing was known.
    :param unshrunk: chunks that a look, or the codec itself, has shown not to shrink: they went as they were.
    """

    kind: str
    chosen: str
    chunks: int = 0
    raw_bytes: int = 0
    rates: tuple[int | None, int | None] = (None, None)
    unshrunk: int = 0


class CodecChoices:
    """Counts events; what does not look like one is left out."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], CodecRow] = {}
        self._last: Recent[int, CodecRow] = Recent(STREAMS_KEPT_MAX)
        """Of each stream, what was chosen last."""

    def take(self, note: NoteSeen) -> None:
        """Count one event."""
        stream, codec = note.data.get("stream"), note.data.get("codec")
        if not isinstance(stream, int) or not isinstance(codec, str):
            return
        if note.name == CHOSEN:
            self._chosen(stream, codec[:16], note.data)
        elif codec == "none" and (row := self._last.get(stream)) is not None:
            row.unshrunk += 1

    def _chosen(self, stream: int, codec: str, data: Mapping[str, Any]) -> None:
        kind, raw_bytes, level = str(data.get("kind"))[:16], data.get("raw_bytes"), data.get("level")
        chosen = f"{codec} {level}" if isinstance(level, int) and level else codec
        row = self._rows.get((kind, chosen))
        if row is None:
            if len(self._rows) >= ROWS_MAX:
                return
            row = self._rows[kind, chosen] = CodecRow(kind, chosen)
        row.chunks += 1
        row.raw_bytes += raw_bytes if isinstance(raw_bytes, int) else 0
        rate = data.get("rate_bytes_per_s")
        if isinstance(rate, int):
            least, most = row.rates
            row.rates = rate if least is None else min(least, rate), rate if most is None else max(most, rate)
        self._last.put(stream, row)

    def rows(self) -> list[CodecRow]:
        """In the order in which they were first chosen."""
        return list(self._rows.values())
