"""Takes one layer over a session, as a move does, and nothing else; runs inside a host.

``IDENTITY PEER SPOOL LAYER`` serves one ``send`` of :mod:`hopbench.inside.file_session` after the other: what that one
takes for sent was verified here, and is in its place.

IDENTITY is a directory, made if need be; PEER the certificate of the other side, PEM; LAYER a JSON file with the
layer's ``digest`` and ``size``.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import uvloop

from hopbench.inside.file_session import PORT, say, security_of
from streamhop.content.image_layers import ImageAssembler
from streamhop.content.image_layers.description import ImageDescription, LayerDescription
from streamhop.content.memory import PageStore
from streamhop.content.trees import HeldBlocks
from streamhop.handover.receiving import Receiver
from streamhop.heap import reuse_memory
from streamhop.net import NetConfig, PeerSession, SessionLost, serve


def _layer(described: Path) -> LayerDescription:
    fields = json.loads(described.read_text())
    return LayerDescription(digest=fields["digest"], diff_id=fields["digest"], size=fields["size"])


async def receive(identity: Path, peer: Path, spool: Path, described: Path) -> None:
    """Take one layer in each session; the file of the one before is removed, that of the last stays."""

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

    security = security_of(identity, peer, server=True)
    async with await serve("0.0.0.0", PORT, NetConfig(), name="target", on_session=on_session, security=security):
        say("ready")
        await asyncio.Event().wait()


if __name__ == "__main__":
    reuse_memory()  # as the daemon does
    uvloop.run(receive(*map(Path, sys.argv[1:])))
