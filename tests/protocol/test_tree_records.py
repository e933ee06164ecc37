"""The records of a tree: what is written is read again, in any slices, and nothing else is accepted."""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError, TruncatedError
from streamhop_protocol.tree_entries import (
    FILE_BYTES_MAX,
    ID_MAX,
    TREE_DEPTH_MAX,
    ContentRecord,
    EntryRecord,
    EntryType,
    HoleRecord,
    LinkRecord,
    RemoveRecord,
    TreeRecord,
    xattr_travels,
)
from streamhop_protocol.tree_records import (
    CONTENT_DATA_BYTES_MAX,
    RECORD_BODY_BYTES_MAX,
    RecordReader,
    encode_content_head,
    encode_entry,
    encode_hole,
    encode_link,
    encode_remove,
)


def entry(**fields: object) -> EntryRecord:
    values: dict[str, object] = {
        "path": b"a",
        "type": EntryType.REGULAR,
        "fresh": True,
        "mode": 0o644,
        "uid": 0,
        "gid": 0,
        "mtime_ns": 0,
    }
    return EntryRecord(**(values | fields))  # type: ignore[arg-type] # any fields, also wrong ones


def encoded(record: TreeRecord) -> bytes:
    match record:
        case EntryRecord():
            return encode_entry(record)
        case ContentRecord():
            return encode_content_head(record.offset, len(record.data)) + record.data
        case HoleRecord():
            return encode_hole(record.offset, record.length)
        case LinkRecord():
            return encode_link(record.path, record.target)
        case RemoveRecord():
            return encode_remove(record.path)


def read(*slices: bytes) -> list[TreeRecord]:
    reader = RecordReader()
    records = [record for data in slices for record in reader.feed(data)]
    reader.finish()
    return records


names = st.binary(min_size=1, max_size=12).filter(lambda name: name not in {b".", b".."} and not set(name) & {0, 0x2F})
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
xattrs = st.dictionaries(
    names.map(lambda name: b"user." + name).filter(xattr_travels), st.binary(max_size=50), max_size=3
)
special = st.sampled_from([EntryType.DIRECTORY, EntryType.FIFO, EntryType.SOCKET])
common = {
    "path": paths,
    "mode": st.integers(0, 0o7777),
    "uid": st.integers(0, ID_MAX),
    "gid": st.integers(0, ID_MAX),
    "mtime_ns": st.integers(-(1 << 63), (1 << 63) - 1),
    "xattrs": xattrs.map(lambda found: tuple(sorted(found.items()))),
}
entries = st.one_of(
    st.builds(EntryRecord, type=special, fresh=st.just(True), **common),
    st.builds(
        EntryRecord,
        type=st.just(EntryType.REGULAR),
        fresh=st.booleans(),
        size=st.integers(0, FILE_BYTES_MAX),
        **common,
    ),
    st.builds(
        EntryRecord,
        type=st.just(EntryType.SYMLINK),
        fresh=st.just(True),
        link_target=st.binary(min_size=1, max_size=60).map(lambda text: text.replace(b"\0", b"0")),
        **common,
    ),
    st.builds(
        EntryRecord,
        type=st.just(EntryType.BLOCK_DEVICE),
        fresh=st.just(True),
        device=st.tuples(st.integers(1, 4095), st.integers(0, 1 << 20)),
        **common,
    ),
)


@st.composite
def files(draw: st.DrawFn) -> list[TreeRecord]:
    """A file with content and holes that fit it."""
    records: list[TreeRecord] = []
    position = 0
    for gap, data in draw(st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=40)), max_size=4)):
        position += gap
        if data:
            records.append(ContentRecord(position, memoryview(data)))
        else:
            records.append(HoleRecord(position, 7))
        position += len(data) or 7
    return [entry(path=draw(paths), size=position), *records]


links = st.tuples(paths, paths).filter(lambda pair: not (pair[1] + b"/").startswith(pair[0] + b"/"))
streams = st.lists(
    st.one_of(
        entries.map(lambda record: [record]),
        files(),
        paths.map(lambda path: [RemoveRecord(path)]),
        links.map(lambda pair: [LinkRecord(*pair)]),
    ),
    max_size=5,
).map(lambda groups: [record for group in groups for record in group])


@given(streams)
def test_what_is_written_is_read_again(records: list[TreeRecord]) -> None:
    assert read(b"".join(map(encoded, records))) == records


@given(streams)
def test_byte_by_byte_reads_the_same(records: list[TreeRecord]) -> None:
    content = b"".join(map(encoded, records))
    assert read(*(content[at : at + 1] for at in range(len(content)))) == records


@given(streams, st.data())
def test_any_slices_read_the_same(records: list[TreeRecord], data: st.DataObject) -> None:
    content = b"".join(map(encoded, records))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    edges = [0, *cuts, len(content)]
    assert read(*(content[a:b] for a, b in itertools.pairwise(edges))) == records


@given(streams.filter(bool), st.data())
def test_a_cut_inside_a_record_is_truncation(records: list[TreeRecord], data: st.DataObject) -> None:
    content = b"".join(map(encoded, records))
    cut = data.draw(st.integers(1, len(encoded(records[-1])) - 1))
    with pytest.raises(TruncatedError):
        read(content[:-cut])


@given(st.binary(max_size=300))
def test_noise_raises_nothing_but_protocol_errors(noise: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        for record in RecordReader().feed(noise):
            assert encoded(record) in noise


@given(streams.filter(bool), st.data())
def test_one_changed_byte_raises_nothing_but_protocol_errors(records: list[TreeRecord], data: st.DataObject) -> None:
    content = bytearray(b"".join(map(encoded, records)))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolError):
        read(bytes(content))


def test_an_empty_round_has_no_records() -> None:
    assert read(b"") == []


BAD_PATHS = {
    b"": MalformedError,
    b"/": MalformedError,
    b"/etc/passwd": MalformedError,
    b"..": MalformedError,
    b"../x": MalformedError,
    b"a/../b": MalformedError,
    b"a/..": MalformedError,
    b".": MalformedError,
    b"a/./b": MalformedError,
    b"a//b": MalformedError,
    b"a/": MalformedError,
    b"a\0b": MalformedError,
    b"n" * 256: LimitError,
    b"/".join([b"n" * 250] * 17): LimitError,
    b"/".join([b"d"] * (TREE_DEPTH_MAX + 1)): LimitError,
}


def raw_entry(path: bytes) -> bytes:
    head = struct.pack(">BBHIIqQIIHHH", 1, 1, 0o644, 0, 0, 0, 0, 0, 0, len(path), 0, 0)
    return struct.pack(">BI", 1, len(head) + len(path)) + head + path


def raw_remove(path: bytes) -> bytes:
    return struct.pack(">BI", 5, len(path)) + path


def raw_link(path: bytes) -> bytes:
    return struct.pack(">BIHH", 4, 5 + len(path), len(path), 1) + path + b"t"


def raw_link_target(path: bytes) -> bytes:
    return struct.pack(">BIHH", 4, 5 + len(path), 1, len(path)) + b"l" + path


@pytest.mark.parametrize("make", [raw_entry, raw_remove, raw_link, raw_link_target])
@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: repr(path[:12]))
def test_bad_paths_are_refused_wherever_they_stand(make: Callable[[bytes], bytes], path: bytes) -> None:
    with pytest.raises(BAD_PATHS[path]):
        read(make(path))


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (entry(path=b""), MalformedError),
        (entry(mode=0o10000), MalformedError),
        (entry(uid=ID_MAX + 1), MalformedError),
        (entry(gid=-1), MalformedError),
        (entry(size=-1), LimitError),
        (entry(size=FILE_BYTES_MAX + 1), LimitError),
        (entry(mtime_ns=1 << 63), LimitError),
        (entry(device=(1, 3)), MalformedError),
        (entry(link_target=b"x"), MalformedError),
        (entry(type=EntryType.DIRECTORY, size=1), MalformedError),
        (entry(type=EntryType.SYMLINK), MalformedError),
        (entry(type=EntryType.SYMLINK, link_target=b"a\0b"), MalformedError),
        (entry(type=EntryType.SYMLINK, link_target=b"x" * 4096), LimitError),
        (entry(type=EntryType.FIFO, fresh=False), MalformedError),
        (entry(type=EntryType.CHAR_DEVICE), MalformedError),
        (entry(xattrs=((b"trusted.overlay.opaque", b"y"),)), MalformedError),
        (entry(xattrs=((b"user.overlay.whiteout", b"y"),)), MalformedError),
        (entry(xattrs=((b"security.selinux", b"y"),)), MalformedError),
        (entry(xattrs=((b"user.a\0", b""),)), MalformedError),
        (entry(xattrs=((b"user.b", b""), (b"user.a", b""))), MalformedError),
        (entry(xattrs=((b"user.a", b""), (b"user.a", b""))), MalformedError),
        (entry(xattrs=((b"user.a", bytes(65537)),)), LimitError),
        (entry(xattrs=tuple((b"user.%03d" % n, b"") for n in range(257))), LimitError),
        (entry(xattrs=tuple((b"user.%d" % n, bytes(60_000)) for n in range(4))), LimitError),
    ],
)
def test_fields_that_make_no_sense_are_refused(record: EntryRecord, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        encode_entry(record)


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (0, 0, MalformedError),  # type
        (0, 8, MalformedError),
        (1, 2, MalformedError),  # flags
        (2, 0x80, MalformedError),  # mode
        (4, 0xFF, None),  # owner: high, but one that exists
        (20, 0x7F, LimitError),  # size
        (28, 1, MalformedError),  # device of a regular file
        (36, 0x7F, LimitError),  # length of the path
        (38, 0x01, TruncatedError),  # length of the link's text
        (40, 0x7F, LimitError),  # number of attributes
        (41, 1, TruncatedError),
    ],
)
def test_a_reader_checks_every_field_of_an_entry(position: int, value: int, error: type[ProtocolError] | None) -> None:
    content = bytearray(encode_entry(entry()))
    content[5 + position] = value
    if error is None:
        assert read(bytes(content))
        return
    with pytest.raises(error):
        read(bytes(content))


FILE = encode_entry(entry(size=100))


@pytest.mark.parametrize(
    "content",
    [
        encode_hole(0, 1),
        encode_remove(b"a") + encode_hole(0, 1),
        FILE + encode_remove(b"b") + encode_content_head(0, 1) + b"x",
        FILE + encode_link(b"b", b"a") + encode_hole(0, 1),
        encode_entry(entry(type=EntryType.FIFO)) + encode_content_head(0, 1) + b"x",
        FILE + encode_hole(0, 101),
        FILE + encode_content_head(99, 2) + b"xx",
        FILE + encode_hole(50, 10) + encode_content_head(0, 1) + b"x",
        FILE + encode_content_head(0, 2) + b"xx" + encode_hole(1, 10),
    ],
)
def test_content_needs_an_open_file_with_room_for_it(content: bytes) -> None:
    with pytest.raises(MalformedError):
        read(content)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\0" + bytes(4), MalformedError),
        (b"\6" + bytes(4), MalformedError),
        (struct.pack(">BI", 2, RECORD_BODY_BYTES_MAX + 1), LimitError),
        (struct.pack(">BI", 1, 0xFFFFFFFF), LimitError),
        (struct.pack(">BI", 1, 3) + bytes(3), TruncatedError),
        (struct.pack(">BI", 2, 8) + bytes(8), TruncatedError),
        (struct.pack(">BIQQ", 3, 16, 0, 0), MalformedError),
        (struct.pack(">BIQQ", 3, 16, FILE_BYTES_MAX, 1), LimitError),
        (struct.pack(">BIQ", 3, 8, 0), MalformedError),
        (struct.pack(">BI", 4, 1) + b"x", TruncatedError),
        (struct.pack(">BIHH", 4, 6, 1, 2) + b"ab", MalformedError),
        (struct.pack(">BI", 5, 4097) + bytes(4097), LimitError),
    ],
)
def test_records_of_a_wrong_shape_are_refused(content: bytes, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        read(content)


def test_a_bad_head_is_refused_before_its_body_arrives() -> None:
    reader = RecordReader()
    assert list(reader.feed(b"\2\0")) == []
    with pytest.raises(LimitError):
        list(reader.feed(b"\xff\xff\xff"))


@pytest.mark.parametrize(("path", "target"), [(b"a", b"a"), (b"a", b"a/b")])
def test_a_link_never_replaces_its_target(path: bytes, target: bytes) -> None:
    with pytest.raises(MalformedError):
        encode_link(path, target)


@pytest.mark.parametrize("length", [0, CONTENT_DATA_BYTES_MAX + 1])
def test_content_has_a_bound(length: int) -> None:
    with pytest.raises(LimitError):
        encode_content_head(0, length)


def test_the_largest_records_can_be_read() -> None:
    attributes = tuple((b"user.%d" % n, bytes(64 * 1024)) for n in range(2))
    largest = entry(path=b"/".join([b"n" * 15] * 256), size=CONTENT_DATA_BYTES_MAX, xattrs=attributes)
    content = ContentRecord(0, memoryview(bytes(CONTENT_DATA_BYTES_MAX)))
    assert read(encoded(largest) + encoded(content)) == [largest, content]
