"""Layers on their way into an engine: verified, complete or gone, and no name of another image touched."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from image_layers_support import FakeEngine, SampleImage, digest, layer_tar

from streamhop.content.image_layers import ImageAssembler, ImageDescription, ImageError
from streamhop.engine.docker import EngineError
from streamhop_protocol.errors import IntegrityError, UnexpectedError

LAYERS = [layer_tar("base", b"1" * 5000), layer_tar("app", b"2" * 700), layer_tar("conf", b"3")]
SAMPLE = SampleImage(LAYERS, names=("web:1", "team/web:stable"))
OTHER = SampleImage([layer_tar("another")])


def bring(assembler: ImageAssembler, *layers: bytes, piece_bytes: int = 1000) -> None:
    """Hand over the content of layers."""
    for layer in layers:
        writer = assembler.blob_writer(digest(layer))
        for start in range(0, len(layer), piece_bytes):
            writer.write(memoryview(layer)[start : start + piece_bytes])
        writer.commit()


def blobs_of(files: dict[str, bytes]) -> set[str]:
    """Digests of the layers in an archive that was loaded."""
    return {f"sha256:{name[13:]}" for name in files if name.startswith("blobs/sha256/")} & set(SAMPLE.blobs)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Where the layers go; its parent exists, it does not."""
    return tmp_path / "image"


@pytest.fixture
def assembler(spool: Path) -> ImageAssembler:
    """For the sample as a classic store has it."""
    return ImageAssembler(spool, SAMPLE.classic())


def test_a_layer_is_kept_under_its_digest_for_root_alone(assembler: ImageAssembler, spool: Path) -> None:
    bring(assembler, LAYERS[0])
    (blob,) = spool.iterdir()
    assert blob.read_bytes() == LAYERS[0]
    assert (spool.stat().st_mode & 0o777, blob.stat().st_mode & 0o777) == (0o700, 0o600)
    assembler.discard()
    assembler.discard()
    assert not spool.exists()


@pytest.mark.parametrize("position", [0, 600, 1023])
def test_a_flipped_bit_anywhere_leaves_nothing(assembler: ImageAssembler, spool: Path, position: int) -> None:
    spoilt = bytearray(LAYERS[1])
    spoilt[position] ^= 1
    writer = assembler.blob_writer(digest(LAYERS[1]))
    writer.write(bytes(spoilt))
    with pytest.raises(IntegrityError):
        writer.commit()
    assert list(spool.iterdir()) == []
    bring(assembler, LAYERS[1])


@pytest.mark.parametrize("length", [0, 1, len(LAYERS[1]) - 1])
def test_a_layer_cut_short_leaves_nothing(assembler: ImageAssembler, spool: Path, length: int) -> None:
    writer = assembler.blob_writer(digest(LAYERS[1]))
    writer.write(LAYERS[1][:length])
    with pytest.raises(IntegrityError):
        writer.commit()
    assert list(spool.iterdir()) == []


def test_a_layer_longer_than_announced_is_stopped_at_once(assembler: ImageAssembler, spool: Path) -> None:
    writer = assembler.blob_writer(digest(LAYERS[1]))
    writer.write(LAYERS[1])
    with pytest.raises(IntegrityError):
        writer.write(b"x")
    assert list(spool.iterdir()) == []
    for use in (writer.commit, lambda: writer.write(b"")):
        with pytest.raises(UnexpectedError):
            use()


def test_the_right_content_under_a_lying_size_is_refused(spool: Path) -> None:
    value = SAMPLE.classic().to_wire()
    value["layers"][1]["size"] += 1
    assembler = ImageAssembler(spool, ImageDescription.from_wire(value))
    writer = assembler.blob_writer(digest(LAYERS[1]))
    writer.write(LAYERS[1])
    with pytest.raises(IntegrityError):
        writer.commit()
    assert list(spool.iterdir()) == []


def test_a_layer_that_was_dropped_may_come_again(assembler: ImageAssembler, spool: Path) -> None:
    writer = assembler.blob_writer(digest(LAYERS[0]))
    writer.write(b"half")
    writer.abort()
    writer.abort()
    assert list(spool.iterdir()) == []
    bring(assembler, LAYERS[0])
    writer.abort()
    assert len(list(spool.iterdir())) == 1


def test_layers_that_were_not_announced_or_come_twice_are_refused(assembler: ImageAssembler, spool: Path) -> None:
    for stranger in (digest(b"x"), "", "sha256:../../etc/passwd", "../x"):
        with pytest.raises(UnexpectedError):
            assembler.blob_writer(stranger)
    first = assembler.blob_writer(digest(LAYERS[0]))
    with pytest.raises(UnexpectedError, match="twice"):
        assembler.blob_writer(digest(LAYERS[0]))
    first.write(LAYERS[0])
    first.commit()
    with pytest.raises(UnexpectedError, match="twice"):
        assembler.blob_writer(digest(LAYERS[0]))
    assert [path.name for path in spool.iterdir()] == [digest(LAYERS[0])[7:]]


def test_a_full_disk_leaves_nothing(assembler: ImageAssembler, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = assembler.blob_writer(digest(LAYERS[0]))

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            writer.write(LAYERS[0])
    assert list(spool.iterdir()) == []


def test_a_link_put_in_the_way_is_not_followed(assembler: ImageAssembler, spool: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"untouched")
    (spool / digest(LAYERS[0])[7:]).with_suffix(".partial").symlink_to(canary)
    with pytest.raises(OSError, match="symbolic"):
        assembler.blob_writer(digest(LAYERS[0]))
    assert canary.read_bytes() == b"untouched"


IMAGES = {
    "classic": SAMPLE.classic(),
    "containerd": SAMPLE.containerd(),
    "index": SAMPLE.containerd(indexed=True),
}


@pytest.mark.parametrize("kind", IMAGES)
async def test_a_whole_image_is_loaded_with_its_id_and_names(spool: Path, kind: str) -> None:
    image = IMAGES[kind]
    engine = FakeEngine(store=image.store)
    assembler = ImageAssembler(spool, image)
    assert (assembler.loaded, assembler.brought) == (False, {})
    bring(assembler, *LAYERS)
    assert await assembler.load(engine) == image.id
    assert assembler.loaded
    assert engine.known == {image.id: image.diff_ids}
    assert engine.tags == dict.fromkeys(SAMPLE.names, image.id)
    assert (tuple(assembler.brought), assembler.names_kept) == (SAMPLE.names, ())
    await assembler.undo(engine)
    assert (engine.known, engine.tags) == ({}, {})
    await assembler.undo(engine)


@pytest.mark.parametrize(("source", "target"), [("classic", "containerd"), ("containerd", "classic")])
async def test_another_kind_of_store_gives_the_image_its_own_id(spool: Path, source: str, target: str) -> None:
    engine = FakeEngine(store=target)
    assembler = ImageAssembler(spool, IMAGES[source])
    bring(assembler, *LAYERS)
    assert await assembler.load(engine) == IMAGES[target].id
    assert assembler.loaded


async def test_a_classic_store_gets_only_the_layers_that_came(assembler: ImageAssembler) -> None:
    engine = FakeEngine()
    base = engine.add(SampleImage(LAYERS[:2]), "base:1")
    bring(assembler, LAYERS[2])
    image_id = await assembler.load(engine)
    assert blobs_of(engine.loads[0]) == {digest(LAYERS[2])}
    assert engine.known[image_id] == SAMPLE.classic().diff_ids
    await assembler.undo(engine)
    assert (list(engine.known), engine.tags) == ([base], {"base:1": base})


async def test_a_layer_that_is_neither_here_nor_came_is_an_error_without_residue(assembler: ImageAssembler) -> None:
    engine = FakeEngine()
    bring(assembler, LAYERS[0], LAYERS[2])
    with pytest.raises(EngineError):
        await assembler.load(engine)
    assert (engine.known, engine.tags, assembler.loaded) == ({}, {}, False)


@pytest.mark.parametrize("kind", IMAGES)
async def test_an_image_that_is_here_is_not_loaded(spool: Path, kind: str) -> None:
    image = IMAGES[kind]
    engine = FakeEngine(store=image.store)
    engine.known[image.id] = image.diff_ids
    engine.tags["web:1"] = image.id
    assembler = ImageAssembler(spool, image)
    assert await assembler.load(engine) == image.id
    assert (assembler.loaded, engine.loads) == (False, [])
    assert tuple(assembler.brought) == ("team/web:stable",)
    await assembler.undo(engine)
    assert (engine.tags, list(engine.known)) == ({"web:1": image.id}, [image.id])


async def test_a_name_of_another_image_is_never_touched(assembler: ImageAssembler) -> None:
    engine = FakeEngine()
    other = engine.add(OTHER, "web:1")
    bring(assembler, *LAYERS)
    image_id = await assembler.load(engine)
    assert engine.tags == {"web:1": other, "team/web:stable": image_id}
    assert (assembler.names_kept, tuple(assembler.brought)) == (("web:1",), ("team/web:stable",))
    await assembler.undo(engine)
    assert (engine.tags, list(engine.known)) == ({"web:1": other}, [other])


async def test_an_image_whose_names_are_all_taken_is_undone_by_its_id(assembler: ImageAssembler) -> None:
    engine = FakeEngine()
    other = engine.add(OTHER, *SAMPLE.names)
    bring(assembler, *LAYERS)
    image_id = await assembler.load(engine)
    assert assembler.brought == {image_id: image_id}
    await assembler.undo(engine)
    assert list(engine.known) == [other]


async def test_a_name_that_was_given_to_another_image_since_is_not_taken_from_it(assembler: ImageAssembler) -> None:
    engine = FakeEngine()
    bring(assembler, *LAYERS)
    await assembler.load(engine)
    other = engine.add(OTHER, "web:1")
    await assembler.undo(engine)
    assert (engine.tags, list(engine.known)) == ({"web:1": other}, [other])


async def test_an_image_in_use_stays(assembler: ImageAssembler) -> None:
    engine = FakeEngine()
    bring(assembler, *LAYERS)
    image_id = await assembler.load(engine)
    engine.in_use.add(image_id)
    await assembler.undo(engine)
    assert image_id in engine.known


async def test_a_name_that_the_engine_refuses_leaves_no_residue(assembler: ImageAssembler) -> None:
    engine = FakeEngine(refuse_tags=True)
    bring(assembler, *LAYERS)
    with pytest.raises(EngineError):
        await assembler.load(engine)
    assert (engine.known, engine.tags) == ({}, {})


async def test_an_engine_that_makes_something_else_of_it_is_an_error(assembler: ImageAssembler) -> None:
    engine = FakeEngine(load_as="sha256:" + "9" * 64)
    bring(assembler, *LAYERS)
    with pytest.raises(ImageError, match="does not have it"):
        await assembler.load(engine)
    assert not assembler.loaded


async def test_a_complaint_beside_a_success_is_an_error(assembler: ImageAssembler) -> None:
    engine = FakeEngine(load_complaint="layer not found")
    bring(assembler, *LAYERS)
    with pytest.raises(ImageError, match="could not be loaded"):
        await assembler.load(engine)
    assert not assembler.loaded


async def test_an_image_with_the_right_id_and_other_layers_is_not_taken_for_it(assembler: ImageAssembler) -> None:
    engine = FakeEngine()
    engine.known[SAMPLE.classic().id] = ("sha256:" + "1" * 64,)
    bring(assembler, *LAYERS)
    await assembler.load(engine)
    assert len(engine.loads) == 1
    assert engine.known[SAMPLE.classic().id] == SAMPLE.classic().diff_ids


async def test_an_image_that_is_listed_but_lacks_layers_is_completed_and_is_not_ours(spool: Path) -> None:
    image = SAMPLE.containerd()
    engine = FakeEngine(store="containerd")
    engine.known[image.id] = image.diff_ids
    assembler = ImageAssembler(spool, image)
    bring(assembler, LAYERS[1])
    await assembler.load(engine)
    assert blobs_of(engine.loads[0]) == {digest(LAYERS[1])}
    assert not assembler.loaded
