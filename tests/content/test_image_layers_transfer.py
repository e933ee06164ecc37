"""Images on their way: described, read, collected, loaded. The engine is one in memory."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from image_store_support import Built, FakeEngine, layer_tar, sha256

from streamhop.content.image_layers import (
    ImageAssembler,
    ImageDescription,
    ImageError,
    ImageStoreError,
    describe,
    held_layers,
    read_layers,
    remove_brought,
)
from streamhop.content.image_layers.archive import CHUNK_BYTES_MAX
from streamhop.engine.docker import EngineError, NotFound

BASE, APP, TOP = layer_tar("base", 50_000), layer_tar("app"), layer_tar("top")
STORES = ("classic", "containerd")


def base(store: str, **options: Any) -> Built:
    return Built(store, [BASE], **options)


def app(store: str, **options: Any) -> Built:
    return Built(store, [BASE, APP, TOP], **options)


def engine(store: str, tmp_path: Path, *images: Built) -> Any:
    return FakeEngine(store, tmp_path / "docker", *images)


async def move(source: Any, target: Any, image_id: str, spool: Path, **options: Any) -> tuple[ImageAssembler, str]:
    """All that a move does with an image."""
    image = ImageDescription.from_wire((await describe(source, image_id)).to_wire())
    held = await held_layers(target, image, **options)
    wanted = frozenset(layer.digest for layer in image.layers) - held
    assembler = ImageAssembler(spool, image)
    async for digest, content in read_layers(source, image, wanted):
        writer = assembler.blob_writer(digest)
        async for piece in content:
            writer.write(piece)
        writer.commit()
    return assembler, await assembler.load(target)


@pytest.mark.parametrize(
    ("store", "kind"),
    [
        ("classic", {}),
        ("containerd", {}),
        ("containerd", {"compressed": True}),
        ("containerd", {"compressed": True, "with_index": True}),
    ],
)
async def test_an_image_is_described_from_what_docker_saves(store: str, kind: dict[str, Any], tmp_path: Path) -> None:
    source = engine(store, tmp_path)
    image = source.add(app(store, **kind), "app:1", "reg:5000/app:2")
    described = await describe(source, "app:1")
    assert described == image.description(("app:1", "reg:5000/app:2"))


async def test_classic_documents_are_read_from_the_engines_files_without_a_save(tmp_path: Path) -> None:
    source = engine("classic", tmp_path)
    image = source.add(app("classic"), "app:1")
    images = source.root / "image" / "overlay2"
    config = images / "imagedb" / "content" / "sha256" / image.id[7:]
    config.parent.mkdir(parents=True)
    config.write_bytes(image.config)
    chain = ""
    for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
        chain = sha256(f"{chain} {diff_id}".encode()) if chain else diff_id
        directory = images / "layerdb" / "sha256" / chain[7:]
        directory.mkdir(parents=True)
        # As tar-split writes it: a header as it is, a file by its size, the rest as it is.
        body = len(layer) - 1024
        lines = f'{{"type":2,"payload":"{"QUFB" * 341}QQ=="}}\n{{"type":1,"name":"f","size":{body},"payload":"x"}}\n'
        assert 341 * 3 + 1 == 1024
        (directory / "tar-split.json.gz").write_bytes(gzip.compress(lines.encode()))
    assert await describe(source, "app:1") == image.description(("app:1",))
    assert source.saves == 0
    config.write_bytes(b"{}")
    assert await describe(source, "app:1") == image.description(("app:1",))
    assert source.saves == 1, "a file that is not what its name says is no shortcut"


async def test_containerd_documents_are_read_from_the_content_store_if_all_layers_are_there(tmp_path: Path) -> None:
    source = engine("containerd", tmp_path)
    image = source.add(app("containerd", with_index=True))
    content = source.root / "containerd/daemon/io.containerd.content.v1.content/blobs/sha256"
    content.mkdir(parents=True)
    for blob in (*image.documents.values(), *image.blobs):
        (content / sha256(blob)[7:]).write_bytes(blob)
    assert await describe(source, image.id) == image.description()
    assert source.saves == 0
    (content / image.digests[1][7:]).unlink()
    await describe(source, image.id)
    assert source.saves == 1


async def test_an_image_with_a_layer_missing_from_the_store_is_not_described(tmp_path: Path) -> None:
    source = engine("containerd", tmp_path)
    image = source.add(app("containerd"))
    del source.blobs[image.digests[1]]
    with pytest.raises(ImageError, match="not in the engine's store"):
        await describe(source, image.id)


@pytest.mark.parametrize("store", STORES)
async def test_only_the_layers_above_a_shared_base_are_sent(store: str, tmp_path: Path) -> None:
    source, target = engine(store, tmp_path), engine(store, tmp_path, base(store))
    image = source.add(app(store), "app:1", "app:latest")
    assembler, loaded = await move(source, target, "app:1", tmp_path / "spool")
    assert loaded == image.id
    assert target.loads[0].isdisjoint({sha256(BASE)})
    assert target.loads[0] >= {sha256(APP), sha256(TOP)}
    assert (assembler.loaded, tuple(assembler.brought), assembler.names_kept) == (True, ("app:1", "app:latest"), ())
    assert target.names == {"app:1": image.id, "app:latest": image.id}
    assembler.discard()
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("store", STORES)
async def test_everything_is_sent_where_nothing_is_shared(store: str, tmp_path: Path) -> None:
    source, target = engine(store, tmp_path), engine(store, tmp_path, Built(store, [TOP]))
    image = source.add(Built(store, [BASE, APP]))
    _, loaded = await move(source, target, image.id, tmp_path / "spool")
    assert loaded == image.id
    assert target.loads[0] >= {sha256(BASE), sha256(APP)}
    assert target.names == {}


@pytest.mark.parametrize("store", STORES)
async def test_an_image_that_is_there_is_not_loaded(store: str, tmp_path: Path) -> None:
    source, target = engine(store, tmp_path), engine(store, tmp_path)
    source.add(app(store), "app:1")
    image = target.add(app(store), "app:1")
    assembler, loaded = await move(source, target, "app:1", tmp_path / "spool")
    assert (loaded, assembler.loaded, assembler.brought, target.loads) == (image.id, False, {}, [])


async def test_a_classic_layer_counts_only_on_top_of_the_same_layers(tmp_path: Path) -> None:
    image = Built("classic", [BASE, APP, TOP]).description()
    other_order = engine("classic", tmp_path, Built("classic", [APP, BASE, TOP]))
    assert await held_layers(other_order, image) == frozenset()
    first_two = engine("classic", tmp_path, Built("classic", [BASE, APP, BASE]), Built("classic", [BASE]))
    assert await held_layers(first_two, image) == {sha256(BASE), sha256(APP)}


@pytest.mark.parametrize("store", STORES)
async def test_a_layer_that_occurs_twice_is_sent_if_it_is_lacking_once(store: str, tmp_path: Path) -> None:
    source, target = engine(store, tmp_path), engine(store, tmp_path, base(store))
    image = source.add(Built(store, [BASE, APP, BASE]))
    _, loaded = await move(source, target, image.id, tmp_path / "spool")
    assert loaded == image.id
    assert (sha256(BASE) in target.loads[0]) == (store == "classic")


async def test_another_compression_of_a_layer_is_another_blob(tmp_path: Path) -> None:
    target = engine("containerd", tmp_path, base("containerd", compressed=True))
    assert await held_layers(target, app("containerd").description()) == frozenset()
    compressed = app("containerd", compressed=True)
    assert await held_layers(target, compressed.description()) == {compressed.digests[0]}


@pytest.mark.parametrize(("here", "there"), [STORES, STORES[::-1]])
async def test_other_kinds_of_store_are_refused_unless_another_id_will_do(
    here: str, there: str, tmp_path: Path
) -> None:
    source, target = engine(here, tmp_path), engine(there, tmp_path)
    image = source.add(app(here), "app:1")
    target.add(base(there, compressed=there == "containerd"))
    with pytest.raises(ImageStoreError, match="has another ID"):
        await held_layers(target, await describe(source, "app:1"))
    _, loaded = await move(source, target, "app:1", tmp_path / "spool", other_id=True)
    assert loaded != image.id
    assert loaded == target.names["app:1"]
    assert target.images_by_id[loaded].config == image.config
    assert target.images_by_id[loaded].layers == image.layers
    assert sha256(BASE) not in target.loads[0]


@pytest.mark.parametrize("store", STORES)
async def test_a_name_of_another_image_is_never_taken(store: str, tmp_path: Path) -> None:
    source, target = engine(store, tmp_path), engine(store, tmp_path)
    image = source.add(app(store), "app:1", "app:2")
    other = target.add(base(store), "app:1")
    assembler, _ = await move(source, target, image.id, tmp_path / "spool")
    assert target.names == {"app:1": other.id, "app:2": image.id}
    assert (tuple(assembler.brought), assembler.names_kept) == (("app:2",), ("app:1",))
    await assembler.undo(target)
    await assembler.undo(target)
    assert (set(target.images_by_id), target.names) == ({other.id}, {"app:1": other.id})


@pytest.mark.parametrize("store", STORES)
async def test_undo_of_an_image_without_names_removes_it_by_id(store: str, tmp_path: Path) -> None:
    source, target = engine(store, tmp_path), engine(store, tmp_path)
    image = source.add(app(store))
    assembler, _ = await move(source, target, image.id, tmp_path / "spool")
    assert assembler.brought == {image.id: image.id}
    await assembler.undo(target)
    assert target.images_by_id == {}


async def test_undo_leaves_an_image_that_was_here(tmp_path: Path) -> None:
    source, target = engine("classic", tmp_path), engine("classic", tmp_path)
    image = source.add(app("classic"), "app:1", "app:2")
    target.add(app("classic"), "app:1")
    assembler, _ = await move(source, target, image.id, tmp_path / "spool")
    assert (assembler.loaded, tuple(assembler.brought)) == (False, ("app:2",))
    await assembler.undo(target)
    assert target.names == {"app:1": image.id}


@pytest.mark.parametrize("store", STORES)
async def test_a_load_that_lacks_a_layer_fails_and_leaves_nothing(store: str, tmp_path: Path) -> None:
    target = engine(store, tmp_path)
    assembler = ImageAssembler(tmp_path / "spool", app(store).description(("app:1",)))
    with pytest.raises(EngineError, match=r"not found|no such file"):
        await assembler.load(target)
    assert (target.images_by_id, target.names, assembler.brought) == ({}, {}, {})


@pytest.mark.parametrize("store", STORES)
async def test_what_a_load_is_going_to_bring_is_known_before(store: str, tmp_path: Path) -> None:
    """P16: simulator seed 57. A daemon that ends in the middle of a load knows afterwards what to take away."""
    source, target = engine(store, tmp_path), engine(store, tmp_path)
    image = source.add(app(store), "app:1")
    (tmp_path / "plan").mkdir()
    assembler = ImageAssembler(tmp_path / "plan" / "spool", await describe(source, image.id))
    expected = await assembler.would_bring(target)
    loaded, _ = await move(source, target, "app:1", tmp_path / "spool")
    assert loaded.brought.items() <= expected.items()
    assert await assembler.would_bring(target) == {}
    await remove_brought(target, expected)
    assert (target.images_by_id, target.names) == ({}, {})


async def test_a_failure_after_the_load_takes_the_image_away_again(tmp_path: Path) -> None:
    source, target = engine("classic", tmp_path), engine("classic", tmp_path)
    source.add(app("classic"), "app:1")
    target.tag_error = EngineError("out of names")
    with pytest.raises(EngineError, match="out of names"):
        await move(source, target, "app:1", tmp_path / "spool")
    assert target.images_by_id == {}


async def test_layers_are_read_in_bounded_pieces_and_one_may_be_left_unread(tmp_path: Path) -> None:
    big = layer_tar("big", 2_500_000)
    source = engine("classic", tmp_path, Built("classic", [big, APP, TOP]))
    source.chunk_bytes = 700_000
    (image,) = source.images_by_id.values()
    wanted = frozenset({sha256(big), sha256(APP)})
    got = {}
    async for digest, content in read_layers(source, image.description(), wanted):
        if digest == sha256(big):
            got[digest] = [await anext(content)]
        else:
            got[digest] = [piece async for piece in content]
    assert got.keys() == wanted
    assert b"".join(got[sha256(APP)]) == APP
    assert len(got[sha256(big)][0]) == CHUNK_BYTES_MAX
    whole = [p async for _, c in read_layers(source, image.description(), frozenset({sha256(big)})) async for p in c]
    assert b"".join(whole) == big
    assert [len(piece) for piece in whole[:-1]] == [CHUNK_BYTES_MAX] * 2


async def test_a_layer_that_is_gone_or_changed_at_the_source_is_an_error(tmp_path: Path) -> None:
    source = engine("containerd", tmp_path, app("containerd"))
    image = app("containerd").description()
    wanted = frozenset(layer.digest for layer in image.layers)
    del source.blobs[sha256(TOP)]
    with pytest.raises(ImageError, match="was it removed"):
        [digest async for digest, _ in read_layers(source, image, wanted)]
    with pytest.raises(NotFound):
        [digest async for digest, _ in read_layers(engine("containerd", tmp_path), image, wanted)]
