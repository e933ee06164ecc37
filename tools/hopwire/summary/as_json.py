"""What a recording tells, as one JSON object. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hopwire.dumping.as_json import jsonable

from .analysis import Analysis
from .as_text import by_kind_and_codec
from .sessions import SessionSummary, StreamSummary, moments_of, rounds_of


def as_json(analysis: Analysis) -> dict[str, Any]:
    """Sessions in the order in which they began; times in nanoseconds since the recording began."""
    return {
        "tls": analysis.tls,
        "last_ns": analysis.last_ns,
        "sessions": [_session(session, analysis.frozen) for session in analysis.sessions.values()],
        "sessions_left_out": analysis.sessions_left_out,
        "codecs": [asdict(row) for row in analysis.codecs.rows()],
        "notes": [{"at_ns": note.at_ns, "name": note.name, "data": jsonable(note.data)} for note in analysis.notes],
        "notes_left_out": analysis.notes_left_out,
    }


def _session(session: SessionSummary, frozen: Mapping[str, int]) -> dict[str, Any]:
    kinds: dict[str, dict[str, int]] = {}
    for (kind, codec), size in by_kind_and_codec(session).items():
        kinds.setdefault(kind, {})[codec] = size
    moments = moments_of(session, frozen)
    return {
        "session": session.number,
        "dialer": session.dialer,
        "acceptor": session.acceptor,
        "connections": sorted(session.connections),
        "began_ns": session.began_ns,
        "last_ns": session.last_ns,
        "frames": {"dialer": session.frames[True], "acceptor": session.frames[False]},
        "wire_bytes": {"dialer": session.wire_bytes[True], "acceptor": session.wire_bytes[False]},
        "types": dict(session.types),
        "streams": [_stream(stream) for stream in session.streams.values()],
        "wire_bytes_by_kind": kinds,
        "rounds": [asdict(each) for each in rounds_of(session)],
        "messages": [asdict(each) for each in session.milestones],
        "moments": {**asdict(moments), "frozen_s": moments.frozen_s},
        "longest_gaps": [asdict(each) for each in session.silences],
        "again": {"frames": session.again_frames, "bytes": session.again_bytes},
        "violations": [asdict(each) for each in session.faults],
        "violations_left_out": session.faults_left_out,
    }


def _stream(stream: StreamSummary) -> dict[str, Any]:
    return {
        "id": stream.id,
        "from": "dialer" if stream.from_dialer else "acceptor",
        "kind": stream.kind,
        "attributes": jsonable(stream.attributes),
        "began_ns": stream.began_ns,
        "last_ns": stream.last_ns,
        "outcome": stream.outcome,
        "frames": stream.frames,
        "chunks": stream.chunks,
        "wire_bytes": stream.wire_bytes,
        "raw_bytes": stream.raw_bytes,
        "wire_by_codec": dict(stream.wire_by_codec),
        "missing": stream.missing,
    }
