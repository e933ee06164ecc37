"""A container's image: described and read at the source, collected and loaded at the target.

Layers travel as the source's store has them and are verified by their digests. Layers that the target has are not
sent. The image has the same ID and, where they are free, the same names afterwards.
"""

from .assembler import BlobWriter, ImageAssembler, remove_brought
from .describe import describe
from .description import ImageDescription, LayerDescription
from .errors import ImageError, ImageStoreError
from .held import held_layers
from .transfer import read_layers

__all__ = [
    "BlobWriter",
    "ImageAssembler",
    "ImageDescription",
    "ImageError",
    "ImageStoreError",
    "LayerDescription",
    "describe",
    "held_layers",
    "read_layers",
    "remove_brought",
]
