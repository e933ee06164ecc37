"""Writes the golden frames of this directory: bytes and what they mean.

``make_vectors.py`` writes the files, ``make_vectors.py --check`` says whether they are what would be written. Bytes
are shown as ``{"hex": ...}``; the sections of each file are explained in ``SPEC.md``, "Test vectors".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from streamhop_protocol.codecs import Codec, CodecChoice, compress
from streamhop_protocol.frames import MAGIC, PREAMBLE
from vector_each_type import invalid_of_each_type, largest_of_each_type
from vector_frames import invalid_frames, valid_frames
from vector_session_errors import invalid_sessions
from vector_sessions import transcript

HERE = Path(__file__).parent


def preambles() -> list[dict[str, Any]]:
    """First bytes of a connection."""
    return [
        {"hex": PREAMBLE.hex(), "error": None},
        {"hex": (MAGIC + b"\x00\x02").hex(), "error": "version"},
        {"hex": b"GET / HTTP/1.1\r\n\r\n".hex(), "error": "malformed"},
        {"hex": b"SSH-2.0-OpenSSH_9.9\r\n".hex(), "error": "malformed"},
        {"hex": PREAMBLE.replace(b"\r\n", b"\n").hex(), "error": "malformed"},
        {"hex": bytes(8).hex(), "error": "malformed"},
    ]


def chunks() -> list[dict[str, Any]]:
    """Chunks as they are on the wire; ``raw`` or ``error``. Compressors differ: only the way back is fixed."""
    raw = b"streamhop " * 20
    rows: list[dict[str, Any]] = [{"codec": 0, "raw_bytes": len(raw), "hex": raw.hex(), "raw": raw.hex()}]
    for codec in (Codec.LZ4, Codec.ZSTD):
        packed = bytes(compress(raw, CodecChoice(codec, 3))[1])
        number = int(codec)
        rows += [
            {"codec": number, "raw_bytes": len(raw), "hex": packed.hex(), "raw": raw.hex()},
            {"codec": number, "raw_bytes": len(raw) - 1, "hex": packed.hex(), "error": "malformed"},
            {"codec": number, "raw_bytes": len(raw) + 1, "hex": packed.hex(), "error": "malformed"},
            {"codec": number, "raw_bytes": len(raw), "hex": packed[:-1].hex(), "error": "malformed"},
            {"codec": number, "raw_bytes": len(raw), "hex": (packed + b"\x00").hex(), "error": "malformed"},
            {"codec": number, "raw_bytes": 1 << 31, "hex": packed.hex(), "error": "limit"},
            {"codec": number, "raw_bytes": len(packed), "hex": packed.hex(), "error": "limit"},
        ]
    rows.append({"codec": 0, "raw_bytes": len(raw) + 1, "hex": raw.hex(), "error": "limit"})
    return rows


def files() -> dict[str, str]:
    """Name and content of each file."""
    content = {
        "preambles.json": preambles(),
        "frames_valid.json": [*valid_frames(), *largest_of_each_type()],
        "frames_invalid.json": [*invalid_frames(), *invalid_of_each_type()],
        "sessions_invalid.json": invalid_sessions(),
        "chunks.json": chunks(),
        "transcripts.json": transcript(),
    }
    return {name: "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n" for name, rows in content.items()}


def main() -> int:
    """Write or check."""
    if "--check" in sys.argv[1:]:
        stale = [name for name, text in files().items() if (HERE / name).read_text(encoding="utf-8") != text]
        sys.stderr.write("".join(f"{name} is not what make_vectors.py writes\n" for name in stale))
        return 1 if stale else 0
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
