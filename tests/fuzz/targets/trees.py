"""Trees: the records of a round, and a round that is applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fuzz.target import Target, slices
from fuzz.targets.scratch import scratch
from streamhop.content.trees import TreeApplier, TreeApplyError
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.tree_entries import EntryRecord, EntryType
from streamhop_protocol.tree_records import (
    RecordReader,
    encode_content_head,
    encode_entry,
    encode_hole,
    encode_link,
    encode_remove,
)

QUOTA_BYTES = 1 << 20
RECORD_BYTES_MAX = 300 * 1024


def run_tree_records(data: bytes) -> None:
    """The bytes of a round, cut by :func:`slices`."""
    reader = RecordReader()
    for piece in slices(data):
        for _record in reader.feed(piece):
            pass
        assert len(reader._partial) <= RECORD_BYTES_MAX, "keeps more than a record"
    reader.finish()


def run_tree_apply(data: bytes) -> None:
    """First byte: whether devices are made. The rest as above, applied to a tree with a way out of it."""
    with scratch() as root:
        (root / "a").mkdir()
        (root / "a" / "f").write_bytes(b"content")
        (root / "out").symlink_to("../canary")
        (root / "file-out").symlink_to("../canary/file")
        (root / "up").symlink_to("..")
        applier = TreeApplier(root, allow_devices=data[:1] == b"\1", quota_bytes=QUOTA_BYTES)
        before = _open_files()
        try:
            for piece in slices(data[1:]):
                applier.feed(piece)
            applier.finish()
        finally:
            applier.close()
            assert _open_files() < before, "an open file is left"


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def entry(path: bytes, kind: EntryType = EntryType.REGULAR, **more: object) -> bytes:
    """An ENTRY with what no case is about filled in."""
    values: dict[str, object] = {"fresh": True, "mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 1, **more}
    return encode_entry(EntryRecord(path=path, type=kind, **values))  # type: ignore[arg-type]


def content(offset: int, data: bytes) -> bytes:
    """A CONTENT record."""
    return encode_content_head(offset, len(data)) + data


def _rounds() -> Iterator[bytes]:
    yield entry(b"", EntryType.DIRECTORY, fresh=False) + entry(b"b", size=10) + content(0, b"12345") + encode_hole(5, 5)
    yield entry(b"a/f", fresh=False, size=3) + content(0, b"new") + encode_link(b"a/g", b"a/f") + encode_remove(b"out")
    yield entry(b"d", EntryType.DIRECTORY) + entry(b"d/s", EntryType.SYMLINK, link_target=b"../../canary")
    yield entry(b"p", EntryType.FIFO) + entry(b"n", EntryType.CHAR_DEVICE, device=(1, 3))
    yield entry(b"x", xattrs=((b"user.a", b"1"), (b"user.b", b"2")))


def _record_seeds() -> Iterator[bytes]:
    for data in _rounds():
        yield b"\0" + data
        yield b"\7" + data


def _apply_seeds() -> Iterator[bytes]:
    for number, data in enumerate(_rounds()):
        yield bytes([number % 2, 0]) + data


TARGETS = {
    "tree_records": Target(run_tree_records, _record_seeds),
    "tree_apply": Target(run_tree_apply, _apply_seeds, (ProtocolError, TreeApplyError)),
}
