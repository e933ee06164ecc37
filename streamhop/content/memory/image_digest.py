"""The digest of a checkpoint image: both sides compute it, and nothing starts unless they agree.

BLAKE3 (32 bytes) over the *logical* image, wherever its pages are kept. Pages count by *blocks*: :data:`BLOCK_PAGES`
places of an object, aligned. So a target can take most of it before the last pages are here, and what a change costs
is the digest of its block. Numbers are unsigned, little-endian, 64 bits; names are ASCII behind their length. In this
order::

    "streamhop image 2\\n"
    for each pagemap-*.img, by name:          "P" name, pages in all; for each block that it has pages of, ascending:
                                              BLAKE3 (32 bytes) of these pages, ascending
    for each other and pagemap file, by name: "F" name, size, bytes

Which pages there are, the pagemap files tell.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from blake3 import blake3

BLOCK_PAGES = 128
"""512 KiB: some 70 bytes a MiB to keep, and large enough for the hash's full speed."""

_NUMBER = struct.Struct("<Q")
_READ_BYTES = 1024 * 1024
_PREFIX = b"streamhop image 2\n"


def block_digest(data: bytes | memoryview) -> bytes:
    """The digest of one block's pages."""
    # One thread: more cost twice the CPU at these sizes and gain nothing on a host of two cores
    return bytes(blake3(data).digest())


class ImageDigest:
    """Feed pages first, object by object, then files; both sorted by name."""

    def __init__(self) -> None:
        self._hasher = blake3(_PREFIX)

    def begin_pages(self, file_name: str, pages: int) -> None:
        """The blocks of the pagemap ``file_name``, with ``pages`` pages in all, follow through :meth:`add_block`."""
        self._header(b"P", file_name, pages)

    def add_block(self, digest: bytes) -> None:
        """The next block, by what :func:`block_digest` says of it."""
        self._hasher.update(digest)

    def files(self, paths: list[Path]) -> None:
        """All files of the image but those that hold pages, sorted by name; they are read from ``paths``.

        :raises OSError: a file cannot be read.
        """
        for path in paths:
            with path.open("rb") as file:
                left = os.fstat(file.fileno()).st_size
                self._header(b"F", path.name, left)
                while left:
                    content = file.read(min(left, _READ_BYTES))
                    if not content:
                        raise OSError(errno.EIO, "shorter than it was", str(path))
                    self._hasher.update(content)
                    left -= len(content)

    def digest(self) -> bytes:
        """The 32 bytes."""
        return bytes(self._hasher.digest())

    def _header(self, kind: bytes, name: str, size: int) -> None:
        encoded = name.encode("ascii")
        self._hasher.update(kind + _NUMBER.pack(len(encoded)) + encoded + _NUMBER.pack(size))
