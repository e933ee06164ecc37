"""Layers out of an archive that comes in small pieces: those wanted, whole or an error, and little in memory."""

from __future__ import annotations

import tarfile
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from image_layers_support import FakeEngine, SampleImage, digest, layer_tar, pieces, tar_of

from streamhop.content.image_layers import (
    ImageDescription,
    ImageError,
    ImageStoreError,
    LayerDescription,
    describe,
    held_layers,
    read_layers,
)
from streamhop.content.image_layers.archive import CHUNK_BYTES_MAX, ArchiveReader
from streamhop.content.image_layers.tar_headers import END_OF_ARCHIVE, encode_header, padding
from streamhop.engine.docker import NotFound

LAYERS = [layer_tar("base", b"1" * 5000), layer_tar("app", b"2" * 700), layer_tar("conf", b"3")]
SAMPLE = SampleImage(LAYERS, names=("web:1",))


async def collected(engine: FakeEngine, image: ImageDescription, wanted: frozenset[str]) -> dict[str, bytes]:
    """Everything that is read, by digest."""
    return {
        found: b"".join([piece async for piece in content])
        async for found, content in read_layers(engine, image, wanted)
    }


async def entries(content: bytes, piece_bytes: int = 100) -> dict[str, bytes]:
    """All files of an archive."""
    reader = ArchiveReader(pieces(content, piece_bytes))
    found = {}
    while (entry := await reader.next_entry()) is not None:
        found[entry.name] = await reader.read(1 << 20)
    return found


@pytest.mark.parametrize("piece_bytes", [1, 511, 512, 513, 1 << 20])
async def test_the_wanted_layers_are_read_and_no_other(piece_bytes: int) -> None:
    engine = FakeEngine(piece_bytes=piece_bytes)
    engine.add(SAMPLE)
    wanted = frozenset({digest(LAYERS[0]), digest(LAYERS[2])})
    assert await collected(engine, SAMPLE.classic(), wanted) == {
        digest(LAYERS[0]): LAYERS[0],
        digest(LAYERS[2]): LAYERS[2],
    }
    assert engine.saves_open == 0


async def test_layers_are_skipped_that_are_not_read_to_their_end() -> None:
    engine = FakeEngine(piece_bytes=300)
    engine.add(SAMPLE)
    heads = []
    async for found, content in read_layers(engine, SAMPLE.classic(), frozenset(SAMPLE.blobs)):
        heads.append((found, await anext(content)))
    assert [found for found, _ in heads] == [digest(layer) for layer in LAYERS]
    assert all(SAMPLE.blobs[found].startswith(head) and head for found, head in heads)


async def test_nothing_is_asked_of_the_engine_if_nothing_is_wanted() -> None:
    engine = FakeEngine()
    assert await collected(engine, SAMPLE.classic(), frozenset()) == {}
    assert await collected(engine, SAMPLE.classic(), frozenset({"sha256:" + "0" * 64})) == {}
    assert engine.saved_bytes == 0


async def test_reading_ends_with_the_last_wanted_layer() -> None:
    engine = FakeEngine(piece_bytes=512)
    image_id = engine.add(SAMPLE)
    assert await collected(engine, SAMPLE.classic(), frozenset({digest(LAYERS[0])}))
    assert engine.saved_bytes < len(engine.archives[image_id]) / 2
    assert engine.saves_open == 0


async def test_a_reader_that_stops_early_lets_the_engine_go() -> None:
    engine = FakeEngine(piece_bytes=64)
    engine.add(SAMPLE)
    layers = read_layers(engine, SAMPLE.classic(), frozenset(SAMPLE.blobs))
    await anext(layers)
    assert engine.saves_open == 1
    await layers.aclose()
    assert engine.saves_open == 0


async def test_a_layer_that_the_archive_lacks_is_an_error() -> None:
    engine = FakeEngine()
    image_id = engine.add(SAMPLE)
    engine.archives[image_id] = SAMPLE.archive(without=frozenset({digest(LAYERS[1])}))
    with pytest.raises(ImageError, match="lacks layer"):
        await collected(engine, SAMPLE.classic(), frozenset(SAMPLE.blobs))


async def test_a_layer_of_another_size_is_an_error() -> None:
    engine = FakeEngine()
    image_id = engine.add(SAMPLE)
    wrong = {f"blobs/sha256/{digest(LAYERS[1])[7:]}": LAYERS[1] + b"x"}
    engine.archives[image_id] = tar_of(wrong)
    with pytest.raises(ImageError, match="bytes now instead of"):
        await collected(engine, SAMPLE.classic(), frozenset({digest(LAYERS[1])}))


async def test_an_archive_cut_anywhere_never_gives_a_short_layer() -> None:
    small = SampleImage([layer_tar("a"), layer_tar("b")])
    small.layers[:] = [b"first layer", b"second" * 100]
    small.config = SampleImage(small.layers).config
    engine = FakeEngine(piece_bytes=1000)
    image_id = engine.add(small)
    whole = engine.archives[image_id]
    last = digest(small.layers[1])
    needed = whole.index(small.layers[1]) + len(small.layers[1])
    for length in range(0, needed, 7):
        engine.archives[image_id] = whole[:length]
        with pytest.raises(ImageError):
            await collected(engine, small.classic(), frozenset({last}))
    engine.archives[image_id] = whole[:needed]
    assert await collected(engine, small.classic(), frozenset({last})) == {last: small.layers[1]}


async def test_an_archive_cut_anywhere_is_no_end() -> None:
    whole = encode_header("a", 3) + b"abc" + bytes(padding(3)) + encode_header("b", 0) + END_OF_ARCHIVE
    assert await entries(whole) == {"a": b"abc", "b": b""}
    for length in range(len(whole) - len(END_OF_ARCHIVE) // 2):
        with pytest.raises(ImageError):
            await entries(whole[:length])


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
async def test_long_names_are_read_and_belong_to_one_file_only(tar_format: int) -> None:
    files = {"d/" * 90 + "long": b"1", "short": b"2", "\u00e9" * 120: b"3"}
    assert await entries(tar_of(files, tar_format)) == files


async def test_directories_and_links_are_passed_over() -> None:
    archive = encode_header("blobs/", 0, directory=True) + encode_header("a", 1) + b"x" + bytes(511) + END_OF_ARCHIVE
    assert await entries(archive) == {"a": b"x"}


async def test_what_follows_the_end_is_read_and_ignored() -> None:
    engine = FakeEngine()
    whole = tar_of({"a": b"1"})
    chunks = pieces(whole + bytes(20_000), 1000)
    reader = ArchiveReader(chunks)
    assert await reader.next_entry() is not None
    assert await reader.next_entry() is None
    assert await anext(chunks, None) is None
    assert engine.saves_open == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"HTTP/1.1 500 Internal Server Error\r\n" * 20,
        b"\xff" * 2048,
        encode_header("a", (1 << 63) - 1) + b"abc",
        encode_header("a", 1 << 62) + bytes(4096),
    ],
    ids=["empty", "text", "ones", "8 EiB", "4 EiB"],
)
async def test_what_is_no_archive_is_an_error(content: bytes) -> None:
    with pytest.raises(ImageError):
        await entries(content)


def _extension(kind: bytes, size: int, content: bytes) -> bytes:
    block = bytearray(encode_header("x", size))
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(padding(len(content)))


@pytest.mark.parametrize("kind", [b"x", b"L"])
async def test_an_extended_header_of_a_gigabyte_is_refused_at_once(kind: bytes) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield _extension(kind, 1 << 30, b"")
        while True:
            taken += 1
            yield bytes(65536)

    with pytest.raises(ImageError):
        await ArchiveReader(endless()).next_entry()
    assert taken == 0


@pytest.mark.parametrize(
    "records", [b"12 size=-12\n", b"13 size=0x12\n", b"12 size=1e3\n", b"30 size=" + b"9" * 21 + b"\n", b"junk"]
)
async def test_extended_headers_that_are_none_are_refused(records: bytes) -> None:
    with pytest.raises(ImageError):
        await entries(_extension(b"x", len(records), records) + encode_header("a", 0) + END_OF_ARCHIVE)


async def test_a_document_over_its_limit_is_not_read() -> None:
    reader = ArchiveReader(pieces(tar_of({"a": bytes(1001)}), 512))
    assert await reader.next_entry() is not None
    with pytest.raises(ImageError):
        await reader.read(1000)


async def test_memory_stays_bounded_whatever_the_layers_size() -> None:
    size, chunk = 48 << 20, bytes(1 << 20)
    blob = LayerDescription("sha256:" + "1" * 64, "sha256:" + "1" * 64, size)
    image = ImageDescription("sha256:" + "2" * 64, "classic", (), (blob,), b"")

    class Huge(FakeEngine):
        async def save_image(self, reference: str) -> AsyncIterator[bytes]:
            yield encode_header("blobs/sha256/" + "3" * 64, size)
            for _ in range(size >> 20):
                yield chunk
            yield encode_header("blobs/sha256/" + "1" * 64, size)
            for _ in range(size >> 20):
                yield chunk
            yield END_OF_ARCHIVE

    total = 0
    tracemalloc.start()
    try:
        async for _, content in read_layers(Huge(), image, frozenset({blob.digest})):
            async for piece in content:
                total += len(piece)
                assert len(piece) <= CHUNK_BYTES_MAX
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == size
    assert peak < 4 << 20


@pytest.mark.parametrize("store", ["classic", "containerd"])
async def test_an_image_is_described_from_its_archive(store: str) -> None:
    engine = FakeEngine(store=store, piece_bytes=333)
    image_id = engine.add(SAMPLE, "web:1")
    expected = SAMPLE.classic() if store == "classic" else SAMPLE.containerd()
    assert await describe(engine, image_id) == expected
    assert ImageDescription.from_wire(expected.to_wire()) == expected
    with pytest.raises(NotFound):
        await describe(engine, "sha256:" + "0" * 64)


@pytest.mark.parametrize("store", ["classic", "containerd"])
async def test_an_image_that_lacks_a_layer_or_a_document_cannot_be_described(store: str) -> None:
    for lost in (LAYERS[1], SAMPLE.config):
        engine = FakeEngine(store=store)
        image_id = engine.add(SAMPLE)
        engine.archives[image_id] = SAMPLE.archive(without=frozenset({digest(lost)}))
        with pytest.raises(ImageError):
            await describe(engine, image_id)


async def test_names_that_would_be_refused_elsewhere_do_not_travel() -> None:
    engine = FakeEngine()
    image_id = engine.add(SAMPLE, "web:1", "<none>:<none>")
    assert (await describe(engine, image_id)).names == ("web:1",)


@pytest.mark.parametrize("store", ["classic", "containerd"])
async def test_layers_are_held_that_another_image_has(store: str) -> None:
    engine = FakeEngine(store=store)
    image = SAMPLE.classic() if store == "classic" else SAMPLE.containerd()
    assert await held_layers(engine, image) == frozenset()
    engine.add(SampleImage([LAYERS[0], layer_tar("else")]))
    assert await held_layers(engine, image) == {digest(LAYERS[0])}
    engine.add(SAMPLE)
    assert await held_layers(engine, image) == set(SAMPLE.blobs)


async def test_a_classic_store_holds_a_layer_only_above_the_same_layers() -> None:
    engine = FakeEngine()
    engine.add(SampleImage([LAYERS[1], LAYERS[0]]))
    assert await held_layers(engine, SAMPLE.classic()) == frozenset()
    engine.add(SampleImage(LAYERS[:2]))
    # Layer 0 is here as the lowest, but not as the third.
    twice = SampleImage([*LAYERS[:2], LAYERS[0]]).classic()
    assert await held_layers(engine, twice) == {digest(LAYERS[1])}


async def test_another_kind_of_store_is_refused_unless_another_id_will_do() -> None:
    engine = FakeEngine(store="containerd")
    with pytest.raises(ImageStoreError, match="image store"):
        await held_layers(engine, SAMPLE.classic())
    engine.add(SampleImage([LAYERS[0]]))
    assert await held_layers(engine, SAMPLE.classic(), other_id=True) == {digest(LAYERS[0])}
