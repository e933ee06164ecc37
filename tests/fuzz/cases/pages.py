"""Pages: batches, images of CRIU, and the rounds and stages that bring them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from fuzz.cases.case import Case, case
from fuzz.target import packed
from fuzz.targets.images import LAYER, digest
from fuzz.targets.memory import HUGE, PAGE, image_case, mm_image
from fuzz.targets.streams import stream
from fuzz.targets.trees import entry
from streamhop.content.memory.criu_pagemap import IN_PARENT, LAZY, PRESENT, PagemapEntry, encode_pagemap
from streamhop_protocol.errors import IntegrityError, LimitError, MalformedError, UnexpectedError
from streamhop_protocol.messages import StreamKind
from streamhop_protocol.page_batches import RAW, ZERO, PageRun, encode_meta
from streamhop_protocol.wirepack import pack


def _batch(value: object, *, pages: int = 1, page_size: int = 0) -> bytes:
    return bytes([page_size, pages]) + pack(value)


def _runs(*runs: list[object]) -> dict[str, object]:
    return {"o": "pagemap-1", "r": list(runs)}


def batches() -> Iterator[Case]:
    """Descriptions of batches."""
    for name, value, error, says in (
        ("not-a-map", [1], MalformedError, "not a map"),
        ("a-key-more", {**_runs([0, 1, RAW]), "x": 1}, MalformedError, "exactly o and r"),
        ("no-runs", {"o": "pagemap-1", "r": []}, MalformedError, "not a list"),
        ("run-of-two-numbers", _runs([0, 1]), MalformedError, "three integers"),
        ("run-of-bools", _runs([False, True, RAW]), MalformedError, "three integers"),
        ("run-of-floats", _runs([0.0, 1.0, RAW]), MalformedError, "three integers"),
        ("no-pages", _runs([5, 0, RAW]), MalformedError, "has no pages"),
        ("minus-one-page", _runs([5, -1, RAW]), MalformedError, "has no pages"),
        ("negative-address", _runs([-1, 1, RAW]), MalformedError, "out of order"),
        ("overlap", _runs([5, 2, ZERO], [6, 1, RAW]), MalformedError, "overlaps"),
        ("out-of-order", _runs([9, 1, RAW], [5, 1, ZERO]), MalformedError, "overlaps"),
        ("wraps", _runs([(1 << 64) - 1, 1, RAW]), LimitError, "address space"),
        ("beyond-the-address-space", _runs([1 << 45, 1, RAW]), LimitError, "address space"),
        ("too-many-zeros", _runs([0, (1 << 18) + 1, ZERO]), LimitError, "zero pages"),
        ("kind-unknown", _runs([0, 1, 4]), MalformedError, "kind"),
        ("fewer-pages-than-data", _runs([0, 1, ZERO]), MalformedError, "announces"),
        ("more-pages-than-data", _runs([0, 2, RAW]), MalformedError, "announces"),
        ("object-outside", {"o": "../pagemap-1", "r": [[0, 1, RAW]]}, MalformedError, "memory object"),
        ("object-with-nul", {"o": "pagemap-1\0", "r": [[0, 1, RAW]]}, MalformedError, "memory object"),
        ("object-with-newline", {"o": "pagemap-1\n", "r": [[0, 1, RAW]]}, MalformedError, "memory object"),
        ("object-is-bytes", {"o": b"pagemap-1", "r": [[0, 1, RAW]]}, MalformedError, "memory object"),
    ):
        yield case("page_batch", name, _batch(value), error, says)
    yield case(
        "page_batch", "page-size-of-no-linux", _batch(_runs([0, 1, RAW]), page_size=3), MalformedError, "page size"
    )
    many = _runs(*([2 * number, 1, ZERO] for number in range(2049)))
    yield case("page_batch", "too-many-runs", _batch(many, pages=0), LimitError, "runs", kept=False)


def _records(*records: bytes) -> bytes:
    magic = encode_pagemap(1, [], PAGE)
    return magic + b"".join(struct.pack("<I", len(record)) + record for record in records)


def _entry(address: bytes, pages: bytes = b"\x28\x01", flags: bytes = b"\x20\x04") -> bytes:
    return b"\x08" + address + b"\x10\x00" + flags + pages


def pagemaps() -> Iterator[Case]:
    """Pagemap and mm images."""
    one = PagemapEntry(16, 3, PRESENT)
    for name, data, error, says in (
        ("empty", b"", MalformedError, "not a pagemap"),
        ("magic-alone", encode_pagemap(1, [], PAGE)[:8], MalformedError, "ends inside"),
        ("cut-off", encode_pagemap(1, [one], PAGE)[:-1], MalformedError, "ends inside"),
        ("unaligned", _records(_entry(b"\x81\x20")), MalformedError, "not aligned"),
        ("no-pages", _records(_entry(b"\x80\x20", b"\x28\x00")), MalformedError, "no pages"),
        ("overlap", encode_pagemap(1, [one, PagemapEntry(18, 1, PRESENT)], PAGE), MalformedError, "overlaps"),
        (
            "beyond-the-address-space",
            encode_pagemap(1, [PagemapEntry(1 << 46, 1, PRESENT)], PAGE),
            LimitError,
            "beyond",
        ),
        (
            "as-many-pages-as-64-bits-hold",
            encode_pagemap(1, [PagemapEntry(1, 2**64 - 1, PRESENT)], PAGE),
            LimitError,
            "beyond",
        ),
        ("in-a-parent", encode_pagemap(1, [PagemapEntry(1, 1, IN_PARENT)], PAGE), MalformedError, "of its own"),
        ("lazy-and-absent", encode_pagemap(1, [PagemapEntry(1, 1, LAZY)], PAGE), MalformedError, "of its own"),
        ("flags-unknown", encode_pagemap(1, [PagemapEntry(1, 1, PRESENT | 8)], PAGE), MalformedError, "of its own"),
        ("field-twice", _records(_entry(b"\x80\x20") + b"\x28\x01"), MalformedError, "not one number"),
        ("number-of-80-bits", _records(b"\x08" + b"\xff" * 11 + b"\x01"), MalformedError, "too large"),
        ("record-of-4-gib", encode_pagemap(1, [], PAGE) + b"\xff\xff\xff\xff", MalformedError, "record of"),
    ):
        yield case("pagemap", name, data, error, says)
    for name, data, says in (
        ("empty", b"", "not an mm image"),
        ("a-lying-size", mm_image((0x1000, 0x2000, HUGE)) + b"x", "exactly one record"),
        ("a-field-longer-than-all", mm_image()[:8] + b"\3\0\0\0\x72\x7f\x01", "ends inside"),
        ("group", mm_image()[:8] + b"\1\0\0\0\x73", "wire type"),
    ):
        yield case("mm", name, data, MalformedError, says)


_HELD: list[list[object]] = [[encode_meta("pagemap-1", [PageRun(16, 3, RAW)]), 3]]


def images() -> Iterator[Case]:
    """A whole image."""

    def pagemap(*items: PagemapEntry) -> dict[str, bytes]:
        return {"pagemap-1.img": encode_pagemap(1, items, PAGE)}

    all_three = pagemap(PagemapEntry(16, 3, PRESENT))
    for name, held, files, error, says in (
        ("page-that-never-arrived", _HELD, pagemap(PagemapEntry(16, 4, PRESENT)), IntegrityError, "never arrived"),
        ("object-that-never-arrived", _HELD, {"pagemap-2.img": all_three["pagemap-1.img"]}, IntegrityError, "no page"),
        ("name-outside", _HELD, {"../escaped.img": b""}, MalformedError, "may not be a file"),
        ("name-absolute", _HELD, {"/tmp/escaped.img": b""}, MalformedError, "may not be a file"),
        ("name-with-nul", _HELD, {"core-1\0.img": b""}, MalformedError, "may not be a file"),
        ("name-of-a-pages-file", _HELD, {"pages-1.img": b""}, MalformedError, "may not be a file"),
        ("name-of-the-parent-link", _HELD, {"parent": b""}, MalformedError, "may not be a file"),
        ("name-of-criu-s-options", _HELD, {"criu.conf": b""}, MalformedError, "may not be a file"),
        (
            "beyond-its-quota",
            [[encode_meta("pagemap-1", [PageRun(32 * at, 32, RAW)]), 32] for at in range(3)],
            {},
            LimitError,
            "bytes of memory",
        ),
        (
            "a-page-in-every-segment",
            [[encode_meta("pagemap-1", [PageRun(at << 31, 1, ZERO) for at in range(40)]), 0]],
            {},
            LimitError,
            "scattered",
        ),
    ):
        yield case("page_image", name, image_case(held, files), error, says)
    yield case("page_image", "no-core-and-no-mm", image_case(_HELD, all_three), None)


def stages() -> Iterator[Case]:
    """Rounds and parts of the final stage, in an order or of a content that no source has."""
    batch: list[object] = [encode_meta("pagemap-1", [PageRun(16, 1, RAW)]), bytes(PAGE)]
    memory = stream(StreamKind.MEMORY, [batch])
    final = stream(StreamKind.FINAL, [batch], part="pages")
    tree: list[list[object]] = [[None, entry(b"f")]]
    layer = stream(StreamKind.LAYER, [[None, LAYER]], digest=digest(LAYER))

    def files(*pieces: list[object]) -> list[object]:
        return stream(StreamKind.FINAL, list(pieces), part="files")

    for name, streams, error, says in (
        ("memory-after-the-final-stage", [final, memory], UnexpectedError, "after the final stage"),
        ("final-pages-twice", [final, final], UnexpectedError, "twice"),
        ("final-part-unknown", [stream(StreamKind.FINAL, [], part="all")], UnexpectedError, "unknown part"),
        ("final-part-is-a-list", [stream(StreamKind.FINAL, [], part=["pages"])], UnexpectedError, "unknown part"),
        ("layer-not-asked-for", [stream(StreamKind.LAYER, [], digest=digest(b""))], UnexpectedError, "not asked for"),
        ("layer-is-a-path", [stream(StreamKind.LAYER, [], digest="../../layer")], UnexpectedError, "not asked for"),
        ("layer-twice", [layer, layer], UnexpectedError, "not asked for"),
        (
            "layer-cut-short",
            [stream(StreamKind.LAYER, [[None, LAYER[:-1]]], digest=digest(LAYER))],
            IntegrityError,
            "not what the digest says",
        ),
        (
            "layer-too-long",
            [stream(StreamKind.LAYER, [[None, LAYER + b"x"]], digest=digest(LAYER))],
            IntegrityError,
            "longer",
        ),
        (
            "layer-with-a-flipped-bit",
            [stream(StreamKind.LAYER, [[None, b"X" + LAYER[1:]]], digest=digest(LAYER))],
            IntegrityError,
            "not what the digest says",
        ),
        (
            "tree-not-announced",
            [stream(StreamKind.TREE, tree, tree="mount:/dev/shm")],
            UnexpectedError,
            "not announced",
        ),
        ("tree-is-a-path", [stream(StreamKind.TREE, tree, tree="mount:/etc")], UnexpectedError, "not announced"),
        ("tree-is-a-list", [stream(StreamKind.TREE, tree, tree=["rootfs"])], UnexpectedError, "not announced"),
        (
            "tree-of-another-digest",
            [[*stream(StreamKind.TREE, tree, tree="rootfs")[:3], {"digest": bytes(32)}]],
            IntegrityError,
            "not those that were sent",
        ),
        (
            "tree-beyond-its-quota",
            [stream(StreamKind.TREE, [[None, bytes(65 * PAGE)]], tree="rootfs")],
            LimitError,
            "bytes of files",
        ),
        (
            "file-piece-out-of-order",
            [files([{"name": "core-1.img", "offset": 5}, b"x"])],
            UnexpectedError,
            "out of order",
        ),
        (
            "file-piece-twice",
            [files(*[[{"name": "core-1.img", "offset": 0}, b"x"]] * 2)],
            UnexpectedError,
            "out of order",
        ),
        (
            "file-offset-is-a-bool",
            [files([{"name": "core-1.img", "offset": False}, b"x"])],
            UnexpectedError,
            "out of order",
        ),
        (
            "file-offset-is-a-float",
            [files([{"name": "core-1.img", "offset": 0.0}, b"x"])],
            UnexpectedError,
            "out of order",
        ),
        ("file-without-a-name", [files([None, b"x"])], MalformedError, "may not be a file"),
        ("file-outside", [files([{"name": "../core-1.img", "offset": 0}, b"x"])], MalformedError, "may not be a file"),
    ):
        yield case("receiving", name, packed(streams), error, says)
    yield case(
        "receiving",
        "files-twice",
        packed([files([{"name": "a.img", "offset": 0}, b"x"])] * 2),
        UnexpectedError,
        "came twice",
    )


CASES = [*batches(), *pagemaps(), *images(), *stages()]
