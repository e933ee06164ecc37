"""Blocks of files that an earlier attempt has brought to the target, found again by their hashes.

The rounds of an attempt are written to files as they arrive. The next one goes through those, cuts the content in them
into blocks and puts each once into one file, the *pack*: length and bytes, one block after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from streamhop_protocol.errors import IntegrityError, ProtocolError
from streamhop_protocol.held_pages import encode_held_blocks
from streamhop_protocol.tree_entries import ContentRecord
from streamhop_protocol.tree_records import RecordReader

from .blocks import BLOCK_BYTES, blocks_of, hash_of

LENGTH_BYTES = 4
"""In front of each chunk of a round, and of each block of a pack."""

CHUNK_BYTES_MAX = 1 << 20

BLOCKS_MAX = 1 << 18
"""Blocks that are remembered: 16 GiB of large files, some 50 MB of memory."""

TOLD_AT_ONCE = 4096

_PACK = "pack"


class HeldBlocks:
    """What an earlier attempt has left, and where the rounds of this one go.

    :param directory: made if need be.
    :param bytes_max: most bytes of blocks that are taken from an earlier attempt.
    :raises OSError: it cannot be read or written.
    """

    def __init__(self, directory: Path, bytes_max: int) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._places: dict[bytes, tuple[int, int]] = {}
        """Offset in the pack and length of each block."""
        directory.mkdir(mode=0o700, exist_ok=True)
        self._repack()

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._places)

    def round_file(self, tree: int, number: int) -> Path:
        """Where a round of this attempt goes: chunks, each after its length in four bytes."""
        return self._directory / f"round-{tree}-{number}"

    def told(self) -> Iterator[tuple[dict[str, object], bytes]]:
        """The hashes as chunks of a ``held`` stream: map and bytes."""
        names = list(self._places)
        for at in range(0, len(names), TOLD_AT_ONCE):
            some = names[at : at + TOLD_AT_ONCE]
            yield encode_held_blocks(len(some)), b"".join(some)

    def read(self, name: bytes, length: int) -> memoryview:
        """The block of a hash.

        :raises IntegrityError: there is none, or not of that length, or it is not what it was.
        :raises OSError: it cannot be read.
        """
        place = self._places.get(name)
        if place is None or place[1] != length:
            raise IntegrityError("a reference to a block that is not here")
        with (self._directory / _PACK).open("rb") as file:
            file.seek(place[0])
            block = file.read(length)
        if hash_of(block) != name:
            raise IntegrityError("a block that was kept has changed on disk")
        return memoryview(block)

    def _repack(self) -> None:
        """Put the blocks of an earlier pack and of its rounds into a new pack."""
        pack, fresh = self._directory / _PACK, self._directory / f"{_PACK}.new"
        rounds = sorted(self._directory.glob("round-*"))
        with fresh.open("wb") as file:
            # What came last first: if not all of it finds room, the oldest is of the least use.
            for path in rounds:
                for block in _blocks_of_round(path):
                    self._add(file, block)
            if pack.exists():
                for kept in chunks_of(pack, BLOCK_BYTES):
                    self._add(file, memoryview(kept))
        fresh.replace(pack)
        for path in rounds:
            path.unlink()

    def _add(self, file: BinaryIO, block: memoryview) -> None:
        name = hash_of(block)
        if name in self._places or len(self._places) >= BLOCKS_MAX or file.tell() + len(block) > self._bytes_max:
            return
        file.write(len(block).to_bytes(LENGTH_BYTES, "big"))
        self._places[name] = file.tell(), len(block)
        file.write(block)


def chunks_of(path: Path, bytes_max: int = CHUNK_BYTES_MAX) -> Iterator[bytes]:
    """The chunks of a file that holds each after its length; one that is cut off at the end is left out."""
    with path.open("rb") as file:
        while len(head := file.read(LENGTH_BYTES)) == LENGTH_BYTES:
            length = int.from_bytes(head, "big")
            if length > bytes_max or len(chunk := file.read(length)) < length:
                return
            yield chunk


def _blocks_of_round(path: Path) -> Iterator[memoryview]:
    """Blocks of the files in a round, up to where it broke off."""
    reader = RecordReader()
    with contextlib.suppress(ProtocolError):
        for chunk in chunks_of(path):
            for record in reader.feed(chunk):
                if isinstance(record, ContentRecord):
                    for _, block in blocks_of(record.offset, record.data):
                        yield block
