"""Records that carry the changes of a directory tree.

A round of a tree is a stream of records (SPEC.tree_records.md). A record is a five-byte head (kind, length of the
body) and its body; the bytes of files are raw, so that neither side ever parses them. This module checks
everything that can be checked without a file system: what it hands out has a path that stays below the root,
sizes within bounds, only fields that make sense together, and content only where a file is open for it.

>>> [type(record).__name__ for record in RecordReader().feed(encode_remove(b"tmp/old"))]
['RemoveRecord']
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING

from .errors import LimitError, MalformedError, TruncatedError
from .limits import KIB, PATH_BYTES_MAX
from .tree_entries import (
    BLOCK_BYTES_MAX,
    BLOCK_HASH_BYTES,
    LINK_TARGET_BYTES_MAX,
    XATTRS_MAX,
    ContentRecord,
    EntryRecord,
    EntryType,
    HoleRecord,
    LinkRecord,
    ReferenceRecord,
    RemoveRecord,
    TreeRecord,
    check_entry,
    check_link,
    check_path,
    check_range,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEAD = struct.Struct(">BI")
_ENTRY = struct.Struct(">BBHIIqQIIHHH")
_XATTR = struct.Struct(">BI")
_OFFSET = struct.Struct(">Q")
_HOLE = struct.Struct(">QQ")
_LINK = struct.Struct(">HH")
_REFERENCE = struct.Struct(f">QI{BLOCK_HASH_BYTES}s")

CONTENT_DATA_BYTES_MAX = 256 * KIB
"""Most bytes of a file that one CONTENT record can carry."""

RECORD_BODY_BYTES_MAX = _OFFSET.size + CONTENT_DATA_BYTES_MAX
"""Body of any record; a reader holds at most one."""

_FLAG_FRESH = 1


class RecordKind(enum.IntEnum):
    """First byte of a record."""

    ENTRY = 1
    CONTENT = 2
    HOLE = 3
    LINK = 4
    REMOVE = 5
    REFERENCE = 6


def _record(kind: RecordKind, body: bytes) -> bytes:
    return _HEAD.pack(kind, len(body)) + body


def encode_entry(entry: EntryRecord) -> bytes:
    """An ENTRY record.

    :raises LimitError, MalformedError: as :func:`check_entry`; a local tree can hold more than the wire carries.
    """
    check_entry(entry)
    fixed = _ENTRY.pack(
        entry.type,
        _FLAG_FRESH if entry.fresh else 0,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime_ns,
        entry.size,
        *entry.device,
        len(entry.path),
        len(entry.link_target),
        len(entry.xattrs),
    )
    parts = [fixed, entry.path, entry.link_target]
    for name, value in entry.xattrs:
        parts += (_XATTR.pack(len(name), len(value)), name, value)
    return _record(RecordKind.ENTRY, b"".join(parts))


def encode_content_head(offset: int, length: int) -> bytes:
    """What stands before ``length`` raw bytes of the open file that belong at ``offset``.

    The data is not joined here: the caller copies it once, into the chunk.
    """
    if not 0 < length <= CONTENT_DATA_BYTES_MAX:
        raise LimitError(f"CONTENT of {length} bytes, 1 to {CONTENT_DATA_BYTES_MAX} allowed")
    check_range(offset, length)
    return _HEAD.pack(RecordKind.CONTENT, _OFFSET.size + length) + _OFFSET.pack(offset)


def encode_hole(offset: int, length: int) -> bytes:
    """A HOLE record.

    :raises LimitError, MalformedError: the range is empty or out of bounds.
    """
    check_range(offset, length)
    return _record(RecordKind.HOLE, _HOLE.pack(offset, length))


def encode_reference(offset: int, length: int, block: bytes) -> bytes:
    """A REFERENCE record.

    :param block: the block's hash.
    :raises LimitError, MalformedError: the range is empty or out of bounds.
    """
    check_range(offset, length)
    return _record(RecordKind.REFERENCE, _REFERENCE.pack(offset, length, block))


def encode_link(path: bytes, target: bytes) -> bytes:
    """A LINK record.

    :raises LimitError, MalformedError: as :func:`check_path`.
    """
    check_link(LinkRecord(path, target))
    return _record(RecordKind.LINK, _LINK.pack(len(path), len(target)) + path + target)


def encode_remove(path: bytes) -> bytes:
    """A REMOVE record.

    :raises LimitError, MalformedError: as :func:`check_path`.
    """
    check_path(path)
    return _record(RecordKind.REMOVE, path)


def _decode_entry(body: memoryview) -> EntryRecord:
    if len(body) < _ENTRY.size:
        raise TruncatedError(f"ENTRY of {len(body)} bytes")
    (code, flags, mode, uid, gid, mtime_ns, size, major, minor, path_len, link_len, xattr_count) = _ENTRY.unpack_from(
        body
    )
    try:
        entry_type = EntryType(code)
    except ValueError:
        raise MalformedError(f"entry type {code} is unknown") from None
    if flags & ~_FLAG_FRESH:
        raise MalformedError(f"entry flags {flags:#x} are unknown")
    if path_len > PATH_BYTES_MAX or link_len > LINK_TARGET_BYTES_MAX or xattr_count > XATTRS_MAX:
        raise LimitError(f"ENTRY with path {path_len}, link {link_len}, {xattr_count} attributes")
    path_end = _ENTRY.size + path_len
    link_end = path_end + link_len
    if link_end > len(body):
        raise TruncatedError("ENTRY ends inside its names")
    entry = EntryRecord(
        path=bytes(body[_ENTRY.size : path_end]),
        type=entry_type,
        fresh=bool(flags & _FLAG_FRESH),
        mode=mode,
        uid=uid,
        gid=gid,
        mtime_ns=mtime_ns,
        size=size,
        device=(major, minor),
        link_target=bytes(body[path_end:link_end]),
        xattrs=_decode_xattrs(body[link_end:], xattr_count),
    )
    check_entry(entry)
    return entry


def _decode_xattrs(body: memoryview, count: int) -> tuple[tuple[bytes, bytes], ...]:
    xattrs: list[tuple[bytes, bytes]] = []
    at = 0
    for _ in range(count):
        if len(body) - at < _XATTR.size:
            raise TruncatedError("ENTRY ends inside its extended attributes")
        name_len, value_len = _XATTR.unpack_from(body, at)
        name_at = at + _XATTR.size
        value_at = name_at + name_len
        at = value_at + value_len
        if at > len(body):
            raise TruncatedError("ENTRY ends inside an extended attribute")
        xattrs.append((bytes(body[name_at:value_at]), bytes(body[value_at:at])))
    if at != len(body):
        raise MalformedError(f"{len(body) - at} bytes after the end of an ENTRY")
    return tuple(xattrs)


def _decode_content(body: memoryview) -> ContentRecord:
    if len(body) <= _OFFSET.size:
        raise TruncatedError(f"CONTENT of {len(body)} bytes carries nothing")
    (offset,) = _OFFSET.unpack_from(body)
    check_range(offset, len(body) - _OFFSET.size)
    return ContentRecord(offset, body[_OFFSET.size :])


def _decode_hole(body: memoryview) -> HoleRecord:
    if len(body) != _HOLE.size:
        raise MalformedError(f"HOLE of {len(body)} bytes, not {_HOLE.size}")
    offset, length = _HOLE.unpack(body)
    check_range(offset, length)
    return HoleRecord(offset, length)


def _decode_reference(body: memoryview) -> ReferenceRecord:
    if len(body) != _REFERENCE.size:
        raise MalformedError(f"REFERENCE of {len(body)} bytes, not {_REFERENCE.size}")
    offset, length, block = _REFERENCE.unpack(body)
    check_range(offset, length)
    if length > BLOCK_BYTES_MAX:
        raise LimitError(f"REFERENCE to {length} bytes, at most {BLOCK_BYTES_MAX} allowed")
    return ReferenceRecord(offset, length, block)


def _decode_link(body: memoryview) -> LinkRecord:
    if len(body) < _LINK.size:
        raise TruncatedError(f"LINK of {len(body)} bytes")
    path_len, target_len = _LINK.unpack_from(body)
    if _LINK.size + path_len + target_len != len(body):
        raise MalformedError(f"LINK of {len(body)} bytes with paths of {path_len} and {target_len}")
    link = LinkRecord(bytes(body[_LINK.size : _LINK.size + path_len]), bytes(body[_LINK.size + path_len :]))
    check_link(link)
    return link


def _decode_remove(body: memoryview) -> RemoveRecord:
    if len(body) > PATH_BYTES_MAX:
        raise LimitError(f"path of {len(body)} bytes, at most {PATH_BYTES_MAX} allowed")
    path = bytes(body)
    check_path(path)
    return RemoveRecord(path)


_DECODERS: dict[int, Callable[[memoryview], TreeRecord]] = {
    RecordKind.ENTRY: _decode_entry,
    RecordKind.CONTENT: _decode_content,
    RecordKind.HOLE: _decode_hole,
    RecordKind.LINK: _decode_link,
    RecordKind.REMOVE: _decode_remove,
    RecordKind.REFERENCE: _decode_reference,
}


class RecordReader:
    """Takes one round's bytes in any slices and hands out its records.

    After an error the reader is of no use: the round has failed as a whole.
    """

    def __init__(self) -> None:
        self._partial = bytearray()
        self._content_from = 0
        self._content_until = 0

    def feed(self, data: bytes | memoryview) -> Iterator[TreeRecord]:
        """The records that ``data`` completes, in order. Exhaust the iterator before the next call.

        Content is handed out as views into ``data`` where that is possible.

        :raises LimitError: something is over its bound.
        :raises MalformedError: unknown kinds, fields that make no sense, content that no open file has room for.
        :raises TruncatedError: fields that reach past the end of their record.
        """
        view = memoryview(data)
        at = 0
        if self._partial:
            at = self._complete(view, 0, _HEAD.size)
            if len(self._partial) < _HEAD.size:
                return
            end = _HEAD.size + _body_length(self._partial, 0)
            at = self._complete(view, at, end)
            if len(self._partial) < end:
                return
            whole = memoryview(bytes(self._partial))
            self._partial.clear()
            yield self._in_sequence(_decode(whole))
        while len(view) - at >= _HEAD.size:
            end = at + _HEAD.size + _body_length(view, at)
            if end > len(view):
                break
            record = self._in_sequence(_decode(view[at:end]))
            at = end
            yield record
        self._partial += view[at:]

    def finish(self) -> None:
        """Tell the reader that the round has ended.

        :raises TruncatedError: it ended inside a record.
        """
        if self._partial:
            raise TruncatedError(f"the round ends {len(self._partial)} bytes into a record")

    def _complete(self, view: memoryview, at: int, wanted: int) -> int:
        """Move bytes of ``view`` from ``at`` on until the partial record has ``wanted``; returns where it stopped."""
        end = at + max(0, wanted - len(self._partial))
        self._partial += view[at:end]
        return min(end, len(view))

    def _in_sequence(self, record: TreeRecord) -> TreeRecord:
        """Content belongs to the last ENTRY, in rising order, so that a file's size bounds what may follow it."""
        if isinstance(record, EntryRecord):
            self._content_from, self._content_until = 0, record.size
        elif isinstance(record, ContentRecord | HoleRecord | ReferenceRecord):
            length = len(record.data) if isinstance(record, ContentRecord) else record.length
            end = record.offset + length
            if record.offset < self._content_from or end > self._content_until:
                raise MalformedError(
                    f"content for {record.offset}-{end}, the open file takes {self._content_from}-{self._content_until}"
                )
            self._content_from = end
        else:
            self._content_from = self._content_until = 0
        return record


def _body_length(buffer: bytearray | memoryview, at: int) -> int:
    code, length = _HEAD.unpack_from(buffer, at)
    if code not in _DECODERS:
        raise MalformedError(f"record kind {code} is unknown")
    if length > RECORD_BODY_BYTES_MAX:
        raise LimitError(f"record of {length} bytes, at most {RECORD_BODY_BYTES_MAX} allowed")
    return int(length)


def _decode(record: memoryview) -> TreeRecord:
    return _DECODERS[record[0]](record[_HEAD.size :])
