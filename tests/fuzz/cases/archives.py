"""Archives: the records of a tree, what is applied of them, tar archives and the documents of images."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator

from fuzz.cases.case import Case, case
from fuzz.targets.images import CONFIG, LAYER, MANIFEST, digest, resealed, tar_entry
from fuzz.targets.trees import content, entry
from streamhop.content.image_layers.errors import ImageError
from streamhop.content.image_layers.tar_headers import END_OF_ARCHIVE, encode_header
from streamhop.content.trees import TreeApplyError, TreeDivergedError, TreeQuotaError, TreeRefusedError
from streamhop_protocol.errors import IntegrityError, LimitError, MalformedError, TruncatedError, UnexpectedError
from streamhop_protocol.tree_entries import EntryType
from streamhop_protocol.tree_records import RecordKind, encode_hole, encode_link, encode_remove

ROUND = b"\0"
"""How an input of the target ``tree_records`` begins: in one piece."""

APPLIED, WITH_DEVICES = b"\0\0", b"\1\0"

_FIELDS = ">BBHIIqQIIHHH"


def _raw(kind: RecordKind, body: bytes) -> bytes:
    return struct.pack(">BI", kind, len(body)) + body


def _named(path: bytes) -> bytes:
    """An ENTRY with any path: the encoder would refuse it."""
    return _fields(path_length=len(path)) + path


def _raw_entry(path: bytes = b"f", **fields: int) -> bytes:
    return _raw(RecordKind.ENTRY, _fields(path_length=len(path), **fields) + path)


def _fields(
    *,
    kind: int = 1,
    flags: int = 1,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    path_length: int = 1,
    link_length: int = 0,
    xattrs: int = 0,
) -> bytes:
    return struct.pack(_FIELDS, kind, flags, mode, uid, gid, 0, size, 0, 0, path_length, link_length, xattrs)


BAD_PATHS: tuple[tuple[str, bytes, type[Exception], str], ...] = (
    ("above", b"../x", MalformedError, "component"),
    ("above-from-inside", b"a/../../x", MalformedError, "component"),
    ("absolute", b"/x", MalformedError, "component"),
    ("double-slash", b"a//x", MalformedError, "component"),
    ("ends-in-a-slash", b"a/", MalformedError, "component"),
    ("nul", b"a\0x", MalformedError, "NUL"),
    ("empty", b"", MalformedError, "empty"),
    ("dot", b".", MalformedError, "component"),
    ("dot-inside", b"a/./x", MalformedError, "component"),
    ("name-of-256-bytes", b"n" * 256, LimitError, "name of"),
    ("4096-deep", b"d/" * 2047 + b"d", LimitError, "components"),
    ("longer-than-any-path", b"n" * 4097, LimitError, "path 4097"),
)


def paths() -> Iterator[Case]:
    """Paths that lead out, or are none."""
    for name, path, error, says in BAD_PATHS:
        yield case("tree_records", f"entry-{name}", ROUND + _raw(RecordKind.ENTRY, _named(path)), error, says)
        yield case("tree_apply", f"entry-{name}", APPLIED + _raw(RecordKind.ENTRY, _named(path)), error, says)
    for name, path, error, _says in BAD_PATHS[:-1]:
        yield case("tree_records", f"remove-{name}", ROUND + _raw(RecordKind.REMOVE, path), error)
        for end, one, other in (("from", path, b"f"), ("to", b"f", path)):
            body = struct.pack(">HH", len(one), len(other)) + one + other
            yield case("tree_records", f"link-{end}-{name}", ROUND + _raw(RecordKind.LINK, body), error)
    yield case(
        "tree_records", "link-to-itself", ROUND + _raw(RecordKind.LINK, b"\0\1\0\1ff"), MalformedError, "own target"
    )
    yield case(
        "tree_records",
        "link-over-what-it-links-to",
        ROUND + _raw(RecordKind.LINK, b"\0\1\0\3ff/f"),
        MalformedError,
        "own target",
    )


def records() -> Iterator[Case]:
    """Records whose fields make no sense."""
    opened = entry(b"f", size=10)
    for name, data, error, says in (
        ("kind-0", b"\0\0\0\0\0", MalformedError, "kind 0"),
        ("record-of-4-gib", b"\2\xff\xff\xff\xff", LimitError, "at most"),
        ("type-unknown", _raw_entry(kind=9), MalformedError, "type 9"),
        ("flags-unknown", _raw_entry(flags=0x80), MalformedError, "flags"),
        ("mode-with-a-type", _raw_entry(mode=0o100644), MalformedError, "permission bits"),
        ("owner-that-means-unchanged", _raw_entry(uid=2**32 - 1), MalformedError, "out of range"),
        ("group-that-means-unchanged", _raw_entry(gid=2**32 - 1), MalformedError, "out of range"),
        ("size-of-8-eib", _raw_entry(size=1 << 63), LimitError, "file of"),
        ("size-of-minus-one", _raw_entry(size=2**64 - 1), LimitError, "file of"),
        ("directory-with-a-size", _raw_entry(kind=2, size=1), MalformedError, "no size"),
        ("device-0-0", _raw_entry(kind=6), MalformedError, "device number"),
        ("fifo-that-is-not-fresh", _raw_entry(kind=4, flags=0), MalformedError, "not fresh"),
        ("link-without-text", _raw_entry(kind=3), MalformedError, "link target"),
        ("file-with-link-text", _raw(RecordKind.ENTRY, _fields(link_length=1) + b"fx"), MalformedError, "link target"),
        ("path-longer-than-the-record", _raw(RecordKind.ENTRY, _fields(path_length=9) + b"f"), TruncatedError, "names"),
        (
            "attribute-longer-than-the-record",
            _raw(RecordKind.ENTRY, _fields(xattrs=1) + b"f\5\xff\xff\xff\xff"),
            TruncatedError,
            "attribute",
        ),
        (
            "attributes-that-are-not-there",
            _raw(RecordKind.ENTRY, _fields(xattrs=256) + b"f"),
            TruncatedError,
            "attributes",
        ),
        ("attributes-too-many", _raw(RecordKind.ENTRY, _fields(xattrs=257) + b"f"), LimitError, "attributes"),
        ("bytes-behind-an-entry", _raw(RecordKind.ENTRY, _fields() + b"fx"), MalformedError, "after the end"),
        ("content-without-a-file", content(0, b"x"), MalformedError, "the open file takes"),
        ("content-beyond-the-size", opened + content(9, b"xx"), MalformedError, "the open file takes"),
        (
            "content-that-overlaps",
            opened + content(0, b"12345") + content(4, b"x"),
            MalformedError,
            "the open file takes",
        ),
        ("content-of-nothing", opened + _raw(RecordKind.CONTENT, bytes(8)), TruncatedError, "carries nothing"),
        (
            "content-of-a-directory",
            entry(b"d", EntryType.DIRECTORY) + content(0, b"x"),
            MalformedError,
            "the open file takes",
        ),
        (
            "hole-that-overlaps",
            opened + content(0, b"12345") + encode_hole(4, 2),
            MalformedError,
            "the open file takes",
        ),
        ("hole-of-8-eib", opened + _raw(RecordKind.HOLE, struct.pack(">QQ", 0, 1 << 63)), LimitError, "range ends"),
        ("hole-that-wraps", opened + _raw(RecordKind.HOLE, b"\xff" * 16), LimitError, "range ends"),
        ("hole-of-nothing", opened + _raw(RecordKind.HOLE, bytes(16)), MalformedError, "range of 0"),
        ("ends-inside-a-record", opened[:-1], TruncatedError, "into a record"),
    ):
        yield case("tree_records", name, ROUND + data, error, says)
    for name, attribute in (
        ("overlay-redirect", b"trusted.overlay.redirect"), ("overlay-opaque", b"user.overlay.opaque"),
        ("selinux", b"security.selinux"), ("empty", b""), ("prefix-alone", b"user."), ("nul", b"user.a\0"),
    ):  # fmt: skip
        body = _fields(xattrs=1) + b"f" + struct.pack(">BI", len(attribute), 1) + attribute + b"y"
        yield case(
            "tree_records", f"attribute-{name}", ROUND + _raw(RecordKind.ENTRY, body), MalformedError, "does not travel"
        )
    twice = (struct.pack(">BI", 6, 1) + b"user.ay") * 2
    yield case(
        "tree_records",
        "attribute-twice",
        ROUND + _raw(RecordKind.ENTRY, _fields(xattrs=2) + b"f" + twice),
        MalformedError,
        "occurs twice",
    )


def trees() -> Iterator[Case]:
    """Rounds that try to get out of their tree, or to take more than is theirs. ``out``, ``up`` are links out of it."""
    loop = entry(b"l1", EntryType.SYMLINK, link_target=b"l2") + entry(b"l2", EntryType.SYMLINK, link_target=b"l1")
    device = entry(b"n", EntryType.BLOCK_DEVICE, device=(8, 0))
    for name, data, error, says in (
        ("write-through-a-link", entry(b"out/file", size=4) + content(0, b"dead"), TreeRefusedError, "not a directory"),
        (
            "write-through-a-link-made-before",
            entry(b"l", EntryType.SYMLINK, link_target=b"/") + entry(b"l/etc", size=1),
            TreeRefusedError,
            "not a directory",
        ),
        ("write-through-a-loop", loop + entry(b"l1/x"), TreeRefusedError, "not a directory"),
        ("update-a-file-through-a-link", entry(b"file-out", fresh=False, size=4), TreeDivergedError, "not there"),
        (
            "make-a-directory-through-a-link",
            entry(b"up/canary/d", EntryType.DIRECTORY),
            TreeRefusedError,
            "not a directory",
        ),
        ("link-to-a-file-through-a-link", encode_link(b"x", b"out/file"), TreeRefusedError, "not a directory"),
        ("link-from-beyond-a-link", encode_link(b"out/x", b"a/f"), TreeRefusedError, "not a directory"),
        ("link-to-nothing", encode_link(b"x", b"gone"), TreeDivergedError, "not there"),
        ("link-to-a-directory", encode_link(b"x", b"a"), TreeRefusedError, "directory"),
        ("remove-through-a-link", encode_remove(b"out/file"), TreeRefusedError, "not a directory"),
        ("below-a-file", entry(b"a/f/x"), TreeRefusedError, "not a directory"),
        ("below-nothing", entry(b"gone/x"), TreeDivergedError, "not there"),
        ("block-device", device, TreeRefusedError, "device"),
        ("character-device", entry(b"n", EntryType.CHAR_DEVICE, device=(1, 1)), TreeRefusedError, "device"),
        (
            "more-content-than-granted",
            entry(b"f", size=5 << 18) + b"".join(content(at << 18, bytes(1 << 18)) for at in range(5)),
            TreeQuotaError,
            "room",
        ),
        ("file-larger-than-the-file-system-takes", entry(b"f", size=1 << 44) + entry(b"gone/x"), TreeApplyError, ""),
    ):
        yield case("tree_apply", name, APPLIED + data, error, says, kept=len(data) < 4096)
    for name, data in (
        ("remove-a-link", encode_remove(b"out")),
        ("replace-a-link", entry(b"out", EntryType.DIRECTORY) + entry(b"out/file", size=1) + content(0, b"x")),
        ("a-link-that-stays-a-link", entry(b"l", EntryType.SYMLINK, link_target=b"../../../../etc/passwd", mode=0o777)),
        ("empty-the-root", entry(b"", EntryType.DIRECTORY, mode=0o755)),
        ("whiteout-of-another-format", entry(b".wh.a") + entry(b".wh..wh..opq") + entry(b".wh.")),
        ("whiteout-of-dot-dot", entry(b".wh...")),
        ("fifo-and-socket", entry(b"p", EntryType.FIFO) + entry(b"s", EntryType.SOCKET)),
        ("setuid", entry(b"x", mode=0o6755)),
        ("owner-as-high-as-it-gets", entry(b"x", uid=2**32 - 2, gid=2**32 - 2)),
        ("time-as-far-as-it-gets", entry(b"x", mtime_ns=(1 << 63) - 1) + entry(b"y", mtime_ns=-(1 << 63))),
        ("256-deep", b"".join(entry(b"d/" * depth + b"d", EntryType.DIRECTORY) for depth in range(256))),
    ):  # fmt: skip
        yield case("tree_apply", name, APPLIED + data, None)
    yield case("tree_apply", "link-to-a-device", WITH_DEVICES + device + encode_link(b"m", b"n"), None)
    largest = entry(b"n", EntryType.CHAR_DEVICE, device=(2**32 - 1, 2**32 - 1))
    yield case(
        "tree_apply",
        "device-numbers-as-high-as-they-get",
        WITH_DEVICES + largest,
        TreeRefusedError,
        "Linux does not have",
    )


def _with(offset: int, field: bytes, *, name: str = "f", size: int = 0) -> bytes:
    block = bytearray(encode_header(name, size))
    block[offset : offset + len(field)] = field
    return resealed(bytes(block))


def tars() -> Iterator[Case]:
    """Archives."""
    whole = tar_entry("f", b"content")
    for name, data, says in (
        ("empty", b"", "ends early"),
        ("cut-inside-a-header", whole[:100], "ends early"),
        ("cut-inside-content", whole[:515], "in the middle of a file"),
        ("gzip", gzip.compress(whole, mtime=0) + bytes(512), "checksum"),
        ("checksum-wrong", b"X" + whole[1:] + END_OF_ARCHIVE, "checksum"),
        ("size-negative", _with(124, b"\xff" * 12) + END_OF_ARCHIVE, "negative"),
        ("size-of-95-bits", _with(124, b"\xbf" + b"\xff" * 11) + END_OF_ARCHIVE, "too large"),
        ("size-of-octal-junk", _with(124, b"0000000x\0") + END_OF_ARCHIVE, "octal"),
        ("size-of-digits-that-are-not-octal", _with(124, b"00000000098\0") + END_OF_ARCHIVE, "octal"),
        ("size-of-8-eib", _with(124, b"\x80\0\0\0\x7f" + b"\xff" * 7) + END_OF_ARCHIVE, "at most 4096"),
        ("extended-header-of-1-gb", tar_entry("x", b"", b"x", size=1 << 30), "extended header"),
        ("long-name-of-1-gb", tar_entry("x", b"", b"L", size=1 << 30), "extended header"),
        ("extended-header-of-junk", tar_entry("x", b"junk", b"x") + END_OF_ARCHIVE, "broken"),
        ("extended-record-of-length-0", tar_entry("x", b"0 a=b\n", b"x") + END_OF_ARCHIVE, "broken"),
        ("extended-record-too-long", tar_entry("x", b"99 a=b\n", b"x") + END_OF_ARCHIVE, "broken"),
        ("extended-size-of-junk", tar_entry("x", b"10 size=-\n", b"x") + END_OF_ARCHIVE, "not a number"),
        (
            "extended-size-in-other-digits",
            tar_entry("x", "11 size=²\n".encode(), b"x") + END_OF_ARCHIVE,
            "not a number",
        ),
    ):
        yield case("archive", name, ROUND + data, ImageError, says)
    for name, data in (
        ("old-kind-after-a-long-name", tar_entry("x", b"a" * 200, b"L") + tar_entry("f/", b"content", b"\0")),
        ("size-in-pax-against-header", tar_entry("x", b"10 size=7\n", b"x") + tar_entry("f", b"content", size=5)),
        ("directories-alone", b"".join(tar_entry(f"d{number}/", b"", b"5") for number in range(8))),
    ):
        yield case("archive", name, ROUND + data + END_OF_ARCHIVE, None)
    yield case("archive", "endless-padding", ROUND + whole + bytes(4 << 20), None, kept=False)
    yield case("archive", "many-empty-files", ROUND + encode_header("f", 0) * 20_000 + END_OF_ARCHIVE, None, kept=False)


def documents() -> Iterator[Case]:
    """Documents of images: configuration (0), manifest (1), index (2)."""
    deep = b'{"a":' + b"[" * 100_000
    for name, data, error, says in (
        ("not-json", b"\0{", MalformedError, "not JSON"),
        ("a-list", b"\0[]", MalformedError, "not a JSON object"),
        ("utf-16", b"\0" + CONFIG.decode().encode("utf-16"), MalformedError, "not JSON"),
        ("key-twice", b'\0{"rootfs":1,"rootfs":{}}', MalformedError, "twice"),
        ("key-in-another-case", b'\0{"rootFS":{}}', MalformedError, "another way"),
        ("digest-too-short", b'\0{"rootfs":{"diff_ids":["sha256:ab"]}}', MalformedError, "not a SHA-256"),
        (
            "digest-with-a-path",
            b'\0{"rootfs":{"diff_ids":["sha256:../../../etc/passwd"]}}',
            MalformedError,
            "not a SHA-256",
        ),
        ("number-of-5000-digits", b'\0{"rootfs":' + b"9" * 5000 + b"}", MalformedError, "not JSON"),
        ("manifest-of-another-type", b'\1{"mediaType":"text/html"}', MalformedError, "media type"),
        (
            "foreign-layer",
            b"\1" + MANIFEST.replace(b"layer.v1.tar", b"layer.nondistributable.v1.tar"),
            MalformedError,
            "cannot be moved",
        ),
        ("size-negative", b"\1" + MANIFEST.replace(b'"size":21', b'"size":-1'), MalformedError, "negative"),
        ("size-of-16-eib", b"\1" + MANIFEST.replace(b'"size":21', b'"size":18446744073709551615'), LimitError, "over"),
        ("size-is-a-float", b"\1" + MANIFEST.replace(b'"size":21', b'"size":21.0'), MalformedError, "whole number"),
        ("index-without-manifests", b"\2{}", MalformedError, "must be a list"),
    ):
        yield case("image_document", name, data, error, says)
    yield case("image_document", "nested-too-deep", b"\0" + deep, LimitError, "deep", kept=False)
    many = b'\0{"a":[' + b"[]," * 200_000 + b"1]}"
    yield case("image_document", "too-many-lists", many, LimitError, "lists and objects", kept=False)
    layers = json.dumps({"rootfs": {"diff_ids": [digest(b"")] * 100_000}}).encode()
    yield case("image_document", "100000-layers", b"\0" + layers, LimitError, "", kept=False)


def blobs() -> Iterator[Case]:
    """Layers that come twice, or are others than announced. See :func:`fuzz.targets.images.run_layer_blob`."""
    whole = b"\1" + bytes([len(LAYER)]) + LAYER
    for name, data, error, says in (
        ("another-content", b"\0\1\4junk\2", IntegrityError, "not what the digest says"),
        ("too-long", b"\0" + whole + whole, IntegrityError, "longer"),
        ("nothing", b"\0\2", IntegrityError, "not what the digest says"),
        ("twice-at-once", b"\0\0", UnexpectedError, "twice"),
        ("twice", b"\0" + whole + b"\2\0", UnexpectedError, "twice"),
        ("more-after-its-end", b"\0" + whole + b"\2\1\1x", UnexpectedError, "ended already"),
        ("committed-after-it-was-dropped", b"\0" + whole + b"\3\2", UnexpectedError, "ended already"),
        ("a-path", b"\4\x0b../../layer", UnexpectedError, "does not have"),
    ):
        yield case("layer_blob", name, data, error, says)


CASES = [*paths(), *records(), *trees(), *tars(), *documents(), *blobs()]
