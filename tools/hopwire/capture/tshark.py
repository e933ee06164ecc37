"""Has tshark put the TCP connections of a capture together, and take TLS off where it is given the keys.

Why tshark for both, and no Python library for what is in the clear: docs/decisions/0016-two-decoders-and-tshark.md.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hopwire.errors import WireError
from hopwire.escaping import printable

from .pieces import Piece

SCRIPT = Path(__file__).with_name("stream_bytes.lua")
LINE_BYTES_MAX = 256 * 1024 * 1024
"""Of what tshark prints about one packet: two digits a byte of what the packet completes."""

_FIELDS = (
    "frame.time_epoch", "tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport",
    "tcp.flags.syn", "tcp.flags.ack", "tcp.flags.fin", "tcp.flags.reset", "tcp.analysis.lost_segment", "tls",
    "hopwire.data",
)  # fmt: skip
_WANTED = (
    "(hopwire or tcp.flags.syn == 1 or tcp.flags.fin == 1 or tcp.flags.reset == 1 or tcp.analysis.lost_segment "
    "or tls.handshake.type == 1) and not icmp and not icmpv6"
)
"""An ICMP error quotes the beginning of a packet that did not arrive."""


@contextmanager
def pieces_of(capture: Path, keylog: Path | None, port: int) -> Iterator[Iterator[Piece]]:
    """What each packet of a capture adds to a connection of daemons, in the order of the capture.

    :param keylog: secrets of TLS sessions, in the format of NSS.
    :param port: where daemons listen; connections to others are found if they are in the clear or opened by ``keylog``.
    :raises WireError: no tshark; while it is read, what tshark says is wrong with the capture.
    """
    with tempfile.TemporaryDirectory(prefix="hopwire-") as configuration, tempfile.TemporaryFile() as complaints:
        environment = {
            **os.environ,
            "WIRESHARK_CONFIG_DIR": configuration,
        }  # no other dissector, no setting of a user's
        try:
            running = subprocess.Popen(
                _command(capture, keylog, port),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        except FileNotFoundError:
            raise WireError("tshark is not installed; Debian's package is called so, too") from None
        with running:
            try:
                assert running.stdout is not None
                yield _pieces(running, running.stdout, complaints)
            finally:
                running.kill()  # whoever reads may have seen enough


def _command(capture: Path, keylog: Path | None, port: int) -> list[str]:
    options = ["tcp.desegment_tcp_streams:TRUE", "tcp.reassemble_out_of_order:TRUE", "tls.desegment_ssl_records:TRUE"]
    if keylog is not None:
        options.append(f"tls.keylog_file:{keylog}")
    return [
        *("tshark", "-n", "-r", str(capture), "-X", f"lua_script:{SCRIPT}", "-X", f"lua_script1:{port}"),
        *(word for option in options for word in ("-o", option)),
        *("-Y", _WANTED, "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,"),
        *(word for field in _FIELDS for word in ("-e", field)),
    ]


def _pieces(running: subprocess.Popen[bytes], printed: IO[bytes], complaints: IO[bytes]) -> Iterator[Piece]:
    while line := printed.readline(LINE_BYTES_MAX):
        if not line.endswith(b"\n"):
            raise WireError("tshark put more together at once than can be read")
        yield read_line(line.decode("ascii", "replace").rstrip("\n"))
    if running.wait():
        complaints.seek(0)
        told = complaints.read(4096).decode("utf-8", "replace").strip().splitlines()
        raise WireError(f"tshark: {printable(told[-1]) if told else f'exit code {running.returncode}'}")


def read_line(line: str) -> Piece:
    """One line of what tshark prints.

    :raises WireError: it is none, as of a tshark that is not known.
    """
    values = line.split("\t")
    try:
        told = dict(zip(_FIELDS, values, strict=True))
        # Where one packet is inside of another the innermost counts.
        last = {name: value.rpartition(",")[2] for name, value in told.items()}
        seconds, _, fraction = last["frame.time_epoch"].partition(".")
        return Piece(
            at_ns=int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0")),
            stream=int(last["tcp.stream"]),
            source=(last["ipv6.src"] or last["ip.src"], int(last["tcp.srcport"])),
            target=(last["ipv6.dst"] or last["ip.dst"], int(last["tcp.dstport"])),
            data=bytes.fromhex(told["hopwire.data"].replace(",", "")),
            syn=_is_set(last["tcp.flags.syn"]),
            answers=_is_set(last["tcp.flags.ack"]),
            ends=_is_set(last["tcp.flags.fin"]),
            reset=_is_set(last["tcp.flags.reset"]),
            lost=bool(last["tcp.analysis.lost_segment"]),
            tls=bool(last["tls"]),
        )
    except ValueError:
        raise WireError(f"tshark says what cannot be read: {printable(line[:200])}") from None


def _is_set(text: str) -> bool:
    return text in ("1", "True")  # Wireshark 4.2 and later print the word
