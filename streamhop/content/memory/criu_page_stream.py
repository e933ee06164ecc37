"""Takes pages from CRIU while it dumps, by the protocol that it speaks to a page server.

CRIU (option ``page-server`` with ``ps-socket``) sends no pages into files then, but commands over a socket, each a
header in the host's byte order, and behind the header of pages the pages themselves. The header's layout is told by its
size, which shows because CRIU waits for an answer to its first command::

    up to CRIU 4.1: u32 command, u32 pages, u64 address, u64 object           (24 bytes)
    from CRIU 4.2:  u32 command, 4 bytes unused, u64 pages, u64 address, u64 object  (32 bytes)

An object is ``id << 8 | type``: 1 for a process, 2 for a shared mapping. The upper half of the command word of pages
holds the flags of a pagemap entry. Source: CRIU's criu/page-xfer.c.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from streamhop_protocol.errors import MalformedError

from .criu_pagemap import LAZY, PRESENT, PagemapEntry

_LAYOUTS = {24: struct.Struct("=IIQQ"), 32: struct.Struct("=I4xQQQ")}

_OPEN = 4
_HAS_PARENT = 5
_PAGES = 6
_CLOSE, _FORCE_CLOSE = 0x1023, 0x1024
_COMMAND_BITS = 16
_COMMAND_MASK = (1 << _COMMAND_BITS) - 1

_NO_PARENT_SHORT, _NO_PARENT = b"\0", bytes(4)
_ALL_TAKEN = bytes(4)

_OBJECT_NAMES = {1: "pagemap-{}", 2: "pagemap-shmem-{}"}
_TYPE_BITS = 8

_DRAIN_BYTES = 512 * 1024


class CriuPageStream:
    """One dump's pages, in the order in which CRIU sends them; blocks. What is not read is skipped.

    :param connection: CRIU's end is its ``ps-socket``.
    :param page_size: bytes of a page.
    """

    def __init__(self, connection: socket.socket, page_size: int) -> None:
        self._connection = connection
        self._page_size = page_size
        self._layout: struct.Struct | None = None
        self._object = 0
        self._unread_bytes = 0
        self._over = False
        self.complete = False
        """Whether CRIU has said that these were all."""

    def __iter__(self) -> Iterator[str | PagemapEntry]:
        """Yield the name of each memory object, then its pages' places; ends with the dump, whole or not.

        :raises MalformedError: it is not what CRIU sends.
        :raises OSError: the connection broke.
        """
        while not self._over:
            self._skip(self._unread_bytes)
            header = self._next_header()
            if header is None:
                return
            word, pages, address, number = header
            command, flags = word & _COMMAND_MASK, word >> _COMMAND_BITS
            if command == _PAGES and number == self._object:
                yield self._pages(address, pages, flags)
            elif command == _OPEN:
                name, self._object = _object_name(number), number
                self._connection.sendall(_NO_PARENT_SHORT)
                yield name
            elif command == _HAS_PARENT:
                self._connection.sendall(_NO_PARENT)
            elif command in (_CLOSE, _FORCE_CLOSE):
                self._connection.sendall(_ALL_TAKEN)
                self._over = self.complete = True
            else:
                raise MalformedError(f"CRIU sends a command {command} that is not expected")

    def read_into(self, buffer: memoryview) -> bool:
        """Fill ``buffer`` with the pages that come next, of the place that was yielded last.

        :returns: False if CRIU has gone away.
        """
        if len(buffer) > self._unread_bytes:
            raise ValueError("more than was announced")
        whole = self._fill(buffer)
        self._unread_bytes -= len(buffer)
        return whole

    def drain(self) -> None:
        """Let CRIU come to its end: one that is stopped in the middle of a dump may leave its code in the processes."""
        try:
            for _ in self:
                continue
        except (MalformedError, OSError):
            # It hears of it, and gives up in an orderly way.
            self._connection.close()

    def _pages(self, address: int, pages: int, flags: int) -> PagemapEntry:
        first, misaligned = divmod(address, self._page_size)
        if misaligned or pages < 1 or flags & ~LAZY != PRESENT:
            raise MalformedError(f"CRIU sends {pages} pages from {address:#x} with flags {flags:#x}")
        self._unread_bytes = pages * self._page_size
        return PagemapEntry(first, pages, flags)

    def _next_header(self) -> tuple[int, int, int, int] | None:
        if self._layout is None:
            first = self._connection.recv(max(_LAYOUTS))
            if not first:
                self._over = True
                return None
            self._layout = _LAYOUTS.get(len(first))
            if self._layout is None:
                raise MalformedError(f"CRIU begins with {len(first)} bytes that are no header")
            return self._layout.unpack(first)
        header = bytearray(self._layout.size)
        return self._layout.unpack(header) if self._fill(memoryview(header)) else None

    def _fill(self, buffer: memoryview) -> bool:
        while buffer:
            got = self._connection.recv_into(buffer, 0, socket.MSG_WAITALL)
            if not got:
                self._over = True
                return False
            buffer = buffer[got:]
        return True

    def _skip(self, size: int) -> None:
        buffer = memoryview(bytearray(min(size, _DRAIN_BYTES)))
        while self._unread_bytes and not self._over:
            self.read_into(buffer[: min(self._unread_bytes, _DRAIN_BYTES)])


def _object_name(number: int) -> str:
    pattern = _OBJECT_NAMES.get(number & (1 << _TYPE_BITS) - 1)
    if pattern is None:
        raise MalformedError(f"CRIU sends pages of an object {number:#x} of unknown type")
    return pattern.format(number >> _TYPE_BITS)
