"""Dumps made by hand, and a reader that looks pages up as CRIU does."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from streamhop.content.memory import FinalImage, PageBatch
from streamhop.content.memory.criu_pagemap import (
    IN_PARENT,
    LAZY,
    PRESENT,
    PagemapEntry,
    encode_pagemap,
    entries,
    pages_file_id,
)
from streamhop.content.memory.image_digest import BLOCK_PAGES, ImageDigest, block_digest
from streamhop.content.memory.protobuf import fields, varint

PAGE = 4096

Pages = Mapping[int, bytes]
"""Content by page index."""


def page(seed: int) -> bytes:
    """A page that differs from that of any other seed."""
    return seed.to_bytes(8, "big") * (PAGE // 8)


ZERO_PAGE = bytes(PAGE)


def write_dump(directory: Path, objects: Mapping[str, Pages], other: Mapping[str, bytes] | None = None) -> None:
    """Write what CRIU would write for these objects, and other files."""
    directory.mkdir(exist_ok=True)
    for number, (name, pages) in enumerate(objects.items(), start=1):
        (directory / f"{name}.img").write_bytes(encode_pagemap(number, runs_of(pages), PAGE))
        (directory / f"pages-{number}.img").write_bytes(b"".join(pages[index] for index in sorted(pages)))
    for name, content in (other or {}).items():
        (directory / name).write_bytes(content)


def digest_of(directory: Path) -> bytes:
    """The digest of what :func:`write_dump` has written, straight from its definition."""
    digest = ImageDigest()
    for path in sorted(directory.glob("pagemap-*.img")):
        content = path.read_bytes()
        found = list(entries(content, PAGE))
        pages = (directory / f"pages-{pages_file_id(content)}.img").read_bytes()
        digest.begin_pages(path.name, sum(entry.pages for entry in found))
        blocks: dict[int, list[bytes]] = {}
        indices = (index for entry in found for index in range(entry.first, entry.first + entry.pages))
        for at, index in enumerate(indices):
            blocks.setdefault(index // BLOCK_PAGES, []).append(pages[at * PAGE : (at + 1) * PAGE])
        for block in sorted(blocks):
            digest.add_block(block_digest(b"".join(blocks[block])))
    names = {path.name for path in directory.glob("*.img") if not path.name.startswith("pages-")}
    names |= {"descriptors.json"} & {path.name for path in directory.iterdir()}
    digest.files([directory / name for name in sorted(names)])
    return digest.digest()


class PlayedCriu:
    """Sends pages as CRIU does, in a thread of its own; hangs up in the end.

    :param header_bytes: 24 up to CRIU 4.1, 32 from 4.2 on.
    """

    def __init__(self, play: Callable[[PlayedCriu], None], header_bytes: int = 32) -> None:
        self._layout = {24: "=IIQQ", 32: "=I4xQQQ"}[header_bytes]
        self._own, self.connection = socket.socketpair()
        self._own.settimeout(10)
        self.error: OSError | None = None
        self._thread = threading.Thread(target=self._run, args=(play,))
        self._thread.start()

    def _run(self, play: Callable[[PlayedCriu], None]) -> None:
        try:
            play(self)
        except OSError as error:
            self.error = error
        finally:
            self._own.close()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()

    def command(self, command: int, pages: int = 0, address: int = 0, number: int = 0) -> None:
        self._own.sendall(struct.pack(self._layout, command, pages, address, number))

    def raw(self, data: bytes) -> None:
        self._own.sendall(data)

    def answer(self, size: int) -> bytes:
        answer = self._own.recv(size, socket.MSG_WAITALL)
        if len(answer) < size:
            raise ConnectionResetError("the page server does not answer")
        return answer

    def open(self, name: str) -> int:
        kind = 2 if "shmem" in name else 1
        number = int(name.rpartition("-")[2]) << 8 | kind
        self.command(4, number=number)
        assert self.answer(1) == b"\0"
        return number

    def objects(self, objects: Mapping[str, Pages], *, closes: bool = True) -> None:
        """A whole dump."""
        for name, pages in objects.items():
            number = self.open(name)
            for first, count, flags in runs_of(pages):
                self.command(6 | flags << 16, count, first * PAGE, number)
                self.raw(b"".join(pages[index] for index in range(first, first + count)))
        if closes:
            self.command(0x1024)
            assert self.answer(4) == bytes(4)


def take_dump(image: FinalImage, objects: Mapping[str, Pages], header_bytes: int = 32) -> list[PageBatch]:
    """Let ``image`` take a dump of these objects; what of it has to be sent."""
    criu = PlayedCriu(lambda own: own.objects(objects), header_bytes)
    try:
        return list(image.take(criu.connection))
    finally:
        criu.join()


def runs_of(pages: Pages) -> list[PagemapEntry]:
    runs: list[PagemapEntry] = []
    for index in sorted(pages):
        if runs and runs[-1].first + runs[-1].pages == index:
            runs[-1] = runs[-1]._replace(pages=runs[-1].pages + 1)
        else:
            runs.append(PagemapEntry(index, 1, PRESENT | LAZY))
    return runs


def mm_image(*mappings: tuple[int, int, int, int]) -> bytes:
    """An mm image with mappings of (start, end, flags, status) and nothing else."""
    body = b""
    for start, end, flags, status in mappings:
        mapping = b"".join(
            varint(key << 3) + varint(value) for key, value in ((1, start), (2, end), (6, flags), (7, status))
        )
        body += varint(14 << 3 | 2) + varint(len(mapping)) + mapping
    return b"\x19\x43\x56\x54\x20\x28\x49\x57" + len(body).to_bytes(4, "little") + body


class CriuReader:
    """Reads one object of an image directory by the rules of CRIU's criu/pagemap.c.

    Entries are walked forward only; the offset in the pages file is the sum of the present pages passed.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._entries: list[tuple[int, int, int]] = []
        data = (directory / f"{name}.img").read_bytes()
        position, records = 8, []
        while position < len(data):
            length = int.from_bytes(data[position : position + 4], "little")
            records.append(dict(fields(data[position + 4 : position + 4 + length])))
            position += 4 + length
        self._pages = os.open(directory / f"pages-{records[0][1]}.img", os.O_RDONLY)
        for record in records[1:]:
            start, flags, pages = record[1], record[4], record[5]
            assert isinstance(start, int)
            assert isinstance(flags, int)
            assert isinstance(pages, int)
            self._entries.append((start // PAGE, pages, flags))
        self._at = 0
        self._cursor = self._entries[0][0] if self._entries else 0
        self._offset = 0
        link = directory / "parent"
        parent = directory / link.readlink() if link.is_symlink() else None
        self._parent = CriuReader(parent, name) if parent and (parent / f"{name}.img").exists() else None

    def close(self) -> None:
        os.close(self._pages)
        if self._parent:
            self._parent.close()

    def all(self) -> dict[int, bytes]:
        """Every page that the top-level pagemap lists."""
        return {index: self.read(index) for first, pages, _ in self._entries for index in range(first, first + pages)}

    def read(self, index: int) -> bytes:
        flags = self._seek(index)
        self._cursor += 1
        if flags & IN_PARENT:
            assert self._parent is not None
            return self._parent.read(index)
        assert flags & PRESENT
        content = os.pread(self._pages, PAGE, self._offset)
        assert len(content) == PAGE
        self._offset += PAGE
        return content

    def _seek(self, index: int) -> int:
        while True:
            first, pages, flags = self._entries[self._at]
            assert index >= self._cursor
            end = first + pages
            skipped = min(index, end) - self._cursor
            self._cursor += skipped
            if flags & PRESENT:
                self._offset += skipped * PAGE
            if index < end:
                return flags
            self._at += 1
            self._cursor = self._entries[self._at][0]


def read_as_criu(directory: Path, name: str) -> dict[int, bytes]:
    """All pages of an object, as CRIU would restore them from ``directory``."""
    reader = CriuReader(directory, name)
    try:
        return reader.all()
    finally:
        reader.close()
