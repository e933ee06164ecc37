"""Memory: page batches, the page store, the images of CRIU that the target looks into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fuzz.target import Target, packed, unpacked
from fuzz.targets.scratch import scratch
from streamhop.content.memory import PageStore
from streamhop.content.memory.criu_mm import ranges_without_parent
from streamhop.content.memory.criu_pagemap import PRESENT, PagemapEntry, encode_pagemap, entries
from streamhop.content.memory.protobuf import fields, varint
from streamhop_protocol.errors import MalformedError
from streamhop_protocol.page_batches import LIKE, PAGE_SIZES, RAW, XOR, ZERO, PageRun, decode_meta, encode_meta
from streamhop_protocol.wirepack import pack, unpack

PAGE = 4096
QUOTA_BYTES = 64 * PAGE
FILLS_MAX = 32


def run_page_batch(data: bytes) -> None:
    """First byte: page size; second: pages of data; the rest describes them."""
    page_size = (*PAGE_SIZES, 12345)[data[0] % 4 if data else 0]
    pages = data[1] if len(data) > 1 else 0
    decoded = decode_meta(unpack(data[2:]), pages * page_size, page_size)
    assert decoded.data_pages == pages


def run_page_image(data: bytes) -> None:
    """``{"b": [[meta, pages of data], ...], "f": {name: content, ...}}``: batches, then files, then the image."""
    case = unpacked(data)
    if not isinstance(case, dict) or not isinstance(case.get("b"), list) or not isinstance(case.get("f"), dict):
        return
    with scratch() as directory:
        store = PageStore(directory / "pages", PAGE, quota_bytes=QUOTA_BYTES, index_bytes_max=1 << 20)
        try:
            for batch in case["b"]:
                if isinstance(batch, list) and len(batch) == 2 and type(batch[1]) is int:
                    store.apply(batch[0], b"\x5a" * (max(0, min(batch[1], FILLS_MAX)) * PAGE))
            files = directory / "files"
            files.mkdir()
            for name, content in case["f"].items():
                if isinstance(content, bytes):
                    (files / store.check_file_name(name)).write_bytes(content)
            store.begin_final()
            store.assemble(directory / "image", files)
        finally:
            store.discard()


def run_pagemap(data: bytes) -> None:
    """A pagemap image: what is taken is what CRIU would write again."""
    found = list(entries(data, PAGE))
    assert list(entries(encode_pagemap(1, found, PAGE), PAGE)) == found


def run_mm(data: bytes) -> None:
    """An mm image; before that the same bytes as a bare protobuf message."""
    with contextlib.suppress(MalformedError):
        list(fields(data))
    ranges = ranges_without_parent(data)
    assert all(start < end for start, end in ranges)
    assert ranges == sorted(ranges)


def mm_image(*mappings: tuple[int, int, int]) -> bytes:
    """An mm image with mappings of (start, end, flags)."""
    body = b""
    for mapping in mappings:
        record = b"".join(varint(key << 3) + varint(value) for key, value in zip((1, 2, 6), mapping, strict=True))
        body += varint(14 << 3 | 2) + varint(len(record)) + record
    return b"\x19\x43\x56\x54\x20\x28\x49\x57" + len(body).to_bytes(4, "little") + body


def _batch_seeds() -> Iterator[bytes]:
    yield bytes([0, 2]) + pack(encode_meta("pagemap-1", [PageRun(5, 2, RAW), PageRun(9, 100, ZERO)]))
    yield bytes([0, 3]) + pack(encode_meta("pagemap-1", [PageRun(5, 1, RAW), PageRun(6, 1, XOR), PageRun(9, 1, XOR)]))
    yield bytes([1, 1]) + pack(encode_meta("pagemap-shmem-77", [PageRun(0, 1, RAW)]))


HUGE = 0x40000


def image_case(batches: list[list[object]], files: dict[str, bytes]) -> bytes:
    """An input of :func:`run_page_image`."""
    return packed({"b": batches, "f": files})


def _image_seeds() -> Iterator[bytes]:
    held: list[list[object]] = [[encode_meta("pagemap-1", [PageRun(16, 3, RAW), PageRun(40, 8, ZERO)]), 3]]
    pagemap = encode_pagemap(1, [PagemapEntry(16, 3, PRESENT), PagemapEntry(40, 8, PRESENT)], PAGE)
    yield image_case(held, {"pagemap-1.img": pagemap, "inventory.img": b"x", "descriptors.json": b"[]"})
    held[0:0] = [[encode_meta("pagemap-1", [PageRun(16, 1, RAW), PageRun(17, 1, ZERO)]), 1]]
    held += [[encode_meta("pagemap-1", [PageRun(16, 2, XOR)]), 2]]
    yield image_case(held, {"pagemap-1.img": pagemap})
    held += [[encode_meta("pagemap-2", [PageRun(16, 3, LIKE)], "pagemap-1"), 0]]
    yield image_case(
        held, {"pagemap-1.img": pagemap, "pagemap-2.img": encode_pagemap(2, [PagemapEntry(16, 3, PRESENT)], PAGE)}
    )
    mm = mm_image((16 * PAGE, 18 * PAGE, HUGE), (41 * PAGE, 43 * PAGE, HUGE))
    yield image_case(held, {"pagemap-1.img": pagemap, "mm-1.img": mm})


def _pagemap_seeds() -> Iterator[bytes]:
    yield encode_pagemap(1, [PagemapEntry(16, 3, PRESENT), PagemapEntry(40, 8, PRESENT)], PAGE)


def _mm_seeds() -> Iterator[bytes]:
    yield mm_image((0x1000, 0x5000, HUGE), (0x9000, 0xA000, 0), (0x10000, 0x20000, HUGE))


TARGETS = {
    "page_batch": Target(run_page_batch, _batch_seeds),
    "page_image": Target(run_page_image, _image_seeds),
    "pagemap": Target(run_pagemap, _pagemap_seeds),
    "mm": Target(run_mm, _mm_seeds),
}
