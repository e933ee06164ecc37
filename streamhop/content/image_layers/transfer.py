"""At the source: reads an image's layers out of one ``docker save``."""

from __future__ import annotations

from collections.abc import AsyncIterator

from streamhop.engine.docker import Engine

from .archive import saved
from .description import ImageDescription
from .errors import ImageError


async def read_layers(
    engine: Engine, image: ImageDescription, wanted: frozenset[str]
) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
    """Yield the digest and the content of each layer in ``wanted``, in the order in which the engine saves them.

    The content comes in pieces of at most 256 KiB and must be read before the next layer is asked for; what is left
    of it then is skipped. No more than a piece is held in memory.

    :raises ImageError: the engine's image lacks a layer, or has another in its place.
    :raises EngineError: Docker does not answer.
    """
    sizes = {layer.digest: layer.size for layer in image.layers}
    missing = {digest for digest in wanted if digest in sizes}
    if not missing:
        return
    async with saved(engine, image.id) as reader:
        while missing and (entry := await reader.next_entry()) is not None:
            digest = entry.digest
            if digest is None or digest not in missing:
                continue
            if entry.size != sizes[digest]:
                raise ImageError(f"layer {digest[:19]} has {entry.size} bytes now instead of {sizes[digest]}")
            missing.discard(digest)
            yield digest, reader.content()
    if missing:
        raise ImageError(f"the engine's image lacks layer {min(missing)[:19]} now: was it removed?")
