"""One file over a session of the protocol, and nothing else. Runs in the hosts; with or without TLS.

``receive FILE [IDENTITY PEER]`` says ``ready`` and serves one session after the other, each file over the one before;
``send HOST FILE [IDENTITY PEER [DIGEST]]`` prints the seconds from dialing until the target has all of it, and the
processor time of both ends in them. ``send-held`` is the same for a file that the program has read before it dials.
IDENTITY is the directory of a device's certificate, PEER the certificate of the other side, DIGEST what FILE is offered
as.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import uvloop

from streamhop.heap import reuse_memory
from streamhop.identity import load_or_create
from streamhop.net import (
    KnownPeer,
    NetConfig,
    PeerSession,
    Security,
    SessionLost,
    client_context,
    dial,
    serve,
    server_context,
)
from streamhop_protocol.messages import StreamKind
from streamhop_protocol.windows import CHUNK_BYTES_FITTING

PORT = 7501
NO_DIGEST = "sha256:" + "0" * 64


def say(line: str) -> None:
    """Print a line for whoever has started the program."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def security_of(identity: Path, peer: Path, *, server: bool) -> Security:
    """What lets the device of ``identity`` (a directory) and the one with the certificate ``peer`` trust each other."""
    own, pem = load_or_create(identity), peer.read_text()
    expected = ssl.PEM_cert_to_DER_cert(pem)
    context = (server_context if server else client_context)(own.certificate, own.key, pem)
    return Security(context, lambda certificate: KnownPeer("peer", "peer") if certificate == expected else None)


async def receive(target: Path, security: Security | None) -> None:
    """Take files for ever."""

    async def on_session(session: PeerSession) -> None:
        began_cpu_s = time.process_time()
        size = 0
        try:
            stream = await session.accept_stream()
            with target.open("wb", buffering=0) as file:
                async for chunk in stream:
                    size += file.write(chunk.data)
            await stream.done({"bytes": size, "cpu_s": time.process_time() - began_cpu_s})
            await session.receive()  # the other side ends it
        except SessionLost:
            pass

    async with await serve("0.0.0.0", PORT, NetConfig(), name="target", on_session=on_session, security=security):  # noqa: S104
        say("ready")
        await asyncio.Event().wait()


def _pieces(source: Path) -> Iterator[bytes | memoryview]:
    with source.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK_BYTES_FITTING):
            yield piece


def _held_pieces(source: Path) -> Iterable[bytes | memoryview]:
    content = memoryview(source.read_bytes())
    return [content[at : at + CHUNK_BYTES_FITTING] for at in range(0, len(content), CHUNK_BYTES_FITTING)]


async def send(
    host: str, pieces: Iterable[bytes | memoryview], security: Security | None, digest: str = NO_DIGEST
) -> None:
    """Send what makes up one file; what it took is printed.

    :param digest: of the file, if the target asks for it.
    """
    began, began_cpu_s = time.monotonic(), time.process_time()
    async with await dial(host, PORT, NetConfig(), name="source", security=security) as session:
        stream = await session.open_stream(StreamKind.LAYER, {"digest": digest, "offset": 0})
        for piece in pieces:
            await stream.write(piece)
        taken = await stream.finish()
        seconds, cpu_s = time.monotonic() - began, time.process_time() - began_cpu_s
    said = {"seconds": seconds, "cpu_s": cpu_s + taken.get("cpu_s", 0.0), "bytes": taken.get("bytes")}
    say(json.dumps({**said, "wire_bytes": stream.wire_bytes, "codecs": stream.wire_bytes_by_codec}))


def main() -> None:
    """Entry of the program."""
    command, *words = sys.argv[1:]
    server = command == "receive"
    names = words[: 1 if server else 2]
    rest = words[len(names) :]
    reuse_memory()  # as the daemon does
    security = security_of(Path(rest[0]), Path(rest[1]), server=server) if rest else None
    if server:
        uvloop.run(receive(Path(names[0]), security))
    else:
        pieces = (_held_pieces if command == "send-held" else _pieces)(Path(names[1]))
        uvloop.run(send(names[0], pieces, security, *rest[2:]))


if __name__ == "__main__":
    main()
