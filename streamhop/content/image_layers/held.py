"""At the target: which of an image's layers are here already, so that they need not come?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from streamhop.engine.docker import Engine, NotFound

from .describe import describe
from .description import ImageDescription, LayerDescription, Store
from .documents import Descriptor, parse_manifest
from .errors import ImageError, ImageStoreError
from .local_store import store_of

LocalImages = Mapping[str, tuple[str, ...]]
"""Diff IDs by image ID."""


async def held_layers(engine: Engine, image: ImageDescription, *, other_id: bool = False) -> frozenset[str]:
    """Digests of those of the image's layers that this engine can take from the images it has.

    :param other_id: whether the image may get another ID here, as it must where source and target have different
        kinds of image store.
    :raises ImageStoreError: the image would get another ID, and ``other_id`` is not set.
    :raises EngineError: Docker does not answer.
    """
    store = store_of(await engine.info())
    if store != image.store and not other_id:
        raise ImageStoreError(
            f"the source's Docker has the {image.store} image store and this one the {store} store, "
            "where the same image has another ID: set the same store in the daemon.json of both"
        )
    if store == "classic":
        return _held_in_chain(image, (await local_images(engine, image.diff_ids)).values())
    blobs = await held_blobs(engine, image)
    return frozenset(layer.digest for layer in image.layers if identity(layer, image.store) in blobs)


def identity(layer: LayerDescription, source: Store) -> str:
    """What a layer must be equal in to be taken from another image on a containerd store.

    The manifest of an image from a containerd store names blobs, and another compression of the same layer is another
    blob. For an image from a classic store the manifest is made here, from whichever blobs there are.
    """
    return layer.digest if source == "containerd" else layer.diff_id


def _held_in_chain(image: ImageDescription, local: Collection[Sequence[str]]) -> frozenset[str]:
    held = max((_common(layers, image.diff_ids) for layers in local), default=0)
    # The classic store knows a layer only together with all below it: one that occurs again higher up has to come.
    above = {layer.digest for layer in image.layers[held:]}
    return frozenset(layer.digest for layer in image.layers[:held]) - above


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for mine, yours in zip(one, other, strict=False):
        if mine != yours:
            break
        count += 1
    return count


async def local_images(engine: Engine, diff_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The engine's images that have any of the layers ``diff_ids``.

    :raises EngineError: Docker does not answer.
    """
    wanted = set(diff_ids)
    found = {}
    for row in await engine.images():
        try:
            inspected = await engine.inspect_image(row["Id"])
        except NotFound:
            continue
        layers = tuple((inspected.get("RootFS") or {}).get("Layers") or ())
        if wanted.intersection(layers):
            found[str(inspected["Id"])] = layers
    return found


async def held_blobs(engine: Engine, image: ImageDescription) -> dict[str, Descriptor]:
    """Blobs of a containerd store that can serve as layers of ``image``, by what :func:`identity` says.

    :raises EngineError: Docker does not answer.
    """
    candidates = await local_images(engine, image.diff_ids)
    missing = {identity(layer, image.store) for layer in image.layers}
    blobs: dict[str, Descriptor] = {}
    # Those that share the most first: often the first has everything, and each may cost a whole `docker save`.
    for image_id in sorted(candidates, key=lambda key: -len(set(candidates[key]).intersection(image.diff_ids))):
        if not missing:
            break
        try:
            local = await describe(engine, image_id)
        except (NotFound, ImageError):
            continue
        descriptors = parse_manifest(local.manifest).layers
        for layer, descriptor in zip(local.layers, descriptors, strict=True):
            key = identity(layer, image.store)
            if key in missing:
                missing.discard(key)
                blobs[key] = descriptor
    return blobs
