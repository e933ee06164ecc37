"""The digest of a checkpoint image: both sides compute it, and nothing starts unless they agree.

BLAKE3 (32 bytes) over the *logical* image, wherever its pages are kept. Numbers are unsigned, little-endian, 64 bits;
names are ASCII behind their length. In this order::

    "streamhop image 1\\n"
    for each pagemap-*.img, by name:        "P" name, pages in all, their bytes in the order of the pagemap
    for each other and pagemap file, by name: "F" name, size, bytes
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from blake3 import blake3

_NUMBER = struct.Struct("<Q")
_READ_BYTES = 1024 * 1024
_PREFIX = b"streamhop image 1\n"


class ImageDigest:
    """Feed pages first, object by object, then files; both sorted by name."""

    def __init__(self) -> None:
        # One thread: more cost twice the CPU at these sizes and gain nothing on a host of two cores
        self._hasher = blake3(_PREFIX)

    def begin_pages(self, file_name: str, pages: int) -> None:
        """``pages`` pages of the pagemap ``file_name`` follow, through :meth:`update`."""
        self._header(b"P", file_name, pages)

    def update(self, data: memoryview) -> None:
        """The next pages."""
        self._hasher.update(data)

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
