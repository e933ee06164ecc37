"""Dumps made by hand, and a reader that looks pages up as CRIU does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from streamhop.content.memory import MemorySource
from streamhop.content.memory.criu_pagemap import IN_PARENT, LAZY, PRESENT, PagemapEntry, encode_pagemap
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
    """The digest of a dump."""
    image = MemorySource(1, page_size=PAGE).final(directory)
    image.dumped()
    return image.digest()


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
