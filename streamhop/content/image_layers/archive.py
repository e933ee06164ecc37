"""Reads what ``docker save`` writes while it is being written. Holds one piece in memory, whatever the image's size."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

from streamhop.engine.docker import Engine
from streamhop_protocol.errors import LimitError, MalformedError
from streamhop_protocol.windows import CHUNK_BYTES_FITTING

from .errors import ImageError
from .tar_headers import BLOCK_BYTES, TarHeader, check_extension, padding, parse_header, parse_pax

CHUNK_BYTES_MAX = CHUNK_BYTES_FITTING
"""Content is handed on in pieces of this size, the last one excepted: on a fast link each costs the same work."""

_BLOB_PREFIX = "blobs/sha256/"


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A regular file in an archive."""

    name: str
    size: int

    @property
    def digest(self) -> str | None:
        """The digest that the file's name claims for it; None if it is not a blob of an OCI layout."""
        if not self.name.startswith(_BLOB_PREFIX):
            return None
        return f"sha256:{self.name.removeprefix(_BLOB_PREFIX)}"


def blob_path(digest: str) -> str:
    """Where an OCI layout has the blob ``digest``."""
    return _BLOB_PREFIX + digest.removeprefix("sha256:")


class ArchiveReader:
    """Goes through an archive once.

    Call :meth:`next_entry` until it returns None. Between two calls the entry's content can be read by
    :meth:`content` or :meth:`read`; what is not read is skipped.

    :param chunks: the archive, in pieces of any size.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self._content_left = 0
        self._padding_left = 0

    async def next_entry(self) -> ArchiveEntry | None:
        """Skip to the next regular file.

        :raises ImageError: this is not an archive, or it ends early.
        """
        try:
            return await self._next_entry()
        except (MalformedError, LimitError) as error:
            raise ImageError(f"what the engine saved cannot be read: {error}") from error

    async def _next_entry(self) -> ArchiveEntry | None:
        name: str | None = None
        size: int | None = None
        while True:
            await self._skip(self._content_left + self._padding_left)
            header = parse_header(await self._exactly(BLOCK_BYTES))
            if header is None:
                # Two blocks of zeros end an archive. What may follow must be read all the same, or the engine
                # would take the connection for broken.
                self._content_left = self._padding_left = 0
                while await self._more():
                    self._chunk = memoryview(b"")
                return None
            if header.kind in (b"x", b"L"):
                content = await self._extension(header)
                if header.kind == b"L":
                    name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
                    continue
                records = parse_pax(content)
                name = records.get("path", name)
                if (text := records.get("size")) is not None:
                    if not text.isascii() or not text.isdigit() or len(text) > 19:
                        raise MalformedError("the size in an extended header is not a number")
                    size = int(text)
                continue
            if size is not None:
                header = replace(header, size=size)
            self._content_left, self._padding_left = header.size, padding(header.size)
            if header.is_file:
                return ArchiveEntry(name=name or header.name, size=header.size)
            name = size = None

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the present entry's content in pieces of :data:`CHUNK_BYTES_MAX` bytes; the last may be shorter."""
        pieces: list[memoryview] = []
        room = CHUNK_BYTES_MAX
        while self._content_left:
            if not await self._more():
                raise ImageError("what the engine saved ends in the middle of a file")
            piece = self._chunk[: min(self._content_left, room)]
            self._chunk = self._chunk[len(piece) :]
            self._content_left -= len(piece)
            pieces.append(piece)
            room -= len(piece)
            if not room or not self._content_left:
                yield b"".join(pieces)
                pieces, room = [], CHUNK_BYTES_MAX

    async def read(self, bytes_max: int) -> bytes:
        """All of the present entry's content.

        :raises ImageError: it is larger than ``bytes_max``.
        """
        if self._content_left > bytes_max:
            raise ImageError(f"a document of the image has {self._content_left} bytes, at most {bytes_max} allowed")
        return b"".join([piece async for piece in self.content()])

    async def _extension(self, header: TarHeader) -> bytes:
        check_extension(header)
        content = await self._exactly(header.size)
        self._content_left, self._padding_left = 0, padding(header.size)
        return content

    async def _more(self) -> bool:
        """Have at least one byte in hand; False at the end."""
        while not self._chunk:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return False
            self._chunk = memoryview(chunk)
        return True

    async def _exactly(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            if not await self._more():
                raise ImageError("what the engine saved ends early")
            piece = self._chunk[: count - len(content)]
            self._chunk = self._chunk[len(piece) :]
            content += piece
        return bytes(content)

    async def _skip(self, count: int) -> None:
        while count:
            if not await self._more():
                raise ImageError("what the engine saved ends early")
            piece = self._chunk[:count]
            self._chunk = self._chunk[len(piece) :]
            count -= len(piece)
        self._content_left = self._padding_left = 0


@contextlib.asynccontextmanager
async def saved(engine: Engine, image_id: str) -> AsyncIterator[ArchiveReader]:
    """Read what ``docker save`` gives for an image; the engine is told to stop at the end of the block.

    :raises EngineError: Docker does not answer.
    """
    chunks = engine.save_image(image_id)
    try:
        yield ArchiveReader(chunks)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
