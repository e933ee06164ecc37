"""How bringing an image over can fail. A reader of a peer's bytes raises the protocol's errors instead."""

from __future__ import annotations

from streamhop.engine.docker import EngineError


class ImageError(EngineError):
    """The engine's image is not what it should be, or cannot be put together."""


class ImageStoreError(ImageError):
    """This engine's image store gives images other IDs than the source's store does."""
