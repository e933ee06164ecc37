"""A peer's round can fail, but never reaches what is outside the root and never gets what is not granted."""

from __future__ import annotations

import os
import resource
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees_support import snapshot

from streamhop.content.trees import (
    TreeApplier,
    TreeApplyError,
    TreeDivergedError,
    TreeQuotaError,
    TreeRefusedError,
    TreeScanner,
)
from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError, TruncatedError
from streamhop_protocol.tree_entries import EntryRecord, EntryType
from streamhop_protocol.tree_records import (
    encode_content_head,
    encode_entry,
    encode_hole,
    encode_link,
    encode_remove,
)

pytestmark = pytest.mark.root

ESCAPES = [b"../outside/x", b"/etc/x", b"a/../../outside/x", b"..", b"", b".", b"a//b", b"a\0b", b"n" * 256]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The root to apply to, beside a tree that must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("canary")
    os.link(outside / "file", outside / "same")
    os.utime(outside, ns=(1, 1))
    before = snapshot(outside)
    (tmp_path / "root").mkdir()
    yield tmp_path / "root"
    assert snapshot(outside) == before


def entry(path: bytes, kind: EntryType = EntryType.REGULAR, **fields: object) -> bytes:
    values: dict[str, object] = {"fresh": True, "mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 10**18}
    return encode_entry(EntryRecord(path=path, type=kind, **(values | fields)))  # type: ignore[arg-type] # by name


def content(data: bytes, offset: int = 0) -> bytes:
    return encode_content_head(offset, len(data)) + data


def apply(root: Path, *records: bytes, allow_devices: bool = False, quota_bytes: int = 1 << 20) -> None:
    with TreeApplier(root, allow_devices=allow_devices, quota_bytes=quota_bytes) as applier:
        applier.feed(b"".join(records))
        applier.finish()


# -- outside the root ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("kind", ["entry", "remove", "link", "link target"])
def test_bad_paths_are_protocol_errors(root: Path, path: bytes, kind: str) -> None:
    head = struct.pack(">BBHIIqQIIHHH", 1, 1, 0o644, 0, 0, 0, 0, 0, 0, len(path), 0, 0)
    body = {
        "entry": struct.pack(">BI", 1, len(head) + len(path)) + head + path,
        "remove": struct.pack(">BI", 5, len(path)) + path,
        "link": struct.pack(">BIHH", 4, 5 + len(path), len(path), 1) + path + b"t",
        "link target": struct.pack(">BIHH", 4, 5 + len(path), 1, len(path)) + b"l" + path,
    }[kind]
    with pytest.raises((MalformedError, LimitError)):
        apply(root, body)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("link_target", [b"../outside", b"/", b".", b"link"])
@pytest.mark.parametrize(
    "record",
    [
        entry(b"link/new"),
        entry(b"link/file", fresh=False),
        entry(b"link/dir", EntryType.DIRECTORY),
        entry(b"link/sym", EntryType.SYMLINK, link_target=b"x"),
        entry(b"link/fifo", EntryType.FIFO),
        encode_remove(b"link/file"),
        encode_link(b"stolen", b"link/file"),
        encode_link(b"link/planted", b"real"),
    ],
)
def test_nothing_goes_through_a_symbolic_link(root: Path, link_target: bytes, record: bytes) -> None:
    planted = entry(b"real"), entry(b"link", EntryType.SYMLINK, link_target=link_target)
    with pytest.raises(TreeRefusedError, match="not a directory"):
        apply(root, *planted, record)


def test_a_symbolic_link_is_replaced_not_followed(root: Path) -> None:
    link = entry(b"link", EntryType.SYMLINK, link_target=b"../outside")
    apply(root, link, entry(b"link", size=3), content(b"abc"))
    assert (root / "link").read_text() == "abc"
    apply(root, link, entry(b"link", EntryType.DIRECTORY, fresh=False, mode=0o700), entry(b"link/below"))
    assert (root / "link/below").is_file()
    apply(root, entry(b"l", EntryType.SYMLINK, link_target=b"../outside/file"), encode_link(b"m", b"l"))
    assert (root / "m").is_symlink()
    with pytest.raises(TreeDivergedError):
        apply(root, entry(b"m", fresh=False))
    apply(root, encode_remove(b"m"), encode_remove(b"l"))
    assert not os.path.lexists(root / "m")


def test_a_directory_with_links_outside_is_removed_without_following(root: Path) -> None:
    (root / "dir/deep").mkdir(parents=True)
    (root / "dir/deep/link").symlink_to(root.parent / "outside")
    os.link(root.parent / "outside/file", root / "dir/hard")
    apply(root, encode_remove(b"dir"))
    assert list(root.iterdir()) == []


def test_a_directory_replaced_while_it_is_open_is_opened_anew(root: Path) -> None:
    apply(
        root,
        entry(b"d", EntryType.DIRECTORY),
        entry(b"d/old"),
        entry(b"d", EntryType.DIRECTORY, mode=0o711),
        entry(b"d/new"),
        encode_remove(b"d/gone"),
    )
    assert [path.name for path in (root / "d").iterdir()] == ["new"]
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o711


def test_replacing_a_file_leaves_its_other_names_alone(root: Path) -> None:
    os.link(root.parent / "outside/file", root / "file")
    apply(root, entry(b"file", size=3), content(b"abc"))
    assert (root / "file").read_text() == "abc"


# -- what is not granted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EntryType.CHAR_DEVICE, EntryType.BLOCK_DEVICE])
def test_devices_need_permission(root: Path, kind: EntryType) -> None:
    device = entry(b"node", kind, device=(1, 3))
    with pytest.raises(TreeRefusedError, match="device"):
        apply(root, device)
    apply(root, device, allow_devices=True)
    assert (root / "node").stat().st_rdev == os.makedev(1, 3)
    with pytest.raises(TreeRefusedError, match="device"):
        apply(root, encode_link(b"again", b"node"))
    with pytest.raises(TreeDivergedError):
        apply(root, entry(b"node", fresh=False), content(b"x"))


def test_hard_links_to_directories_and_to_nothing_are_refused(root: Path) -> None:
    with pytest.raises(TreeRefusedError):
        apply(root, entry(b"dir", EntryType.DIRECTORY), encode_link(b"link", b"dir"))
    with pytest.raises(TreeDivergedError):
        apply(root, encode_link(b"link", b"missing"))


def test_a_fifo_in_place_of_a_known_file_does_not_block(root: Path) -> None:
    os.mkfifo(root / "file")
    with pytest.raises(TreeDivergedError):
        apply(root, entry(b"file", fresh=False, size=1), content(b"x"))


def test_an_entry_below_what_is_not_there_is_an_error(root: Path) -> None:
    with pytest.raises(TreeDivergedError):
        apply(root, entry(b"missing/file"))


def test_content_is_bounded_by_the_quota(root: Path) -> None:
    records = entry(b"file", size=100), content(bytes(100))
    apply(root, *records, quota_bytes=100)
    with pytest.raises(TreeQuotaError):
        apply(root, *records, quota_bytes=99)


def test_attributes_and_link_texts_count_too(root: Path) -> None:
    with pytest.raises(TreeQuotaError):
        apply(root, entry(b"file", xattrs=((b"user.a", bytes(1000)),)), quota_bytes=1000)
    with pytest.raises(TreeQuotaError):
        apply(root, entry(b"link", EntryType.SYMLINK, link_target=b"x" * 101), quota_bytes=100)


def test_entries_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamhop.content.trees.applier.ENTRIES_MAX", 3)
    apply(root, *(entry(b"%d" % number) for number in range(3)))
    with pytest.raises(TreeQuotaError):
        apply(root, *(entry(b"%d" % number) for number in range(4)))
    monkeypatch.setattr("streamhop.content.trees.applier.DIRECTORY_PATHS_BYTES_MAX", 9)
    with pytest.raises(TreeQuotaError):
        apply(root, entry(b"12345", EntryType.DIRECTORY), entry(b"67890", EntryType.DIRECTORY))


def test_a_huge_declared_size_takes_no_room(root: Path) -> None:
    apply(root, entry(b"file", size=1 << 42), encode_hole(1 << 30, 1 << 41), quota_bytes=0)
    assert (root / "file").stat().st_size == 1 << 42
    assert (root / "file").stat().st_blocks == 0


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x63" + bytes(20), MalformedError),
        (content(b"x"), MalformedError),
        (entry(b"file", size=1) + content(b"xy"), MalformedError),
        (struct.pack(">BI", 1, 1 << 31), LimitError),
        (entry(b"file")[:-1], TruncatedError),
        (entry(b"file", size=5) + content(b"12345")[:-1], TruncatedError),
        (entry(b"file") + b"\1", TruncatedError),
    ],
)
def test_malformed_rounds_fail_and_leave_nothing_open(root: Path, data: bytes, error: type[ProtocolError]) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(error):
        apply(root, data)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_failed_applier_takes_no_more(root: Path) -> None:
    applier = TreeApplier(root, allow_devices=False, quota_bytes=0)
    with pytest.raises(MalformedError):
        applier.feed(b"\x63" + bytes(20))
    with pytest.raises(ValueError, match="closed"):
        applier.feed(entry(b"file"))
    with pytest.raises(ValueError, match="closed"):
        applier.finish()


def test_one_byte_at_a_time_gives_the_same(root: Path) -> None:
    data = b"".join(
        [entry(b"d", EntryType.DIRECTORY), entry(b"d/f", size=9), content(b"12345", 4), encode_remove(b"x")]
    )
    applier = TreeApplier(root, allow_devices=False, quota_bytes=1000)
    for byte in data:
        applier.feed(bytes([byte]))
    applier.finish()
    assert (root / "d/f").read_bytes() == bytes(4) + b"12345"
    assert (root / "d").stat().st_mtime_ns == 10**18


@pytest.fixture
def tiny(root: Path) -> Iterator[Path]:
    """A root on a tmpfs of 1 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", root], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", root], check=True)


def test_a_full_disk_is_named(tiny: Path) -> None:
    chunk = b"x" * 200_000
    pieces = [content(chunk, number * len(chunk)) for number in range(8)]
    with pytest.raises(TreeApplyError, match="No space left") as raised:
        apply(tiny, entry(b"file", size=8 * len(chunk)), *pieces, quota_bytes=1 << 30)
    assert raised.value.path == b"file"


def test_a_read_only_root_is_named(tiny: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", tiny], check=True)
    with pytest.raises(TreeApplyError, match="/file: Read-only"):
        apply(tiny, entry(b"file"))


def test_deep_trees_do_not_run_out_of_descriptors(root: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        paths = [b"/".join([b"d"] * depth) for depth in range(1, 257)]
        apply(root, *(entry(path, EntryType.DIRECTORY) for path in paths))
        assert sum(1 for _ in os.walk(root)) == 257
        scanner = TreeScanner(root, overlay_upper=False)
        (root.parent / "copy").mkdir()
        apply(root.parent / "copy", *scanner.scan().chunks())
        assert sum(1 for _ in os.walk(root.parent / "copy")) == 257
        apply(root, encode_remove(b"d"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- mounts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mounted(root: Path) -> Iterator[Path]:
    """A root in which a runtime has mounted its own."""
    (root / "dev").mkdir()
    (root / "etc").mkdir()
    (root / "srv").mkdir()
    (root / "etc/hosts").touch()
    (root.parent / "hosts").write_text("of the runtime")
    mounts = [root / "dev", root / "srv", root / "etc/hosts"]
    for path in mounts[:2]:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
        (path / "kept").write_text("of the runtime")
    subprocess.run(["mount", "--bind", root.parent / "hosts", mounts[2]], check=True)
    try:
        yield root
    finally:
        for path in mounts:
            subprocess.run(["umount", path], check=True)


def test_what_the_runtime_mounts_is_skipped(mounted: Path) -> None:
    apply(
        mounted,
        encode_remove(b"dev"),
        entry(b"dev", EntryType.DIRECTORY, mode=0o700),
        entry(b"dev/kept", size=5),
        content(b"12345"),
        encode_link(b"dev/link", b"etc/hosts"),
        entry(b"etc/hosts", size=5),
        content(b"12345"),
        encode_remove(b"etc/hosts"),
        entry(b"etc/passwd", size=5),
        content(b"12345"),
    )
    assert (mounted / "dev/kept").read_text() == "of the runtime"
    assert (mounted / "etc/hosts").read_text() == "of the runtime"
    assert (mounted / "etc/passwd").read_text() == "12345"


@pytest.mark.parametrize(
    "record",
    [encode_remove(b"srv"), entry(b"srv/x"), entry(b"", EntryType.DIRECTORY)],
    ids=["remove it", "make something in it", "clear the root"],
)
def test_other_mounts_are_an_error_and_stay_untouched(mounted: Path, record: bytes) -> None:
    with pytest.raises(TreeApplyError):
        apply(mounted, record)
    assert (mounted / "srv/kept").read_text() == "of the runtime"


def test_privileges_are_set_last(root: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    apply(
        root,
        entry(b"su", size=5, mode=0o6755, uid=1000, gid=1000, xattrs=((b"security.capability", capability),)),
        content(b"12345"),
    )
    apply(root, entry(b"su", fresh=False, size=5, mode=0o6755, uid=1001, xattrs=()), content(b"9", 4))
    status = (root / "su").stat()
    assert stat.S_IMODE(status.st_mode) == 0o6755
    assert (status.st_uid, status.st_gid) == (1001, 0)
    assert os.listxattr(root / "su") == []
    assert (root / "su").read_text() == "12349"
