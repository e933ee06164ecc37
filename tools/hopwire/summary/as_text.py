"""What a recording tells, as lines of text. Pure; whatever came from a peer is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hopwire.dumping.lines import Painter, plain
from hopwire.escaping import printable, shown_value

from .analysis import Analysis
from .sessions import Moments, SessionSummary, StreamSummary, moments_of, rounds_of

_NOTES_SHOWN = 40
_FAULTS_SHOWN = 40
_STREAMS_SHOWN = 200


def text_lines(analysis: Analysis, paint: Painter = plain) -> Iterator[str]:
    """Everything, session after session."""
    if not analysis.sessions:
        yield "no frames"
    for session in sorted(analysis.sessions.values(), key=lambda each: (each.number is None, each.number or 0)):
        yield from _session(session, moments_of(session, analysis.frozen), paint)
        yield ""
    if analysis.sessions_left_out:
        yield f"{analysis.sessions_left_out} frames of further sessions are counted without one"
    yield from _codecs(analysis, paint)
    yield from _notes(analysis, paint)


def _session(session: SessionSummary, moments: Moments, paint: Painter) -> Iterator[str]:
    name = "no session" if session.number is None else f"session {session.number}"
    peers = f" {shown_value(session.dialer)} to {shown_value(session.acceptor)}" if session.dialer else ""
    began_s = (session.began_ns or 0) / 1e9
    connections = _count(len(session.connections), "connection")
    yield paint(f"{name}:{peers}, {connections}, {began_s:.3f} to {session.last_ns / 1e9:.3f} s", "type")
    for from_dialer, arrow in ((True, ">"), (False, "<")):
        yield f"  {arrow} {_count(session.frames[from_dialer], 'frame')}, {session.wire_bytes[from_dialer]} bytes"
    yield from _streams(session)
    yield from _kinds(session)
    yield from _rounds(session)
    yield from _moves(session, moments)
    yield from _faults(session, paint)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "    ") -> Iterator[str]:
    """Columns that are as wide as what is in them; those that hold numbers are aligned to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    to_right = [all(_numeric(row[column]) for row in rows) for column in range(len(head))]
    for row in (head, *rows):
        cells = zip(row, widths, to_right, strict=True)
        yield (
            indent + "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells)
        ).rstrip()


def _numeric(cell: str) -> bool:
    return not cell.strip("-0123456789.,")


def _streams(session: SessionSummary) -> Iterator[str]:
    if not session.streams:
        return
    yield "  streams"
    head = ("id", "", "kind", "at s", "s", "wire bytes", "raw bytes", "chunks", "MB/s", "ended", "attributes")
    shown = list(session.streams.values())[:_STREAMS_SHOWN]
    yield from table(head, [_stream(stream) for stream in shown])
    left = len(session.streams) - len(shown) + session.streams_left_out
    if left:
        yield f"    and {_count(left, 'stream')} more"


def _stream(stream: StreamSummary) -> tuple[str, ...]:
    return (
        str(stream.id),
        ">" if stream.from_dialer else "<",
        stream.kind,
        f"{stream.began_ns / 1e9:.3f}",
        f"{stream.seconds:.3f}",
        str(stream.wire_bytes),
        str(stream.raw_bytes),
        str(stream.chunks),
        _megabytes(stream.bytes_per_s),
        printable(stream.outcome),
        shown_value(stream.attributes, 60) if stream.attributes else "",
    )


def _megabytes(rate: float | None) -> str:
    return "-" if rate is None else f"{rate / 1e6:.2f}"


def by_kind_and_codec(session: SessionSummary) -> Counter[tuple[str, str]]:
    """Bytes on the wire."""
    found: Counter[tuple[str, str]] = Counter()
    for stream in session.streams.values():
        for codec, size in stream.wire_by_codec.items():
            found[stream.kind, codec] += size
    return found


def _kinds(session: SessionSummary) -> Iterator[str]:
    sizes = by_kind_and_codec(session)
    if not sizes:
        return
    yield "  bytes by kind and codec"
    kinds = sorted({kind for kind, _ in sizes})
    codecs = sorted({codec for _, codec in sizes})
    head = ("kind", *codecs, "wire bytes", "raw bytes", "MB/s")
    yield from table(head, [_kind(session, kind, codecs, sizes) for kind in kinds])


def _kind(session: SessionSummary, kind: str, codecs: list[str], sizes: Counter[tuple[str, str]]) -> tuple[str, ...]:
    streams = [stream for stream in session.streams.values() if stream.kind == kind]
    wire_bytes = sum(stream.wire_bytes for stream in streams)
    seconds = (max(s.last_ns for s in streams) - min(s.began_ns for s in streams)) / 1e9
    return (
        kind,
        *(str(sizes[kind, codec]) for codec in codecs),
        str(wire_bytes),
        str(sum(stream.raw_bytes for stream in streams)),
        _megabytes(wire_bytes / seconds if seconds > 0 else None),
    )


def _rounds(session: SessionSummary) -> Iterator[str]:
    rounds = rounds_of(session)
    if not rounds:
        return
    yield "  rounds"
    head = ("round", "at s", "s", "memory wire", "memory raw", "trees wire")
    yield from table(
        head,
        [
            (
                each.name,
                f"{each.began_ns / 1e9:.3f}",
                f"{each.seconds:.3f}",
                str(each.memory_wire_bytes),
                str(each.memory_raw_bytes),
                str(each.tree_wire_bytes),
            )
            for each in rounds
        ],
    )


def _moves(session: SessionSummary, moments: Moments) -> Iterator[str]:
    if not session.milestones:
        return
    yield "  messages"
    for each in session.milestones:
        told = f" {printable(each.told)}" if each.told else ""
        yield f"    {each.at_ns / 1e9:10.3f} {'>' if each.from_dialer else '<'} {each.name:<8} {each.move[:8]}{told}"
    if moments.frozen_ns is not None:
        told = f"  frozen at {moments.frozen_ns / 1e9:.3f} s"
        told += "" if moments.go_ns is None else f", GO after {(moments.go_ns - moments.frozen_ns) / 1e9:.3f} s"
        told += "" if moments.frozen_s is None else f", STARTED after {moments.frozen_s:.3f} s"
        yield told


def _faults(session: SessionSummary, paint: Painter) -> Iterator[str]:
    if session.silences:
        told = ", ".join(f"{silence.seconds:.3f} s from {silence.at_ns / 1e9:.3f}" for silence in session.silences)
        yield f"  longest gaps: {told}"
    if session.again_frames:
        yield f"  content that had passed before: {_count(session.again_frames, 'frame')}, {session.again_bytes} bytes"
    if not session.faults:
        yield "  violations: none"
        return
    yield paint("  violations", "error")
    for fault in session.faults[:_FAULTS_SHOWN]:
        who = "dialer" if fault.from_dialer else "acceptor"
        where = f" on connection {fault.connection}" if fault.connection else ""
        yield paint(
            f"    {fault.at_ns / 1e9:10.3f} {printable(fault.code)}: {who}{where}: {printable(fault.reason)}", "error"
        )
    left = len(session.faults) + session.faults_left_out - _FAULTS_SHOWN
    if left > 0:
        yield f"    and {left} more"


def _codecs(analysis: Analysis, paint: Painter) -> Iterator[str]:
    rows = analysis.codecs.rows()
    if not rows:
        return
    yield paint("codecs that the daemon chose", "type")
    head = ("kind", "chosen", "chunks", "raw bytes", "rate, least B/s", "rate, most B/s", "did not shrink")
    body = [
        (row.kind, row.chosen, str(row.chunks), str(row.raw_bytes), *map(_rate, row.rates), str(row.unshrunk))
        for row in rows
    ]
    yield from table([*head], [[printable(cell) for cell in cells] for cells in body])
    yield ""


def _rate(rate: int | None) -> str:
    return "-" if rate is None else str(rate)


def _notes(analysis: Analysis, paint: Painter) -> Iterator[str]:
    if not analysis.notes:
        return
    yield paint("what the daemon did", "type")
    for note in analysis.notes[:_NOTES_SHOWN]:
        told = " ".join(f"{printable(name)}={shown_value(value, 100)}" for name, value in note.data.items())
        yield f"  {note.at_ns / 1e9:10.3f} {printable(note.name)} {told}"
    left = len(analysis.notes) + analysis.notes_left_out - _NOTES_SHOWN
    if left > 0:
        yield f"  and {left} more: `hopwire dump` shows all"
