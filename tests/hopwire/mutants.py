"""Damaged recordings by the thousand: each is read by every reader, and must end well.

Run by itself it makes as many as are asked for: ``PYTHONPATH=tests/hopwire python -m mutants 100000 [SEED]``.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hopwire_support import MOVE, Wire, a_move, handshake

from hopwire.commands.dump import chosen
from hopwire.dumping.as_json import json_line
from hopwire.dumping.lines import lines_of
from hopwire.errors import FlowError
from hopwire.events import Seen
from hopwire.filtering import compile_filter
from hopwire.flow.reader import FlowReader
from hopwire.flow.recording import seen_in
from hopwire.summary.analysis import Analysis
from hopwire.summary.as_json import as_json
from hopwire.summary.as_text import text_lines
from hopwire.summary.page import html_page
from hopwire.trace import seen_in_trace
from streamhop_protocol.messages import Abort
from streamhop_protocol.signals import Open, Reset

SECONDS_MAX = 2.0
"""Processor time that one mutant may take."""

STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no output may hold: control characters, those that change the direction of text, and halves of characters."""

FILTER = compile_filter("type == PAGES and size > 10 or move ~ 00 or code == x or session == 1 and not broken")

_EXTREMES = [struct.pack(">I", number) for number in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 8 << 20)]
_EVIL = [b"\x1b[2J", b"\x9b31m", b"\x1b]0;x\x07", b"\xe2\x80\xae", b"\r\n", b"\x00", b"\xed\xa0\x80", b"\xc2\x9b"]


def flow_bases() -> list[bytes]:
    """Recordings to damage: a short one with all sorts of records, and two of a whole move."""
    wire = Wire(payload=True)
    handshake(wire)
    wire.say(2, Open("memory", {"round": 1, "tree": "\x1b[1m"}), from_dialer=True, stream=1)
    wire.say(1, Reset("\x1b[2J", "\u202e"), from_dialer=True, stream=1)
    wire.say(1, Abort(MOVE, 1, "x\x07", "\x9b"), from_dialer=True)
    wire.put(2, b"\xff" * 20, from_dialer=True)
    wire.end(1)
    return [wire.finished(), a_move().finished(), a_move(payload=True).finished()[:6000]]


def trace_bases() -> list[bytes]:
    """A trace to damage."""
    made = {"connection": 1, "role": "dialer", "here": "a", "peer": "b\x1b", "tls": True}
    frame = {"connection": 1, "stream": 1, "header": 9, "payload": 100, "flags": 3}
    events: list[tuple[str, dict[str, object]]] = [
        ("wire:connection_made", made),
        ("wire:frame_sent", {**frame, "type": "OPEN", "fields": {"kind": "memory", "attributes": {"round": 0}}}),
        ("wire:frame_sent", {**frame, "type": "DATA", "fields": {"seq": 1, "codec": 2, "raw_bytes": 200}}),
        ("wire:frame_received", {**frame, "type": "ABORT", "fields": {"move": {"hex": "00" * 16}, "code": "\x9b"}}),
        ("wire:broken", {"connection": 1, "code": "flow", "reason": "\x1b[2J"}),
        ("move:phase", {"phase": "freeze"}),
        ("policy:verdict", {"decision": "freeze", "inputs": {"x": [1.5, None, True, "\u202e"]}}),
        ("codec:chosen", {"stream": 1, "kind": "\x1b[m", "codec": "\x9b", "raw_bytes": 5, "rate_bytes_per_s": 7}),
        ("wire:connection_lost", {"connection": 1, "reason": "closed"}),
    ]  # fmt: skip
    lines = [{"trace": "streamhop", "version": 1, "host": "edge-a"}]
    lines += [{"time": number / 10, "name": name, "data": data} for number, (name, data) in enumerate(events)]
    return [b"".join(json.dumps(line).encode() + b"\n" for line in lines)]


def mutate(rnd: random.Random, base: bytes, other: bytes) -> bytes:
    """A damaged copy."""
    data = bytearray(base)
    for _ in range(rnd.randint(1, 4)):
        at = rnd.randrange(len(data) + 1)
        end = min(len(data), at + rnd.choice((1, 4, 16, 200)))
        match rnd.randrange(8):
            case 0 if at < len(data):
                data[at] ^= 1 << rnd.randrange(8)
            case 1 if at < len(data):
                data[at] = rnd.choice((0, 1, 0x7F, 0x80, 0xC1, 0xDD, 0xDF, 0xFF))
            case 2:
                data[at : at + 4] = rnd.choice(_EXTREMES)
            case 3:
                del data[at:end]
            case 4:
                data[at:at] = data[at:end]
            case 5:
                data[at : at + rnd.choice((0, 4))] = rnd.choice(_EVIL)
            case 6:
                data = data[:at] + other[rnd.randrange(len(other)) :]
            case _:
                data[at:end] = rnd.randbytes(end - at)
        if not data:
            break
    return bytes(data[: rnd.randrange(len(data) + 1)]) if rnd.random() < 0.1 else bytes(data)


@dataclass
class Tally:
    """What became of the mutants."""

    whole: int = 0
    refused: int = 0
    events: int = 0
    slowest_s: float = 0.0
    bad: list[str] = field(default_factory=list)


Reader = Callable[[bytes], Iterator[Seen]]


def read_flow(data: bytes) -> Iterator[Seen]:
    """As ``hopwire`` reads a flow file."""
    return seen_in(FlowReader(io.BytesIO(data)))


def read_trace(data: bytes) -> Iterator[Seen]:
    """As ``hopwire`` reads a trace."""
    return seen_in_trace(io.BytesIO(data))


def look(data: bytes, reader: Reader, tally: Tally) -> None:
    """All that ``dump`` and ``show`` would print of a recording; what must not be goes into ``tally.bad``."""
    began = time.process_time()
    shown: list[str] = []
    analysis = Analysis()
    try:
        for seen, roster in chosen(reader(data), None):
            shown += lines_of(seen, roster, verbose=True, hex_bytes_max=64)
            shown.append(json_line(seen, roster, hex_bytes_max=64))
            analysis.take(seen)
            tally.events += 1
        tally.whole += 1
    except FlowError as error:
        shown.append(str(error))
        tally.refused += 1
    analysis.finish()
    shown += text_lines(analysis)
    shown.append(json.dumps(as_json(analysis)))
    shown.append(html_page(analysis, "mutant"))
    try:
        for _ in chosen(reader(data), FILTER):
            pass
    except FlowError:
        pass
    text = "\n".join(shown)
    if found := STEERING.search(text):
        tally.bad.append(f"{found.group()!r} in {text[max(0, found.start() - 40) : found.start() + 40]!r}")
    seconds = time.process_time() - began
    tally.slowest_s = max(tally.slowest_s, seconds)
    if seconds > SECONDS_MAX:
        tally.bad.append(f"{seconds:.1f} s for {len(data)} bytes")


def run(count: int, seed: int) -> Tally:
    """Read so many mutants.

    :raises Exception: whatever a reader raises that is no error of its own; the seed and the number find it again.
    """
    tally = Tally()
    kinds: list[tuple[Reader, list[bytes]]] = [(read_flow, flow_bases()), (read_trace, trace_bases())]
    for number in range(count):
        rnd = random.Random(f"{seed}/{number}")  # noqa: S311 - to be repeated
        reader, bases = kinds[rnd.randrange(4) == 0]
        data = mutate(rnd, rnd.choice(bases), rnd.choice(bases))
        try:
            look(data, reader, tally)
        except Exception as error:
            error.add_note(f"mutant {number} of seed {seed}")
            raise
    return tally


if __name__ == "__main__":
    done = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    sys.stdout.write(
        f"{done.whole} read whole, {done.refused} refused, {done.events} events, slowest {done.slowest_s:.3f} s, "
        f"{len(done.bad)} bad\n" + "".join(f"{line}\n" for line in done.bad[:20])
    )
    sys.exit(1 if done.bad else 0)
