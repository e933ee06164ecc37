"""Moves one layer between two hosts over a session, as a move does, and nothing else; runs inside the hosts.

``receive IDENTITY PEER SPOOL LAYER`` serves one session after the other; ``send IDENTITY PEER HOST FILE LAYER`` dials
one and says how many seconds it took from then until the layer was verified and in its place.

IDENTITY is a directory, made if need be; PEER the certificate of the other side, PEM; LAYER a JSON file with the
layer's ``digest`` and ``size``.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import sys
import time
from pathlib import Path

import uvloop

from streamhop.content.image_layers import ImageAssembler
from streamhop.content.image_layers.archive import CHUNK_BYTES_MAX
from streamhop.content.image_layers.description import ImageDescription, LayerDescription
from streamhop.content.memory import PageStore
from streamhop.content.trees import HeldBlocks
from streamhop.handover.receiving import Receiver
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
from streamhop.net.security import Who
from streamhop_protocol.messages import StreamKind

PORT = 7500


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _layer(described: Path) -> LayerDescription:
    fields = json.loads(described.read_text())
    return LayerDescription(digest=fields["digest"], diff_id=fields["digest"], size=fields["size"])


def _who(pem: str) -> Who:
    expected = ssl.PEM_cert_to_DER_cert(pem)
    return lambda certificate: KnownPeer("peer", "peer") if certificate == expected else None


async def receive(identity: Path, peer: Path, spool: Path, described: Path) -> None:
    """Take one layer in each session; the file of the one before is removed, that of the last stays."""
    own = load_or_create(identity)
    pem = peer.read_text()

    async def on_session(session: PeerSession) -> None:
        shutil.rmtree(spool, ignore_errors=True)
        spool.mkdir()
        layer = _layer(described)
        image = ImageDescription(id=layer.digest, store="classic", names=(), layers=(layer,), config=b"")
        receiver = Receiver(
            ImageAssembler(spool / "layers", image),
            frozenset({layer.digest}),
            PageStore(spool / "pages", 4096, quota_bytes=1 << 20),
            (),
            spool,
            0,
            HeldBlocks(spool / "blocks", 0),
        )
        try:
            await receiver.receive(session)
        except* SessionLost:
            pass

    security = Security(server_context(own.certificate, own.key, pem), _who(pem))
    async with await serve("0.0.0.0", PORT, NetConfig(), name="target", on_session=on_session, security=security):
        _say("ready")
        await asyncio.Event().wait()


async def send(identity: Path, peer: Path, host: str, file: Path, described: Path) -> None:
    """Send the file as one layer, in pieces as they come out of an image."""
    own = load_or_create(identity)
    pem = peer.read_text()
    layer = _layer(described)
    security = Security(client_context(own.certificate, own.key, pem), _who(pem))
    began = time.monotonic()
    async with await dial(host, PORT, NetConfig(), name="source", security=security) as session:
        stream = await session.open_stream(StreamKind.LAYER, {"digest": layer.digest, "offset": 0})
        with file.open("rb", buffering=0) as content:
            while piece := content.read(CHUNK_BYTES_MAX):
                await stream.write(piece)
        await stream.finish()
    seconds = time.monotonic() - began
    _say(json.dumps({"seconds": seconds, "wire_bytes": stream.wire_bytes, "codecs": stream.wire_bytes_by_codec}))


if __name__ == "__main__":
    reuse_memory()  # as the daemon does
    if sys.argv[1] == "receive":
        uvloop.run(receive(*map(Path, sys.argv[2:])))
    else:
        own_dir, peer_pem, host_name, *paths = sys.argv[2:]
        uvloop.run(send(Path(own_dir), Path(peer_pem), host_name, *map(Path, paths)))
